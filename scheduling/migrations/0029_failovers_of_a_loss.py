"""An index for the failovers of each loss of a node, built while commits go on."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q

NAME = "handoff_failovers"

CREATE = f"""
CREATE INDEX CONCURRENTLY IF NOT EXISTS {NAME}
ON scheduling_handoff (source_node_id, requested_at) WHERE kind = 'failover'
"""


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY cannot run in a transaction

    dependencies = [("scheduling", "0028_lost_reason")]

    operations = [
        # What an interrupted attempt left behind is not valid.
        migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}", migrations.RunSQL.noop),
        migrations.RunSQL(
            CREATE,
            f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}",
            state_operations=[
                migrations.AddIndex(
                    model_name="handoff",
                    index=models.Index(
                        fields=["source_node", "requested_at"],
                        condition=Q(kind="failover"),
                        name=NAME,
                    ),
                )
            ],
        ),
    ]
