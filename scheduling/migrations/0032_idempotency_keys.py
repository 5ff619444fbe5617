"""Keys of API requests that may be repeated: a new table."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [
        ("scheduling", "0031_alert_messages"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(max_length=255)),
                (
                    "fingerprint",
                    models.CharField(
                        help_text="Digest of method, address and body of the request.",
                        max_length=64,
                    ),
                ),
                ("claim", models.UUIDField(help_text="UUID of the one request that may act now.")),
                (
                    "claimed_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                (
                    "acted_at",
                    models.DateTimeField(
                        help_text="When the request acted; written in the action's own transactions.",
                        null=True,
                    ),
                ),
                ("answered_at", models.DateTimeField(null=True)),
                ("status", models.SmallIntegerField(null=True)),
                ("headers", models.JSONField(db_default={}, default=dict)),
                ("body", models.TextField(db_default="", default="")),
                (
                    "is_kept",
                    models.BooleanField(
                        db_default=False,
                        default=False,
                        help_text="Whether a repeat gets the stored status, headers and body.",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["user", "claimed_at"], name="idempotency_key_age")
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("user", "key"), name="idempotency_key_of_user")
                ],
            },
        ),
    ]
