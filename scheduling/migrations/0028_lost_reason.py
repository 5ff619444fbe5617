"""Why a node was lost, and an index for the failovers of each loss.

The columns have constant defaults, so no table is rewritten, and an older web or watcher process
leaves them as they are. The index is built while commits go on.
"""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0027_drain_until_return")]

    operations = [
        migrations.AddField(
            model_name="lease",
            name="cut_by",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Why the lease was shortened: closed, ended or unheard; empty: it was not.",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="lease",
            name="cut_at",
            field=models.DateTimeField(
                help_text="When the cause in `cut_by` occurred, such as the connection closed.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="node",
            name="lost_reason",
            field=models.TextField(
                blank=True, db_default="", default="", help_text="Why the node was last lost."
            ),
        ),
        migrations.AddField(
            model_name="node",
            name="lost_why",
            field=models.JSONField(
                blank=True, help_text="`lost_reason` as {code, params}.", null=True
            ),
        ),
    ]
