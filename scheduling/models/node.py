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

    new ──register──▶ alive ──sweep: lease expired──▶ lost ──heartbeat or register──▶ alive
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
        help_text="The drain ends when the node's daemon has left and registers again.",
    )
    label_edits = models.JSONField(
        default=dict,
        blank=True,
        db_default=models.Value({}, models.JSONField()),
        help_text="Edits by operators: label → new value; null: the label is removed.",
    )
    # Written by the daemon when it registers.
    capacity = models.PositiveIntegerField(
        default=5, help_text="The highest sum of weights of the portfolios that run on the node."
    )
    labels = models.JSONField(
        default=dict,
        blank=True,
        help_text="The labels of the node's daemon, with the edits of operators.",
    )
    reported_labels = models.JSONField(
        default=dict,
        blank=True,
        db_default=models.Value({}, models.JSONField()),
        help_text="The labels with which the node's daemon was started.",
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
        help_text="Minor version of the node's Python; empty: the daemon does not report it.",
    )
    registered_at = models.DateTimeField(null=True, blank=True)
    registrations = models.BigIntegerField(
        default=0, db_default=0, help_text="How often the node has registered. Only grows."
    )
    # Written by the sweep, by heartbeats and by a goodbye.
    status = models.CharField(
        max_length=8, choices=NodeStatus.choices, default=NodeStatus.NEW, db_index=True
    )
    status_since = models.DateTimeField(auto_now_add=True)
    leaving = models.BooleanField(default=False, help_text="The node's daemon was asked to stop.")
    lost_times = models.JSONField(
        default=list, blank=True, help_text="Times of the newest losses, in seconds since 1970."
    )
    lost_reason = models.TextField(
        blank=True, default="", db_default="", help_text="Why the node was last lost."
    )
    lost_why = models.JSONField(null=True, blank=True, help_text="`lost_reason` as {code, params}.")
    # Raised in every transaction that changes this node's desired set.
    desired_version = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Lease(models.Model):
    """The time for which a node counts as alive, in a narrow row that each heartbeat rewrites."""

    node = models.OneToOneField(
        Node, on_delete=models.CASCADE, primary_key=True, related_name="lease"
    )
    incarnation = models.UUIDField(unique=True)
    renewals = models.BigIntegerField(default=0)
    renewed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    gateway_id = models.UUIDField(
        null=True, help_text="The gateway that stored the last heartbeat."
    )
    connection = models.UUIDField(
        null=True, help_text="The websocket whose closing may shorten the lease."
    )
    socket_gateway_id = models.UUIDField(null=True, help_text="The gateway that holds the socket.")
    socket_lost_at = models.DateTimeField(
        null=True, help_text="When a websocket of the node last closed."
    )
    socket_loss_pending = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Whether the sweep has yet to judge the closing of that websocket.",
    )
    taken_at = models.DateTimeField(help_text="When this incarnation registered.")
    takeovers = models.JSONField(
        default=list, help_text="When daemons took over a name in use, in seconds since 1970."
    )
    cut_by = models.CharField(
        max_length=8,
        blank=True,
        default="",
        db_default="",
        help_text="Why the lease was shortened: closed, ended or unheard; empty: it was not.",
    )
    cut_at = models.DateTimeField(
        null=True, help_text="When the cause in `cut_by` occurred, such as the connection closed."
    )

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
    as_of = models.DateTimeField(help_text="When the fleet was read for this forecast.")
    runs = models.PositiveIntegerField(help_text="Portfolios that would need another place.")
    fit = models.PositiveIntegerField(help_text="Portfolios that would have another place at once.")
    homeless = models.PositiveIntegerField(help_text="Portfolios that would have no place.")
    waiting = models.PositiveIntegerField(
        help_text="Portfolios that would have to wait for a place."
    )
    # [{"code", "params", "portfolios": [names]}]: most unplaced portfolios share one reason.
    reasons = models.JSONField(default=list)
    suspects = models.JSONField(
        default=list, help_text="Suspect nodes that the forecast counts as places."
    )

    def __str__(self) -> str:
        return f"loss of node {self.node_id}: {self.homeless} without a place"
