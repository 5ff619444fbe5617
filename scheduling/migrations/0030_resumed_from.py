"""Where a portfolio was started last, so that a limit that halts it later is not lifted by it."""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0029_failovers_of_a_loss")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="resumed_from",
            field=models.BigIntegerField(
                help_text="Last seq at the last start: halts up to there are lifted, no later one.",
                null=True,
            ),
        ),
    ]
