"""The lines that portfolio processes printed: two new tables, no lock on those in use."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [
        ("portfolios", "0005_plain_names"),
        ("scheduling", "0022_unverified_claims"),
    ]

    operations = [
        migrations.CreateModel(
            name="PortfolioLog",
            fields=[
                (
                    "portfolio",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="log",
                        serialize=False,
                        to="portfolios.portfolio",
                    ),
                ),
                (
                    "last_no",
                    models.BigIntegerField(help_text="Number of the newest line; the first is 1."),
                ),
                (
                    "total_bytes",
                    models.BigIntegerField(help_text="Bytes of all lines ever written."),
                ),
                (
                    "lost",
                    models.BigIntegerField(help_text="How many lines were printed and lost, ever."),
                ),
                ("batch", models.UUIDField(help_text="UUID of the last accepted batch.")),
                ("at", models.DateTimeField(help_text="When the newest line was written.")),
            ],
        ),
        migrations.CreateModel(
            name="LogLine",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "portfolio_id",
                        "no",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("no", models.BigIntegerField()),
                (
                    "at",
                    models.DateTimeField(
                        help_text="When the node read the line, by the database's clock."
                    ),
                ),
                ("node", models.CharField(max_length=80)),
                ("revision", models.PositiveIntegerField()),
                ("text", models.TextField(help_text="Empty if lines were lost here.")),
                (
                    "lost",
                    models.PositiveIntegerField(
                        default=0, help_text="How many lines were lost here."
                    ),
                ),
                (
                    "end_byte",
                    models.BigIntegerField(
                        help_text="Bytes of all lines up to and including this one."
                    ),
                ),
                (
                    "portfolio",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="log_lines",
                        to="portfolios.portfolio",
                    ),
                ),
            ],
            options={
                "ordering": ["portfolio_id", "no"],
            },
        ),
    ]
