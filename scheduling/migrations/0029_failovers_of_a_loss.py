"""An index for the failovers of each loss of a node.

Not CONCURRENTLY: the table has one row per handoff, so the lock, which no commit needs, is held for
milliseconds, while a concurrent build would wait for every open transaction.
"""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0028_lost_reason")]

    operations = [
        migrations.AddIndex(
            model_name="handoff",
            index=models.Index(
                fields=["source_node", "requested_at"],
                condition=Q(kind="failover"),
                name="handoff_failovers",
            ),
        )
    ]
