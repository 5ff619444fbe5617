"""Verifications: their queue, progress and verdicts, and the anchors where the next one starts."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class VerificationState(models.TextChoices):
    WAITING = "waiting"
    RUNNING = "running"
    IDENTICAL = "identical"
    DIFFERENT = "different"
    FAILED = "failed"


OPEN_STATES = ("waiting", "running")


class Verification(models.Model):
    """One comparison of a portfolio with its reference run.

    waiting ──claimed──▶ running ──▶ identical
       │                    ├──────▶ different
       └──never claimed─────┴──────▶ failed (it cannot be verified, or its runner ended)
    """

    portfolio = models.ForeignKey(
        "portfolios.Portfolio", on_delete=models.CASCADE, related_name="verifications"
    )
    state = models.CharField(
        max_length=9, choices=VerificationState.choices, default=VerificationState.WAITING
    )
    requested_by = models.CharField(max_length=150, blank=True, default="")
    requested_at = models.DateTimeField()
    full = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Begin at the first event, even if there is an anchor.",
    )
    limit_s = models.FloatField(
        null=True, help_text="Time limit in seconds; the next verification goes on. Null: no limit."
    )
    # Written by its runner.
    runner = models.UUIDField(
        null=True, help_text="UUID of the process that claimed the row; only it may write."
    )
    started_at = models.DateTimeField(null=True)
    heard_at = models.DateTimeField(null=True, help_text="The runner's last sign of life.")
    finished_at = models.DateTimeField(null=True)
    from_seq = models.BigIntegerField(null=True)
    at_seq = models.BigIntegerField(null=True)  # how far it has come
    to_seq = models.BigIntegerField(null=True)
    sentence = models.TextField(blank=True, default="")
    verdict = models.JSONField(default=dict, help_text="Everything that was found.")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["portfolio"],
                condition=Q(state__in=OPEN_STATES),
                name="verification_one_open",
            )
        ]
        indexes = [
            models.Index(
                fields=["portfolio", "id"],
                condition=Q(state="different"),
                name="verification_different",
            )
        ]

    def __str__(self) -> str:
        return f"verification {self.pk} of {self.portfolio_id}: {self.state}"


class VerificationAnchor(models.Model):
    """The point where a verification ended identical, with the data that the next one starts from.

    Everything up to `seq` was replayed and compared. The digest of the inputs and the sums of the
    stored rows show whether they have changed since: docs/mechanisms/verification.md.
    """

    portfolio = models.ForeignKey(
        "portfolios.Portfolio", on_delete=models.CASCADE, related_name="anchors", db_index=False
    )
    seq = models.BigIntegerField(help_text="Verified up to and including this event.")
    epoch = models.BigIntegerField(help_text="The epoch whose revision made the state.")
    state = models.BinaryField(help_text="State of the reference run after event `seq`.")
    at = models.DateTimeField(help_text="When it was verified.")
    counts = models.JSONField(help_text="How much was compared, by kind, from the first event on.")
    open_orders = models.JSONField(help_text="(seq, index) of each order that waits for its fill.")
    inputs = models.CharField(max_length=64, help_text="Digest of the recorded inputs up to `seq`.")
    sums = models.JSONField(
        help_text="Number of rows and sum of their hashes, by kind, up to `seq`."
    )

    class Meta:
        ordering = ["portfolio_id", "-seq", "-epoch"]
        constraints = [
            models.UniqueConstraint(fields=["portfolio", "seq", "epoch"], name="anchor_once")
        ]

    def __str__(self) -> str:
        return f"verified to seq {self.seq}"
