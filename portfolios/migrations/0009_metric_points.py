"""Metrics of strategies, partitioned by seq like equity points.

The upkeep attaches partitions; until then rows go into the default one. The table is new and empty.
"""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration

CREATE = """
CREATE SEQUENCE portfolios_metricpoint_number AS bigint;
CREATE TABLE portfolios_metricpoint (
    id bigint NOT NULL DEFAULT nextval('portfolios_metricpoint_number'),
    portfolio_id bigint NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    name varchar(64) NOT NULL,
    value double precision NOT NULL,
    CONSTRAINT metric_point_once UNIQUE (portfolio_id, seq, name)
) PARTITION BY RANGE (seq);
ALTER SEQUENCE portfolios_metricpoint_number OWNED BY portfolios_metricpoint.id;
CREATE TABLE portfolios_metricpoint_default PARTITION OF portfolios_metricpoint DEFAULT;
"""


class Migration(PatientMigration):
    dependencies = [("portfolios", "0008_order_kinds")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(CREATE, "DROP TABLE portfolios_metricpoint")],
            state_operations=[
                migrations.CreateModel(
                    name="MetricPoint",
                    fields=[
                        (
                            "id",
                            models.BigAutoField(
                                auto_created=True,
                                primary_key=True,
                                serialize=False,
                                verbose_name="ID",
                            ),
                        ),
                        ("seq", models.BigIntegerField()),
                        ("at", models.DateTimeField()),
                        ("name", models.CharField(max_length=64)),
                        ("value", models.FloatField()),
                        (
                            "portfolio",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.CASCADE,
                                related_name="metric_points",
                                to="portfolios.portfolio",
                            ),
                        ),
                    ],
                    options={
                        "ordering": ["portfolio_id", "seq", "name"],
                        "constraints": [
                            models.UniqueConstraint(
                                fields=("portfolio", "seq", "name"), name="metric_point_once"
                            )
                        ],
                    },
                )
            ],
        )
    ]
