"""A row for each web process, in place of one for all.

Expand only: the table of the one row stays until a later version, since web processes of the version
before this one write it until they are restarted. Meanwhile no new watcher finds a gateway's pulse,
so no node is judged.
"""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0025_node_labels")]

    operations = [
        migrations.CreateModel(
            name="Gateway",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        help_text="UUID that the process draws anew at each start.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("host", models.CharField(blank=True, default="", max_length=255)),
                ("pid", models.PositiveIntegerField(null=True)),
                (
                    "serving_since",
                    models.DateTimeField(
                        help_text="Start of the pulses without a gap; earlier silence proves no loss."
                    ),
                ),
                ("pulsed_at", models.DateTimeField()),
                (
                    "left_at",
                    models.DateTimeField(
                        help_text="When the process was stopped in an orderly way.", null=True
                    ),
                ),
                (
                    "commits_stand_since",
                    models.DateTimeField(
                        help_text="When commits began to be blocked, now or the last time.",
                        null=True,
                    ),
                ),
                (
                    "commits_stood_at",
                    models.DateTimeField(
                        help_text="When the process last reported that commits are blocked.",
                        null=True,
                    ),
                ),
                (
                    "commits_passed_at",
                    models.DateTimeField(
                        help_text="When a commit last got through this process.", null=True
                    ),
                ),
            ],
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.DeleteModel(name="GatewayPulse")]
        ),
        migrations.AddField(
            model_name="lease",
            name="gateway_id",
            field=models.UUIDField(
                help_text="The gateway that stored the last heartbeat.", null=True
            ),
        ),
        migrations.AddField(
            model_name="lease",
            name="socket_gateway_id",
            field=models.UUIDField(help_text="The gateway that holds the socket.", null=True),
        ),
        migrations.AddField(
            model_name="lease",
            name="socket_lost_at",
            field=models.DateTimeField(
                help_text="When a websocket of the node last closed.", null=True
            ),
        ),
        migrations.AddField(
            model_name="lease",
            name="socket_loss_pending",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Whether the sweep has yet to judge the closing of that websocket.",
            ),
        ),
    ]
