"""Orders that were not placed, and since when a portfolio lags, on the run."""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0016_verification_anchors")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="orders_refused",
            field=models.BigIntegerField(
                db_default=0,
                default=0,
                help_text="Orders that the portfolio's limits refused, ever.",
            ),
        ),
        migrations.AddField(
            model_name="run",
            name="orders_suppressed",
            field=models.BigIntegerField(
                db_default=0,
                default=0,
                help_text="Orders decided on stale events and not placed, ever.",
            ),
        ),
        migrations.AddField(
            model_name="run",
            name="unplaced_orders",
            field=models.PositiveIntegerField(
                db_default=0,
                default=0,
                help_text="Orders refused or suppressed since the last one that was placed.",
            ),
        ),
        migrations.AddField(
            model_name="run",
            name="unplaced_since",
            field=models.DateTimeField(
                blank=True,
                help_text="When the first order counted in `unplaced_orders` was committed.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="run",
            name="behind_since",
            field=models.DateTimeField(
                blank=True,
                help_text="Since when the next event has been older than allowed.",
                null=True,
            ),
        ),
    ]
