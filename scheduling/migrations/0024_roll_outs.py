"""Roll-outs of artifacts over portfolios: two new tables, which no older process reads."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [
        ("portfolios", "0006_artifacts"),
        ("scheduling", "0023_portfolio_log"),
    ]

    operations = [
        migrations.CreateModel(
            name="RollOut",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("running", "Running"),
                            ("stopping", "Stopping"),
                            ("stopped", "Stopped"),
                            ("finished", "Finished"),
                            ("going_back", "Going Back"),
                            ("back", "Back"),
                        ],
                        default="running",
                        max_length=10,
                    ),
                ),
                ("at_a_time", models.PositiveIntegerField(default=1)),
                (
                    "canary_s",
                    models.FloatField(
                        help_text="Seconds after which the canary counts as proven; null: once it is good.",
                        null=True,
                    ),
                ),
                ("note", models.CharField(blank=True, default="", max_length=200)),
                ("requested_by", models.CharField(blank=True, default="", max_length=150)),
                (
                    "reason",
                    models.TextField(blank=True, default="", help_text="Why the roll-out stopped."),
                ),
                ("why", models.JSONField(help_text="`reason` as {code, params}.", null=True)),
                ("created_at", models.DateTimeField()),
                (
                    "ended_at",
                    models.DateTimeField(
                        help_text="When the roll-out reached its final state.", null=True
                    ),
                ),
                (
                    "artifact",
                    models.ForeignKey(
                        db_column="artifact_sha256",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="roll_outs",
                        to="portfolios.artifact",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="RollOutItem",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "position",
                    models.PositiveIntegerField(
                        help_text="The portfolio's turn in the roll-out; 0 is the canary."
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("changing", "Changing"),
                            ("proving", "Proving"),
                            ("done", "Done"),
                            ("rejected", "Rejected"),
                            ("late", "Late"),
                            ("left", "Left"),
                            ("skipped", "Skipped"),
                            ("returning", "Returning"),
                            ("returned", "Returned"),
                            ("not_returned", "Not Returned"),
                        ],
                        default="waiting",
                        max_length=12,
                    ),
                ),
                ("since", models.DateTimeField(help_text="When the portfolio entered this state.")),
                (
                    "seen_revision",
                    models.PositiveIntegerField(
                        help_text="The revision wanted when the roll-out was created."
                    ),
                ),
                (
                    "from_revision",
                    models.PositiveIntegerField(
                        help_text="The revision before the roll-out: the way back leads to it.",
                        null=True,
                    ),
                ),
                (
                    "to_revision",
                    models.PositiveIntegerField(
                        help_text="The revision that the roll-out made.", null=True
                    ),
                ),
                (
                    "pause_ms",
                    models.FloatField(
                        help_text="The pause in the handoff to the new revision.", null=True
                    ),
                ),
                ("reason", models.TextField(blank=True, default="")),
                ("why", models.JSONField(help_text="`reason` as {code, params}.", null=True)),
                (
                    "portfolio",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="roll_out_items",
                        to="portfolios.portfolio",
                    ),
                ),
                (
                    "roll_out",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="items",
                        to="scheduling.rollout",
                    ),
                ),
            ],
            options={
                "ordering": ["roll_out_id", "position"],
            },
        ),
        migrations.AddIndex(
            model_name="rollout",
            index=models.Index(
                condition=models.Q(("state__in", ("running", "stopping", "going_back"))),
                fields=["id"],
                name="roll_out_open",
            ),
        ),
        migrations.AddConstraint(
            model_name="rolloutitem",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ("waiting", "changing", "proving", "returning"))),
                fields=("portfolio",),
                name="roll_out_item_one_open",
            ),
        ),
        migrations.AddConstraint(
            model_name="rolloutitem",
            constraint=models.UniqueConstraint(
                fields=("roll_out", "position"), name="roll_out_item_turn"
            ),
        ),
    ]
