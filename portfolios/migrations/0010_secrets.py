"""Secrets: a new table, no lock on those in use."""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [
        ("portfolios", "0009_metric_points"),
    ]

    operations = [
        migrations.CreateModel(
            name="Secret",
            fields=[
                ("name", models.CharField(max_length=80, primary_key=True, serialize=False)),
                ("ciphertext", models.TextField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("set_at", models.DateTimeField(help_text="When the value was last set.")),
                ("set_by", models.CharField(max_length=150)),
                (
                    "last_used_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Time of the last use; updated at most once a minute.",
                        null=True,
                    ),
                ),
                (
                    "last_used_by",
                    models.CharField(blank=True, db_default="", default="", max_length=150),
                ),
            ],
            options={
                "ordering": ["name"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("name__regex", "^[a-z0-9]([a-z0-9-]{0,78}[a-z0-9])?$")),
                        name="secret_name_plain",
                    )
                ],
            },
        ),
    ]
