"""Verifications that were asked for, how far each is, and what came of it."""

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
    """One comparison of a portfolio with its uninterrupted run.

    waiting ──claimed──▶ running ──▶ identical
       │                    ├──────▶ different
       └──nobody took it────┴──────▶ failed (it cannot be verified, or its runner ended)
    """

    portfolio = models.ForeignKey(
        "portfolios.Portfolio", on_delete=models.CASCADE, related_name="verifications"
    )
    state = models.CharField(
        max_length=9, choices=VerificationState.choices, default=VerificationState.WAITING
    )
    requested_by = models.CharField(max_length=150, blank=True, default="")
    requested_at = models.DateTimeField()
    # Written by whoever runs it.
    runner = models.UUIDField(null=True, help_text="Who claimed it; nobody else may write.")
    started_at = models.DateTimeField(null=True)
    heard_at = models.DateTimeField(null=True, help_text="The runner's last sign of life.")
    finished_at = models.DateTimeField(null=True)
    from_seq = models.BigIntegerField(null=True)
    at_seq = models.BigIntegerField(null=True)
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

    def __str__(self) -> str:
        return f"verification {self.pk} of {self.portfolio_id}: {self.state}"
