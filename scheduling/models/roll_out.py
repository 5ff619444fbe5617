"""Roll-outs: an artifact given to many portfolios, stored so that a restarted pass resumes them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from scheduling.decide.roll_out import OPEN_ITEMS, OPEN_ROLL_OUTS

__all__ = ["OPEN_ITEMS", "OPEN_ROLL_OUTS", "ItemState", "RollOut", "RollOutItem", "RollOutState"]


class RollOutState(models.TextChoices):
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FINISHED = "finished"
    GOING_BACK = "going_back"
    BACK = "back"


class ItemState(models.TextChoices):
    WAITING = "waiting"
    CHANGING = "changing"
    PROVING = "proving"
    DONE = "done"
    REJECTED = "rejected"
    LATE = "late"
    LEFT = "left"
    SKIPPED = "skipped"
    RETURNING = "returning"
    RETURNED = "returned"
    NOT_RETURNED = "not_returned"


class RollOut(models.Model):
    """One roll-out of an artifact over a list of portfolios.

    running ──every item ended──▶ finished ──────────────────┐
       └──rejection, lateness, operator──▶ stopping ──▶ stopped ┤
                                                             └──way back──▶ going_back ──▶ back

    The way back may begin in every state but the last two.
    """

    artifact = models.ForeignKey(
        "portfolios.Artifact",
        on_delete=models.PROTECT,
        db_column="artifact_sha256",
        related_name="roll_outs",
    )
    state = models.CharField(
        max_length=10, choices=RollOutState.choices, default=RollOutState.RUNNING
    )
    at_a_time = models.PositiveIntegerField(default=1)
    canary_s = models.FloatField(
        null=True,
        help_text="Seconds after which the canary counts as proven; null: once it is good.",
    )
    note = models.CharField(max_length=200, blank=True, default="")
    requested_by = models.CharField(max_length=150, blank=True, default="")
    reason = models.TextField(blank=True, default="", help_text="Why the roll-out stopped.")
    why = models.JSONField(null=True, help_text="`reason` as {code, params}.")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(
        null=True, help_text="When the roll-out reached its final state."
    )

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["id"], condition=Q(state__in=OPEN_ROLL_OUTS), name="roll_out_open")
        ]

    def __str__(self) -> str:
        return f"roll-out {self.pk}: {self.state}"

    @property
    def artifact_sha256(self) -> str:
        """Return the hash of the artifact, without reading it."""
        return self.artifact_id


class RollOutItem(models.Model):
    """One portfolio of a roll-out.

    waiting ──start──▶ changing ──first commit──▶ proving ──good──▶ done ──way back──▶ returning
       │                  └───────────┴──▶ rejected | late | left ─────────┘              │
       └──▶ skipped                                          returned | not_returned ◀────┘

    left: an operator changed, stopped or deleted the portfolio before its revision was proven.
    """

    roll_out = models.ForeignKey(RollOut, on_delete=models.CASCADE, related_name="items")
    portfolio = models.ForeignKey(
        "portfolios.Portfolio", on_delete=models.CASCADE, related_name="roll_out_items"
    )
    position = models.PositiveIntegerField(
        help_text="The portfolio's turn in the roll-out; 0 is the canary."
    )
    state = models.CharField(max_length=12, choices=ItemState.choices, default=ItemState.WAITING)
    since = models.DateTimeField(help_text="When the portfolio entered this state.")
    seen_revision = models.PositiveIntegerField(
        help_text="The revision wanted when the roll-out was created."
    )
    from_revision = models.PositiveIntegerField(
        null=True, help_text="The revision before the roll-out: the way back leads to it."
    )
    to_revision = models.PositiveIntegerField(
        null=True, help_text="The revision that the roll-out made."
    )
    pause_ms = models.FloatField(
        null=True, help_text="The pause in the handoff to the new revision."
    )
    reason = models.TextField(blank=True, default="")
    why = models.JSONField(null=True, help_text="`reason` as {code, params}.")

    class Meta:
        ordering = ["roll_out_id", "position"]
        constraints = [
            # Two roll-outs at once would each take the other's revision for an operator's change.
            models.UniqueConstraint(
                fields=["portfolio"],
                condition=Q(state__in=OPEN_ITEMS),
                name="roll_out_item_one_open",
            ),
            models.UniqueConstraint(fields=["roll_out", "position"], name="roll_out_item_turn"),
        ]

    def __str__(self) -> str:
        return f"{self.portfolio_id} in roll-out {self.roll_out_id}: {self.state}"
