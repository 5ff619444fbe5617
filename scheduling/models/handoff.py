"""Handoffs: changes of owner or revision, stored so that a restarted control plane resumes them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from scheduling.decide.types import ACTIVE_STATES
from scheduling.models.node import Node

__all__ = ["ACTIVE_STATES", "Handoff", "HandoffKind", "HandoffState"]


class HandoffKind(models.TextChoices):
    PLACE = "place"
    RELOAD = "reload"
    MIGRATE = "migrate"
    FAILOVER = "failover"
    STOP = "stop"


class HandoffState(models.TextChoices):
    REQUESTED = "requested"
    PREPARING = "preparing"
    DRAINING = "draining"
    ACTIVATING = "activating"
    DONE = "done"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"


class Handoff(models.Model):
    """One handoff (place, reload, migrate, failover or stop) of one portfolio.

    requested ─▶ preparing ─▶ draining ─▶ activating ─▶ done
                     └────────────┤            └──▶ rolled_back (no first commit)
                                  └──▶ failed (before the grant: same owner, same revision)
    any ─▶ superseded (the cause is in `error`)

    rolled_back grants a migrate or reload back to its source, with epoch + 1, if the source still
    holds its lease and its revision is not rejected. Any other portfolio is left without an owner:
    pending, or quarantined after too many attempts.
    place and failover go from preparing directly to activating: there is no source to drain.
    stop goes from draining to done: there is no target to activate.
    """

    portfolio = models.ForeignKey(
        "portfolios.Portfolio", on_delete=models.CASCADE, related_name="handoffs"
    )
    kind = models.CharField(max_length=8, choices=HandoffKind.choices)
    state = models.CharField(
        max_length=11, choices=HandoffState.choices, default=HandoffState.REQUESTED
    )
    reason = models.TextField(blank=True, default="")
    why = models.JSONField(
        null=True, help_text="`reason` as {code, params}, if the planner gave it."
    )
    requested_by = models.CharField(max_length=150, blank=True, default="")
    source_node = models.ForeignKey(
        Node, on_delete=models.PROTECT, null=True, related_name="handoffs_out"
    )
    source_incarnation = models.UUIDField(null=True)
    target_node = models.ForeignKey(
        Node, on_delete=models.PROTECT, null=True, related_name="handoffs_in"
    )
    target_incarnation = models.UUIDField(null=True)
    from_epoch = models.BigIntegerField()
    to_epoch = models.BigIntegerField(null=True)
    from_revision = models.PositiveIntegerField()
    to_revision = models.PositiveIntegerField()
    released_seq = models.BigIntegerField(null=True)
    release_batch = models.UUIDField(null=True, unique=True)
    release_answer = models.CharField(max_length=12, blank=True, default="")
    error = models.TextField(blank=True, default="")
    pause_ms = models.FloatField(null=True)
    catchup_ms = models.FloatField(null=True)
    deadline_at = models.DateTimeField(help_text="Deadline of the step that the handoff is in.")
    requested_at = models.DateTimeField()
    prepared_at = models.DateTimeField(null=True)
    released_at = models.DateTimeField(null=True)
    granted_at = models.DateTimeField(null=True)
    activated_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["portfolio"],
                condition=Q(state__in=ACTIVE_STATES),
                name="handoff_one_active",
            )
        ]
        indexes = [
            models.Index(
                fields=["deadline_at"],
                condition=Q(state__in=ACTIVE_STATES),
                name="handoff_active_deadline",
            ),
            models.Index(
                fields=["source_node", "requested_at"],
                condition=Q(kind="failover"),
                name="handoff_failovers",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk} of {self.portfolio_id}: {self.state}"
