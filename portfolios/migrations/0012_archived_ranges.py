"""Which rows of which portfolio are archived. A new table, filled from the partitions there are."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration

#: Until now the lowest partition said so, for all portfolios together. What a portfolio still has
#: below it, as one of a feed that is behind, was not archived.
FILL = """
INSERT INTO portfolios_archivedrange (portfolio_id, kind, from_seq, to_seq)
SELECT p.id, '{table}', p.first_seq, least(k.seq, s.seq) - 1
FROM portfolios_portfolio p
CROSS JOIN (SELECT min(CASE WHEN position('(MINVALUE)' IN b.bound) > 0 THEN 0
                       ELSE substring(b.bound FROM 'FROM [^0-9]*([0-9]+)')::bigint END) AS seq
            FROM pg_inherits i
            CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound
                                FROM pg_class c WHERE c.oid = i.inhrelid) b
            WHERE i.inhparent = '{table}'::regclass AND NOT i.inhdetachpending) k
CROSS JOIN LATERAL (SELECT min(t.{seq}) AS seq FROM {table} t WHERE t.portfolio_id = p.id) s
WHERE least(k.seq, s.seq) > p.first_seq AND k.seq > p.first_seq
"""
TABLES = (
    ("portfolios_order", "seq"),
    ("portfolios_fill", "fill_seq"),
    ("portfolios_equitypoint", "seq"),
)


class Migration(PatientMigration):
    dependencies = [("portfolios", "0011_recorded_feeds")]

    operations = [
        migrations.CreateModel(
            name="ArchivedRange",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "portfolio",
                        "kind",
                        "from_seq",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("kind", models.CharField(max_length=40)),
                ("from_seq", models.BigIntegerField()),
                ("to_seq", models.BigIntegerField()),
                (
                    "portfolio",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="portfolios.portfolio",
                    ),
                ),
            ],
        ),
        *(
            migrations.RunSQL(FILL.format(table=table, seq=seq), migrations.RunSQL.noop)
            for table, seq in TABLES
        ),
    ]
