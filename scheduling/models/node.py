"""Execution nodes, their leases, last reports and node-loss forecasts."""

from __future__ import annotations

from django.db import models


class NodeStatus(models.TextChoices):
    """The stored status. `suspect` is not stored: it follows from the lease."""

    NEW = "new"
    ALIVE = "alive"
    LOST = "lost"
    LEFT = "left"


class Node(models.Model):
    """A daemon that hosts portfolios, each in its own process.

    new ──register──▶ alive ──sweep: lease expired──▶ lost ──next heartbeat──▶ alive
                        └──────────goodbye──────────▶ left ──register──▶ alive
    """

    name = models.SlugField(max_length=80, unique=True)
    # Written by operators.
    cordoned = models.BooleanField(default=False)
    draining = models.BooleanField(default=False)
    drain_reason = models.CharField(max_length=200, blank=True, default="")
    drain_actor = models.CharField(max_length=150, blank=True, default="")
    drain_until_return = models.BooleanField(
        default=False,
        db_default=False,
        help_text="The drain ends when its daemon, having left, registers again.",
    )
    label_edits = models.JSONField(
        default=dict,
        blank=True,
        db_default=models.Value({}, models.JSONField()),
        help_text="Label → value in place of its daemon's; null: removed.",
    )
    # Written by the daemon when it registers.
    capacity = models.PositiveIntegerField(default=5, help_text="The sum of weights it can hold.")
    labels = models.JSONField(
        default=dict, blank=True, help_text="Those of its daemon, with the edits of operators."
    )
    reported_labels = models.JSONField(
        default=dict,
        blank=True,
        db_default=models.Value({}, models.JSONField()),
        help_text="Those that its daemon was started with.",
    )
    strategies = models.JSONField(default=dict, blank=True, help_text="Strategy name → version.")
    feeds = models.JSONField(default=dict, blank=True, help_text="Feed name → sha256.")
    host = models.CharField(max_length=255, blank=True, default="")
    pid = models.PositiveIntegerField(null=True, blank=True)
    version = models.CharField(max_length=40, blank=True, default="")
    python = models.CharField(
        max_length=16,
        blank=True,
        default="",
        db_default="",
        help_text="Minor version that computes there; empty: its daemon does not report it.",
    )
    registered_at = models.DateTimeField(null=True, blank=True)
    registrations = models.BigIntegerField(
        default=0, db_default=0, help_text="How often it registered. Only grows."
    )
    # Written by the sweep, by heartbeats and by a goodbye.
    status = models.CharField(
        max_length=8, choices=NodeStatus.choices, default=NodeStatus.NEW, db_index=True
    )
    status_since = models.DateTimeField(auto_now_add=True)
    leaving = models.BooleanField(default=False, help_text="Its daemon was asked to stop.")
    lost_times = models.JSONField(default=list, blank=True, help_text="Newest losses, epoch s.")
    lost_reason = models.TextField(
        blank=True, default="", db_default="", help_text="Why it was last lost."
    )
    lost_why = models.JSONField(null=True, blank=True, help_text="`lost_reason` as {code, params}.")
    # Raised in every transaction that changes this node's desired set.
    desired_version = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Lease(models.Model):
    """A node's right to act. A separate narrow row, since every heartbeat rewrites it."""

    node = models.OneToOneField(
        Node, on_delete=models.CASCADE, primary_key=True, related_name="lease"
    )
    incarnation = models.UUIDField(unique=True)
    renewals = models.BigIntegerField(default=0)
    renewed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    gateway_id = models.UUIDField(
        null=True, help_text="The gateway that made its last heartbeat durable."
    )
    connection = models.UUIDField(null=True, help_text="The websocket that may shorten the lease.")
    socket_gateway_id = models.UUIDField(null=True, help_text="The gateway that holds the socket.")
    socket_lost_at = models.DateTimeField(null=True, help_text="When a socket closed last.")
    socket_loss_pending = models.BooleanField(
        default=False, db_default=False, help_text="The sweep has not judged that loss yet."
    )
    taken_at = models.DateTimeField(help_text="When this incarnation registered.")
    takeovers = models.JSONField(default=list, help_text="Takeovers of a beating one, epoch s.")
    cut_by = models.CharField(
        max_length=8,
        blank=True,
        default="",
        db_default="",
        help_text="Why it ends before a TTL: closed, ended or unheard; empty: it does not.",
    )
    cut_at = models.DateTimeField(null=True, help_text="When its connection closed, or the like.")

    def __str__(self) -> str:
        return f"lease of {self.node_id} until {self.expires_at:%H:%M:%S}"


class NodeReport(models.Model):
    """The newest heartbeat: metrics, and each portfolio process with its epoch and lag."""

    node = models.OneToOneField(
        Node, on_delete=models.CASCADE, primary_key=True, related_name="report"
    )
    at = models.DateTimeField()
    metrics = models.JSONField(default=dict)
    portfolios = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"report of {self.node_id}"


class Resilience(models.Model):
    """The newest node-loss forecast for a living node."""

    node = models.OneToOneField(
        Node, on_delete=models.CASCADE, primary_key=True, related_name="resilience"
    )
    as_of = models.DateTimeField(help_text="Of the look at the fleet that it was true for.")
    runs = models.PositiveIntegerField(help_text="Portfolios that would need another place.")
    fit = models.PositiveIntegerField(help_text="Of them, those that would have one at once.")
    homeless = models.PositiveIntegerField(help_text="Portfolios that would have no place.")
    waiting = models.PositiveIntegerField(help_text="Portfolios that would have to wait for one.")
    # [{"code", "params", "portfolios": [names]}]: most unplaced portfolios share one reason.
    reasons = models.JSONField(default=list)
    suspects = models.JSONField(default=list, help_text="Suspect nodes that were counted.")

    def __str__(self) -> str:
        return f"loss of node {self.node_id}: {self.homeless} without a place"
