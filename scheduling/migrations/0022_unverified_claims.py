"""Claims of vanished commits without a record of the owner are marked.

The default is a constant of the database: no row is rewritten, and an older web process goes on.
"""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0021_commits_passed")]

    operations = [
        migrations.AddField(
            model_name="vanishedcommits",
            name="unverified",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="There is no record that the node owned the portfolio at that epoch.",
            ),
        ),
    ]
