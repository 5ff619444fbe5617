"""Feeds whose records are in a stream of JetStream. One constant in a table of a few rows."""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("portfolios", "0012_archived_ranges")]

    operations = [
        migrations.AddField(
            "feedwriter", "in_stream", models.BooleanField(db_default=False, default=False)
        ),
    ]
