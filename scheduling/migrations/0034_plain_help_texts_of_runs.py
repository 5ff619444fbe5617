"""Help texts of runs, roll-outs and the rest in plain words: no table changes."""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0033_plain_help_texts")]

    operations = [
        migrations.AlterField(
            model_name="portfoliolog",
            name="total_bytes",
            field=models.BigIntegerField(help_text="Bytes of all lines ever written."),
        ),
        migrations.AlterField(
            model_name="portfoliolog",
            name="lost",
            field=models.BigIntegerField(help_text="How many lines were printed and lost, ever."),
        ),
        migrations.AlterField(
            model_name="portfoliolog",
            name="batch",
            field=models.UUIDField(help_text="UUID of the last accepted batch."),
        ),
        migrations.AlterField(
            model_name="logline",
            name="at",
            field=models.DateTimeField(
                help_text="When the node read the line, by the database's clock."
            ),
        ),
        migrations.AlterField(
            model_name="logline",
            name="lost",
            field=models.PositiveIntegerField(
                default=0, help_text="How many lines were lost here."
            ),
        ),
        migrations.AlterField(
            model_name="logline",
            name="end_byte",
            field=models.BigIntegerField(
                help_text="Bytes of all lines up to and including this one."
            ),
        ),
        migrations.AlterField(
            model_name="rollout",
            name="reason",
            field=models.TextField(blank=True, default="", help_text="Why the roll-out stopped."),
        ),
        migrations.AlterField(
            model_name="rollout",
            name="ended_at",
            field=models.DateTimeField(
                null=True, help_text="When the roll-out reached its final state."
            ),
        ),
        migrations.AlterField(
            model_name="rolloutitem",
            name="position",
            field=models.PositiveIntegerField(
                help_text="The portfolio's turn in the roll-out; 0 is the canary."
            ),
        ),
        migrations.AlterField(
            model_name="rolloutitem",
            name="since",
            field=models.DateTimeField(help_text="When the portfolio entered this state."),
        ),
        migrations.AlterField(
            model_name="rolloutitem",
            name="seen_revision",
            field=models.PositiveIntegerField(
                help_text="The revision wanted when the roll-out was created."
            ),
        ),
        migrations.AlterField(
            model_name="rolloutitem",
            name="from_revision",
            field=models.PositiveIntegerField(
                null=True, help_text="The revision before the roll-out: the way back leads to it."
            ),
        ),
        migrations.AlterField(
            model_name="rolloutitem",
            name="to_revision",
            field=models.PositiveIntegerField(
                null=True, help_text="The revision that the roll-out made."
            ),
        ),
        migrations.AlterField(
            model_name="rolloutitem",
            name="pause_ms",
            field=models.FloatField(
                null=True, help_text="The pause in the handoff to the new revision."
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="batch",
            field=models.UUIDField(
                null=True, blank=True, help_text="UUID of the last accepted batch."
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="first_commit_at",
            field=models.DateTimeField(
                null=True, blank=True, help_text="When the first commit of this epoch was made."
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="why",
            field=models.JSONField(
                null=True,
                help_text="A reason as {code, params}; out of date if `reason` was changed since.",
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="failed_seq",
            field=models.BigIntegerField(
                null=True,
                help_text="The event at which the portfolio last failed, or the last of that batch.",
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="orders_refused",
            field=models.BigIntegerField(
                default=0,
                db_default=0,
                help_text="Orders that the portfolio's limits refused, ever.",
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="unplaced_orders",
            field=models.PositiveIntegerField(
                default=0,
                db_default=0,
                help_text="Orders refused or suppressed since the last one that was placed.",
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="unplaced_since",
            field=models.DateTimeField(
                null=True,
                blank=True,
                help_text="When the first order counted in `unplaced_orders` was committed.",
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="python",
            field=models.CharField(
                max_length=16,
                blank=True,
                default="",
                db_default="",
                help_text="Minor version of Python on the present or last owner; empty: not known.",
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="resume_seq",
            field=models.BigIntegerField(
                null=True,
                help_text="Head of the feed at the last start; `catch_up` causes no halt up to it.",
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="resumed_from",
            field=models.BigIntegerField(
                null=True,
                help_text="Last seq at the last start: halts up to there are lifted, no later one.",
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="accept_python",
            field=models.CharField(
                max_length=16,
                blank=True,
                default="",
                db_default="",
                help_text="The portfolio may go on under this Python version too.",
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="halt",
            field=models.ForeignKey(
                "scheduling.halt",
                on_delete=models.SET_NULL,
                null=True,
                blank=True,
                related_name="runs",
                help_text="The halt that stopped the portfolio, until it is started again.",
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="changed_in",
            field=models.BigIntegerField(
                db_default=0,
                editable=False,
                help_text="The transaction that last changed what a plan reads; set by a trigger.",
            ),
        ),
        migrations.AlterField(
            model_name="tenure",
            name="from_seq",
            field=models.BigIntegerField(
                help_text="Last seq of the previous owner; this one began at the next event."
            ),
        ),
        migrations.AlterField(
            model_name="tenure",
            name="to_seq",
            field=models.BigIntegerField(
                null=True, help_text="Last seq that was committed in this tenure."
            ),
        ),
        migrations.AlterField(
            model_name="storagesample",
            name="wal_bytes",
            field=models.BigIntegerField(help_text="WAL written since the database was created."),
        ),
        migrations.AlterField(
            model_name="storagesample",
            name="disk_free_bytes",
            field=models.BigIntegerField(
                null=True,
                help_text="Free space for the embedded server; null: the server is elsewhere.",
            ),
        ),
        migrations.AlterField(
            model_name="storagesample",
            name="tables",
            field=models.JSONField(
                default=dict, help_text="Table → its bytes, partitions and indexes included."
            ),
        ),
        migrations.AlterField(
            model_name="databasetimeline",
            name="settled_at",
            field=models.DateTimeField(
                null=True,
                help_text="Null: commits acknowledged on the timeline before may be missing.",
            ),
        ),
        migrations.AlterField(
            model_name="vanishedcommits",
            name="found_epoch",
            field=models.BigIntegerField(
                null=True, help_text="The epoch that the database had instead."
            ),
        ),
        migrations.AlterField(
            model_name="vanishedcommits",
            name="settled_at",
            field=models.DateTimeField(
                null=True, help_text="When an operator raised the epoch floor or released failover."
            ),
        ),
        migrations.AlterField(
            model_name="nodetoken",
            name="name",
            field=models.CharField(
                max_length=80,
                blank=True,
                default="",
                db_default="",
                help_text="What the token is for.",
            ),
        ),
        migrations.AlterField(
            model_name="apitoken",
            name="name",
            field=models.CharField(
                max_length=80,
                blank=True,
                default="",
                db_default="",
                help_text="What the token is for.",
            ),
        ),
        migrations.AlterField(
            model_name="nodetoken",
            name="last_used_at",
            field=models.DateTimeField(
                null=True,
                blank=True,
                help_text="Time of the last use; updated at most once a minute.",
            ),
        ),
        migrations.AlterField(
            model_name="apitoken",
            name="last_used_at",
            field=models.DateTimeField(
                null=True,
                blank=True,
                help_text="Time of the last use; updated at most once a minute.",
            ),
        ),
        migrations.AlterField(
            model_name="verification",
            name="full",
            field=models.BooleanField(
                default=False,
                db_default=False,
                help_text="Begin at the first event, even if there is an anchor.",
            ),
        ),
        migrations.AlterField(
            model_name="verification",
            name="limit_s",
            field=models.FloatField(
                null=True,
                help_text="Time limit in seconds; the next verification goes on. Null: no limit.",
            ),
        ),
        migrations.AlterField(
            model_name="verification",
            name="runner",
            field=models.UUIDField(
                null=True, help_text="UUID of the process that claimed the row; only it may write."
            ),
        ),
        migrations.AlterField(
            model_name="verificationanchor",
            name="epoch",
            field=models.BigIntegerField(help_text="The epoch whose revision made the state."),
        ),
        migrations.AlterField(
            model_name="verificationanchor",
            name="state",
            field=models.BinaryField(help_text="State of the reference run after event `seq`."),
        ),
        migrations.AlterField(
            model_name="verificationanchor",
            name="counts",
            field=models.JSONField(
                help_text="How much was compared, by kind, from the first event on."
            ),
        ),
        migrations.AlterField(
            model_name="verificationanchor",
            name="sums",
            field=models.JSONField(
                help_text="Number of rows and sum of their hashes, by kind, up to `seq`."
            ),
        ),
    ]
