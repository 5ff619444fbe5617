"""When a commit got through any gateway last, in the gateway's pulse: a table of one row."""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0020_registrations")]

    operations = [
        migrations.AddField(
            model_name="gatewaypulse",
            name="commits_passed_at",
            field=models.DateTimeField(
                null=True, help_text="When a commit got through any gateway last."
            ),
        ),
    ]
