"""Prices keep the places of their instrument, and instruments are described.

Orders and fills keep every row where it is: lifting the limit of a numeric changes the catalogue
alone (tests/integration/test_live_migrations.py), for all partitions in one statement.
"""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import portfolios.models.fields
from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("portfolios", "0006_artifacts")]

    operations = [
        migrations.AlterField("order", "price", portfolios.models.fields.PriceField()),
        migrations.AlterField("fill", "price", portfolios.models.fields.PriceField()),
        migrations.CreateModel(
            name="Instrument",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("symbol", models.CharField(max_length=24)),
                (
                    "scale",
                    models.PositiveSmallIntegerField(
                        help_text="Decimal places of the prices, which are stored as integers."
                    ),
                ),
                (
                    "tick_size",
                    portfolios.models.fields.PriceField(
                        help_text="The step between two prices; every price is a multiple of it."
                    ),
                ),
                (
                    "lot",
                    portfolios.models.fields.PriceField(
                        default=1, help_text="The unit in which volumes are counted."
                    ),
                ),
                ("currency", models.CharField(blank=True, default="", max_length=12)),
                (
                    "feed",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="instruments",
                        to="portfolios.feedrow",
                    ),
                ),
            ],
            options={"ordering": ["feed_id", "symbol"]},
        ),
        migrations.AddConstraint(
            "instrument",
            models.UniqueConstraint(fields=("feed", "symbol"), name="instrument_once"),
        ),
        migrations.AddConstraint(
            "instrument",
            models.CheckConstraint(
                condition=models.Q(scale__lte=12, tick_size__gt=0, lot__gt=0),
                name="instrument_in_range",
            ),
        ),
    ]
