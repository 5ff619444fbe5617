"""How often each node registered, to tell the newer of two daemons without a clock.

The default is a constant of the database: no row is rewritten, and an older web process goes on.
"""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0019_storage_samples")]

    operations = [
        migrations.AddField(
            model_name="node",
            name="registrations",
            field=models.BigIntegerField(
                db_default=0, default=0, help_text="How often the node has registered. Only grows."
            ),
        ),
    ]
