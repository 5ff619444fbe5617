"""Since when commits do not get through, in the gateway's pulse."""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0011_unique_incarnations")]

    operations = [
        migrations.AddField(
            model_name="gatewaypulse",
            name="commits_stand_since",
            field=models.DateTimeField(
                null=True, help_text="Since when a gateway lets no commit through, or did last."
            ),
        ),
        migrations.AddField(
            model_name="gatewaypulse",
            name="commits_stood_at",
            field=models.DateTimeField(null=True, help_text="When a gateway said so last."),
        ),
    ]
