"""Keys of API requests that a client may repeat without acting twice."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now


class IdempotencyKey(models.Model):
    """One key that a user sent, with the request that it belongs to and the answer to it.

    claimed → acted → answered; a claim whose process ended before it acted is taken over by the
    next repeat, or forgotten. Rows are written by `scheduling.enact.idempotency`.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(
        max_length=64, help_text="Digest of method, address and body of the request."
    )
    claim = models.UUIDField(help_text="UUID of the one request that may act now.")
    claimed_at = models.DateTimeField(db_default=Now())
    acted_at = models.DateTimeField(
        null=True, help_text="When the request acted; written in the action's own transactions."
    )
    answered_at = models.DateTimeField(null=True)
    status = models.SmallIntegerField(null=True)
    headers = models.JSONField(default=dict, db_default={})
    body = models.TextField(default="", db_default="")
    is_kept = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Whether a repeat gets the stored status, headers and body.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_of_user")
        ]
        indexes = [models.Index(fields=["user", "claimed_at"], name="idempotency_key_age")]

    def __str__(self) -> str:
        return f"{self.key} of user {self.user_id}"
