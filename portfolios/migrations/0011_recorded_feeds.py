"""Feeds that are recorded: their records, their writer, and what their sources have sent.

Every table is new; the feed's row, of which there are a handful, gains constants.
"""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("portfolios", "0010_secrets")]

    operations = [
        migrations.AddField(
            "feedrow",
            "kind",
            models.CharField(
                choices=[("replay", "Replay"), ("recorded", "Recorded")],
                db_default="replay",
                default="replay",
                max_length=8,
            ),
        ),
        migrations.AddField(
            "feedrow",
            "silent_after_s",
            models.PositiveIntegerField(
                blank=True,
                help_text="An alert opens after so many seconds without a record; empty: never.",
                null=True,
            ),
        ),
        migrations.AddField(
            "feedrow",
            "keep_days",
            models.PositiveIntegerField(
                blank=True,
                help_text="Days after which records are dropped, once not needed; empty: never.",
                null=True,
            ),
        ),
        migrations.AddField("instrument", "last_us", models.BigIntegerField(null=True)),
        migrations.CreateModel(
            name="FeedWriter",
            fields=[
                (
                    "feed",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="writer",
                        serialize=False,
                        to="portfolios.feedrow",
                    ),
                ),
                ("epoch", models.BigIntegerField(default=0)),
                ("writer", models.CharField(blank=True, default="", max_length=150)),
                ("head", models.BigIntegerField(default=0)),
                ("released_us", models.BigIntegerField(default=0)),
                ("released_at", models.DateTimeField()),
                ("first_seq", models.BigIntegerField(default=1)),
                ("chain", models.BinaryField()),
                ("cursor", models.TextField(blank=True, default="")),
            ],
        ),
        migrations.CreateModel(
            name="FeedRecord",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "feed", "seq", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.BigIntegerField()),
                ("symbol", models.CharField(blank=True, max_length=24)),
                ("time_us", models.BigIntegerField()),
                ("released_us", models.BigIntegerField()),
                ("event", models.BinaryField()),
                (
                    "feed",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="portfolios.feedrow",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="FeedDigest",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "feed",
                        "segment",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("segment", models.BigIntegerField()),
                ("digest", models.BinaryField()),
                (
                    "feed",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="portfolios.feedrow",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="FeedAppend",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "feed",
                        "source",
                        "number",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("source", models.CharField(max_length=80)),
                ("number", models.BigIntegerField()),
                ("sha256", models.CharField(blank=True, default="", max_length=64)),
                ("from_seq", models.BigIntegerField()),
                ("to_seq", models.BigIntegerField()),
                ("at", models.DateTimeField(db_index=True)),
                (
                    "feed",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="portfolios.feedrow",
                    ),
                ),
            ],
        ),
    ]
