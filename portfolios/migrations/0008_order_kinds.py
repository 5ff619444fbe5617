"""Orders of every kind, their ends, and fees.

Runs on a live system: the new columns are empty or have a constant of the database, so no row is
rewritten. An older web process goes on writing market orders without fees.
"""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration
from portfolios.models.fields import PriceField


class Migration(PatientMigration):
    dependencies = [("portfolios", "0007_price_places")]

    operations = [
        migrations.AddField(
            "order",
            "kind",
            models.CharField(
                db_default="market",
                default="market",
                help_text="market, limit or stop",
                max_length=6,
            ),
        ),
        migrations.AddField("order", "limit_price", PriceField(blank=True, null=True)),
        migrations.AddField("order", "stop_price", PriceField(blank=True, null=True)),
        migrations.AddField(
            "order",
            "time_in_force",
            models.CharField(db_default="gtc", default="gtc", help_text="gtc or ioc", max_length=3),
        ),
        migrations.AddField(
            "order",
            "tag",
            models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="A short text by which the strategy marks the order.",
                max_length=32,
            ),
        ),
        migrations.AddField(
            "order",
            "ended_seq",
            models.BigIntegerField(
                blank=True,
                help_text="Seq of the event at which the order was cancelled or expired.",
                null=True,
            ),
        ),
        migrations.AddField(
            "fill",
            "fee",
            models.DecimalField(db_default=0, decimal_places=4, default=0, max_digits=24),
        ),
        migrations.AlterField(
            "order", "price", PriceField(help_text="The price seen at the decision.")
        ),
    ]
