"""The hold of failover; alerts, with their channels and messages."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.db import models

from scheduling.models.node import Node

#: Kinds whose reason is that of the portfolio's run.
OF_RUNS = ("pending", "quarantined", "halted")


class Storm(models.Model):
    """A hold of failover: in a storm, or by an operator. One row.

    calm ──storm──▶ held for one lease ──over, released──▶ calm
      └───hold────▶ held until released ──released──▶ calm

    A hold by an operator extends one by a storm: it then lasts until it is released.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    held_at = models.DateTimeField(
        null=True, help_text="When the hold began; null: failover is not held."
    )
    until = models.DateTimeField(
        null=True,
        help_text="When the hold ends by itself; null in a hold: an operator releases it.",
    )
    nodes = models.JSONField(
        default=list, help_text="Names of the nodes lost in the storm; empty: held by an operator."
    )
    of_nodes = models.PositiveIntegerField(
        default=0, help_text="How many nodes were alive one lease before the storm."
    )
    held_by = models.CharField(max_length=150, blank=True, default="")
    reason = models.CharField(max_length=200, blank=True, default="")
    ended_at = models.DateTimeField(
        null=True, help_text="When the last hold ended; earlier losses count for no further storm."
    )

    def __str__(self) -> str:
        return "failover held" if self.held_at else "calm"


class Alert(models.Model):
    """A cause that an operator should look at: opened once, closed when the cause is gone.

    open ──cause gone──▶ closed ──the same cause within ten minutes──▶ open, times + 1

    From the second time on, the cause has to be absent for a while before the alert closes, twice
    as long each time, so that a recurring cause is one alert and not many.
    """

    kind = models.CharField(max_length=24)
    key = models.CharField(
        max_length=80, help_text="What the alert is about, such as node:3, portfolio:12 or fleet."
    )
    portfolio = models.ForeignKey(
        "portfolios.Portfolio", on_delete=models.SET_NULL, null=True, related_name="alerts"
    )
    node = models.ForeignKey(Node, on_delete=models.SET_NULL, null=True, related_name="alerts")
    reason = models.TextField(blank=True, default="")
    times = models.PositiveIntegerField(default=1)
    opened_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True, help_text="Since when the cause has been gone.")
    closed_at = models.DateTimeField(null=True)
    # Written by operators; a cause that returns is to be acknowledged again.
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=150, blank=True, default="", db_default="")
    acknowledged_note = models.CharField(max_length=200, blank=True, default="", db_default="")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "key"],
                condition=models.Q(closed_at__isnull=True),
                name="alert_one_open",
            )
        ]
        indexes = [models.Index(fields=["kind", "key", "-id"], name="alert_cause")]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"

    @property
    def why(self) -> dict[str, Any] | None:
        """Return the reason as data, from a portfolio's run or a node's last loss.

        Return None for other alerts, and once the run has another reason.
        """
        if self.kind in OF_RUNS and self.portfolio is not None:
            run = getattr(self.portfolio, "run", None)
            return run.why if run is not None and run.reason == self.reason else None
        if self.kind != "node_lost" or self.node is None or self.node.lost_why is None:
            return None
        since = self.node.status_since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        loss = self.node.lost_why["params"]
        return {
            "code": "node_lost",
            "params": {"node": self.node.name, "since": since, "loss": loss},
        }


class AlertChannel(models.Model):
    """Where alerts are sent. Its address is a secret of the same name with the prefix `alerts-`."""

    name = models.SlugField(max_length=60, unique=True)
    enabled = models.BooleanField(default=True)
    from_environment = models.BooleanField(
        default=False, help_text="The address of the channel comes from GINKGO_ALERT_URL."
    )
    created_by = models.CharField(max_length=150, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def secret(self) -> str:
        """Return the name of the secret that holds the address of the channel."""
        return f"alerts-{self.name}"


class MessageState(models.TextChoices):
    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"


class AlertMessage(models.Model):
    """One message to one channel: that an alert was opened, that it is over, or a test message.

    waiting ──accepted──▶ sent
       └──too often, too late, channel gone──▶ failed
    """

    # Without a constraint: an alert is deleted as it ages, whatever messages name it.
    alert = models.ForeignKey(
        Alert, on_delete=models.DO_NOTHING, null=True, db_constraint=False, related_name="messages"
    )
    channel = models.ForeignKey(AlertChannel, on_delete=models.CASCADE, related_name="messages")
    what = models.CharField(max_length=12, help_text="opened, closed or test")
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True, default="")
    state = models.CharField(
        max_length=8, choices=MessageState.choices, default=MessageState.WAITING
    )
    at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    next_try_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True, default="", db_default="")

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["next_try_at"],
                condition=models.Q(state="waiting"),
                name="alert_message_waiting",
            ),
            models.Index(fields=["at"], name="alert_message_at"),
        ]

    def __str__(self) -> str:
        return f"{self.title} to {self.channel}: {self.state}"
