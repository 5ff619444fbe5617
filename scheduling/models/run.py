"""The present and the earlier owners of portfolios."""

from __future__ import annotations

from typing import Any

from django.db import models

from scheduling.models.fleet_control import Halt
from scheduling.models.node import Node


class Phase(models.TextChoices):
    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    HALTED = "halted"
    QUARANTINED = "quarantined"
    STOPPED = "stopped"


class Run(models.Model):
    """The owner of a portfolio. The fence of every commit checks this row.

    pending ──grant──▶ starting ──first commit──▶ running ──drain──▶ draining ──grant──▶ starting
       ▲                                             ├──stop──▶ stopped ──────────start──┐
       │                                             ├─five attempts─▶ quarantined ─start─┤
       │                                             └──stale event──▶ halted ─────start──┤
       └──owner lost without a place, failed start────────────────────────────────────────┘
    """

    portfolio = models.OneToOneField(
        "portfolios.Portfolio", on_delete=models.CASCADE, primary_key=True, related_name="run"
    )
    # Ownership: written only by grants.
    node = models.ForeignKey(
        Node, on_delete=models.PROTECT, null=True, blank=True, related_name="runs"
    )
    incarnation = models.UUIDField(null=True, blank=True)
    epoch = models.BigIntegerField(default=0)
    revision = models.PositiveIntegerField(default=1)
    granted_at = models.DateTimeField(null=True, blank=True)
    # Progress: written only by fenced commits.
    last_seq = models.BigIntegerField()
    state_seq = models.BigIntegerField()  # of the stored state, which not every commit changes
    batch = models.UUIDField(null=True, blank=True, help_text="UUID of the last accepted batch.")
    first_commit_at = models.DateTimeField(
        null=True, blank=True, help_text="When the first commit of this epoch was made."
    )
    last_commit_at = models.DateTimeField(null=True, blank=True)
    # Condition: written by grants, commits and reports of exits.
    phase = models.CharField(max_length=12, choices=Phase.choices, default=Phase.PENDING)
    phase_since = models.DateTimeField(auto_now_add=True)
    reason = models.TextField(blank=True, default="")
    why = models.JSONField(
        null=True,
        help_text="A reason as {code, params}; out of date if `reason` was changed since.",
    )
    attempts = models.PositiveIntegerField(default=0)
    last_death = models.UUIDField(null=True, blank=True)  # id of the newest exit of its process
    failed_seq = models.BigIntegerField(
        null=True,
        help_text="The event at which the portfolio last failed, or the last of that batch.",
    )
    failures_by_node = models.JSONField(
        default=dict, blank=True, help_text="Node id → failures before the first event."
    )
    orders_refused = models.BigIntegerField(
        default=0, db_default=0, help_text="Orders that the portfolio's limits refused, ever."
    )
    orders_suppressed = models.BigIntegerField(
        default=0, db_default=0, help_text="Orders decided on stale events and not placed, ever."
    )
    unplaced_orders = models.PositiveIntegerField(
        default=0,
        db_default=0,
        help_text="Orders refused or suppressed since the last one that was placed.",
    )
    unplaced_since = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the first order counted in `unplaced_orders` was committed.",
    )
    behind_since = models.DateTimeField(
        null=True, blank=True, help_text="Since when the next event has been older than allowed."
    )
    stalled_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when no progress was made while events wait."
    )
    good_revision = models.PositiveIntegerField(null=True, blank=True)
    python = models.CharField(
        max_length=16,
        blank=True,
        default="",
        db_default="",
        help_text="Minor version of Python on the present or last owner; empty: not known.",
    )
    # Written by operators.
    resume_seq = models.BigIntegerField(
        null=True,
        help_text="Head of the feed at the last start; `catch_up` causes no halt up to it.",
    )
    resumed_from = models.BigIntegerField(
        null=True,
        help_text="Last seq at the last start: halts up to there are lifted, no later one.",
    )
    accept_python = models.CharField(
        max_length=16,
        blank=True,
        default="",
        db_default="",
        help_text="The portfolio may go on under this Python version too.",
    )
    pinned_node = models.ForeignKey(
        Node, on_delete=models.SET_NULL, null=True, blank=True, related_name="pinned_runs"
    )
    halt = models.ForeignKey(
        Halt,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="runs",
        help_text="The halt that stopped the portfolio, until it is started again.",
    )
    changed_in = models.BigIntegerField(
        db_default=0,
        editable=False,
        help_text="The transaction that last changed what a plan reads; set by a trigger.",
    )

    class Meta:
        indexes = [models.Index(fields=["changed_in"], name="run_changed")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(node__isnull=True, incarnation__isnull=True)
                | models.Q(node__isnull=False, incarnation__isnull=False),
                name="run_owner_whole",
            ),
            models.CheckConstraint(
                condition=models.Q(state_seq__lte=models.F("last_seq")), name="run_state_seq"
            ),
        ]

    def __str__(self) -> str:
        return f"run of {self.portfolio_id}, epoch {self.epoch}"


class Tenure(models.Model):
    """One line of ownership history, written by the grant itself.

    Tenures of a portfolio tile its events: each starts at the seq at which the previous one ended.
    """

    portfolio = models.ForeignKey(
        "portfolios.Portfolio", on_delete=models.CASCADE, related_name="tenures", db_index=False
    )
    epoch = models.BigIntegerField()
    node = models.ForeignKey(Node, on_delete=models.PROTECT, null=True, related_name="tenures")
    incarnation = models.UUIDField(null=True)
    revision = models.PositiveIntegerField()
    python = models.CharField(max_length=16, blank=True, default="", db_default="")
    from_seq = models.BigIntegerField(
        help_text="Last seq of the previous owner; this one began at the next event."
    )
    to_seq = models.BigIntegerField(
        null=True, help_text="Last seq that was committed in this tenure."
    )
    cause = models.CharField(max_length=12)
    reason = models.TextField(blank=True, default="")
    handoff = models.ForeignKey(
        "scheduling.Handoff", on_delete=models.SET_NULL, null=True, related_name="tenures"
    )
    started_at = models.DateTimeField()
    first_commit_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    pause_ms = models.FloatField(null=True)

    class Meta:
        ordering = ["portfolio_id", "-epoch"]
        constraints = [
            models.UniqueConstraint(fields=["portfolio", "epoch"], name="tenure_epoch_once")
        ]

    def __str__(self) -> str:
        return f"tenure of {self.portfolio_id}, epoch {self.epoch}"

    @property
    def why(self) -> dict[str, Any] | None:
        """Return why the tenure began, as data, from its handoff; None without a handoff."""
        return self.handoff.why if self.handoff is not None else None
