"""Help texts of fields in plain words: no table changes."""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0032_idempotency_keys")]

    operations = [
        migrations.AlterField(
            model_name="storm",
            name="held_at",
            field=models.DateTimeField(
                null=True, help_text="When the hold began; null: failover is not held."
            ),
        ),
        migrations.AlterField(
            model_name="storm",
            name="until",
            field=models.DateTimeField(
                null=True,
                help_text="When the hold ends by itself; null in a hold: an operator releases it.",
            ),
        ),
        migrations.AlterField(
            model_name="storm",
            name="nodes",
            field=models.JSONField(
                default=list,
                help_text="Names of the nodes lost in the storm; empty: held by an operator.",
            ),
        ),
        migrations.AlterField(
            model_name="storm",
            name="of_nodes",
            field=models.PositiveIntegerField(
                default=0, help_text="How many nodes were alive one lease before the storm."
            ),
        ),
        migrations.AlterField(
            model_name="storm",
            name="ended_at",
            field=models.DateTimeField(
                null=True,
                help_text="When the last hold ended; earlier losses count for no further storm.",
            ),
        ),
        migrations.AlterField(
            model_name="alert",
            name="key",
            field=models.CharField(
                max_length=80,
                help_text="What the alert is about, such as node:3, portfolio:12 or fleet.",
            ),
        ),
        migrations.AlterField(
            model_name="alert",
            name="gone_at",
            field=models.DateTimeField(null=True, help_text="Since when the cause has been gone."),
        ),
        migrations.AlterField(
            model_name="alertchannel",
            name="from_environment",
            field=models.BooleanField(
                default=False, help_text="The address of the channel comes from GINKGO_ALERT_URL."
            ),
        ),
        migrations.AlterField(
            model_name="passlock",
            name="failover_ran_at",
            field=models.DateTimeField(
                null=True, help_text="In the row `pass`: when the last complete pass ended."
            ),
        ),
        migrations.AlterField(
            model_name="passlock",
            name="since",
            field=models.DateTimeField(
                null=True,
                help_text="In the row `watcher`: since when a watcher has run without a gap.",
            ),
        ),
        migrations.AlterField(
            model_name="gateway",
            name="id",
            field=models.UUIDField(
                primary_key=True,
                serialize=False,
                help_text="UUID that the process draws anew at each start.",
            ),
        ),
        migrations.AlterField(
            model_name="gateway",
            name="serving_since",
            field=models.DateTimeField(
                help_text="Start of the pulses without a gap; earlier silence proves no loss."
            ),
        ),
        migrations.AlterField(
            model_name="gateway",
            name="left_at",
            field=models.DateTimeField(
                null=True, help_text="When the process was stopped in an orderly way."
            ),
        ),
        migrations.AlterField(
            model_name="gateway",
            name="commits_stand_since",
            field=models.DateTimeField(
                null=True, help_text="When commits began to be blocked, now or the last time."
            ),
        ),
        migrations.AlterField(
            model_name="gateway",
            name="commits_stood_at",
            field=models.DateTimeField(
                null=True, help_text="When the process last reported that commits are blocked."
            ),
        ),
        migrations.AlterField(
            model_name="gateway",
            name="commits_passed_at",
            field=models.DateTimeField(
                null=True, help_text="When a commit last got through this process."
            ),
        ),
        migrations.AlterField(
            model_name="control",
            name="even_by",
            field=models.CharField(
                max_length=10,
                choices=[("weight", "Weight"), ("cpu", "Cpu")],
                default="weight",
                db_default="weight",
                help_text="The load that a rebalance evens out: weight or CPU.",
            ),
        ),
        migrations.AlterField(
            model_name="halt",
            name="running",
            field=models.PositiveIntegerField(
                help_text="How many portfolios had an owner at the halt."
            ),
        ),
        migrations.AlterField(
            model_name="halt",
            name="stopped",
            field=models.PositiveIntegerField(
                help_text="How many portfolios the halt stopped, pending ones included."
            ),
        ),
        migrations.AlterField(
            model_name="handoff",
            name="why",
            field=models.JSONField(
                null=True, help_text="`reason` as {code, params}, if the planner gave it."
            ),
        ),
        migrations.AlterField(
            model_name="handoff",
            name="deadline_at",
            field=models.DateTimeField(help_text="Deadline of the step that the handoff is in."),
        ),
        migrations.AlterField(
            model_name="idempotencykey",
            name="claim",
            field=models.UUIDField(help_text="UUID of the one request that may act now."),
        ),
        migrations.AlterField(
            model_name="idempotencykey",
            name="acted_at",
            field=models.DateTimeField(
                null=True,
                help_text="When the request acted; written in the action's own transactions.",
            ),
        ),
        migrations.AlterField(
            model_name="idempotencykey",
            name="is_kept",
            field=models.BooleanField(
                default=False,
                db_default=False,
                help_text="Whether a repeat gets the stored status, headers and body.",
            ),
        ),
        migrations.AlterField(
            model_name="node",
            name="drain_until_return",
            field=models.BooleanField(
                default=False,
                db_default=False,
                help_text="The drain ends when the node's daemon has left and registers again.",
            ),
        ),
        migrations.AlterField(
            model_name="node",
            name="label_edits",
            field=models.JSONField(
                default=dict,
                blank=True,
                db_default=models.Value({}, models.JSONField()),
                help_text="Edits by operators: label → new value; null: the label is removed.",
            ),
        ),
        migrations.AlterField(
            model_name="node",
            name="capacity",
            field=models.PositiveIntegerField(
                default=5,
                help_text="The highest sum of weights of the portfolios that run on the node.",
            ),
        ),
        migrations.AlterField(
            model_name="node",
            name="labels",
            field=models.JSONField(
                default=dict,
                blank=True,
                help_text="The labels of the node's daemon, with the edits of operators.",
            ),
        ),
        migrations.AlterField(
            model_name="node",
            name="reported_labels",
            field=models.JSONField(
                default=dict,
                blank=True,
                db_default=models.Value({}, models.JSONField()),
                help_text="The labels with which the node's daemon was started.",
            ),
        ),
        migrations.AlterField(
            model_name="node",
            name="python",
            field=models.CharField(
                max_length=16,
                blank=True,
                default="",
                db_default="",
                help_text="Minor version of the node's Python; empty: the daemon does not report it.",
            ),
        ),
        migrations.AlterField(
            model_name="node",
            name="registrations",
            field=models.BigIntegerField(
                default=0, db_default=0, help_text="How often the node has registered. Only grows."
            ),
        ),
        migrations.AlterField(
            model_name="node",
            name="leaving",
            field=models.BooleanField(
                default=False, help_text="The node's daemon was asked to stop."
            ),
        ),
        migrations.AlterField(
            model_name="node",
            name="lost_times",
            field=models.JSONField(
                default=list,
                blank=True,
                help_text="Times of the newest losses, in seconds since 1970.",
            ),
        ),
        migrations.AlterField(
            model_name="node",
            name="lost_reason",
            field=models.TextField(
                blank=True, default="", db_default="", help_text="Why the node was last lost."
            ),
        ),
        migrations.AlterField(
            model_name="lease",
            name="gateway_id",
            field=models.UUIDField(
                null=True, help_text="The gateway that stored the last heartbeat."
            ),
        ),
        migrations.AlterField(
            model_name="lease",
            name="connection",
            field=models.UUIDField(
                null=True, help_text="The websocket whose closing may shorten the lease."
            ),
        ),
        migrations.AlterField(
            model_name="lease",
            name="socket_lost_at",
            field=models.DateTimeField(
                null=True, help_text="When a websocket of the node last closed."
            ),
        ),
        migrations.AlterField(
            model_name="lease",
            name="socket_loss_pending",
            field=models.BooleanField(
                default=False,
                db_default=False,
                help_text="Whether the sweep has yet to judge the closing of that websocket.",
            ),
        ),
        migrations.AlterField(
            model_name="lease",
            name="takeovers",
            field=models.JSONField(
                default=list,
                help_text="When daemons took over a name in use, in seconds since 1970.",
            ),
        ),
        migrations.AlterField(
            model_name="lease",
            name="cut_by",
            field=models.CharField(
                max_length=8,
                blank=True,
                default="",
                db_default="",
                help_text="Why the lease was shortened: closed, ended or unheard; empty: it was not.",
            ),
        ),
        migrations.AlterField(
            model_name="lease",
            name="cut_at",
            field=models.DateTimeField(
                null=True,
                help_text="When the cause in `cut_by` occurred, such as the connection closed.",
            ),
        ),
        migrations.AlterField(
            model_name="resilience",
            name="as_of",
            field=models.DateTimeField(help_text="When the fleet was read for this forecast."),
        ),
        migrations.AlterField(
            model_name="resilience",
            name="fit",
            field=models.PositiveIntegerField(
                help_text="Portfolios that would have another place at once."
            ),
        ),
        migrations.AlterField(
            model_name="resilience",
            name="waiting",
            field=models.PositiveIntegerField(
                help_text="Portfolios that would have to wait for a place."
            ),
        ),
        migrations.AlterField(
            model_name="resilience",
            name="suspects",
            field=models.JSONField(
                default=list, help_text="Suspect nodes that the forecast counts as places."
            ),
        ),
    ]
