"""Nodes: how they are, and acts on them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet, Sum, Value
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest

from portfolios.models import Portfolio
from scheduling import operations
from scheduling.admin.base import AdminAction, FleetAdmin, acting
from scheduling.admin.display import PLACEHOLDER, list_link, word
from scheduling.decide.liveness import LeaseView, status_of
from scheduling.models import Node, NodeStatus
from scheduling.presentation.sentences import revoked_sentence
from scheduling.timing import timing


def _drain(row: Node, actor: str, fields: dict[str, str]) -> str:
    operations.drain(row.name, actor=actor, reason=fields.get("reason", ""))
    return f"{row.name} is draining: what it has is handed off, one after the other."


def _undrain(row: Node, actor: str, fields: dict[str, str]) -> str:
    operations.undrain(row.name, actor=actor)
    return f"{row.name} is no longer draining."


def _cordon(row: Node, actor: str, fields: dict[str, str]) -> str:
    operations.cordon(row.name, actor=actor, reason=fields.get("reason", ""))
    return f"{row.name} is cordoned: what runs there stays."


def _uncordon(row: Node, actor: str, fields: dict[str, str]) -> str:
    operations.uncordon(row.name, actor=actor)
    return f"{row.name} is no longer cordoned."


def _forget(row: Node, actor: str, fields: dict[str, str]) -> str:
    operations.forget_node(row.name, actor=actor, reason=fields.get("reason", ""))
    return f"{row.name} is forgotten; its tokens are revoked."


def _revoke(row: Node, actor: str, fields: dict[str, str]) -> str:
    revoked = operations.revoke_node_tokens(row.name, actor=actor, reason=fields.get("reason", ""))
    return revoked_sentence(revoked, row.name)


DRAIN = AdminAction(
    verb="Drain",
    consequence="Nothing new is placed on these nodes, and what they have is handed off, make "
    "before break. What finds no other node stays, with the reason on its row.",
    do=_drain,
)
UNDRAIN = AdminAction(
    verb="End the drain of",
    consequence="Portfolios may be placed on these nodes again.",
    do=_undrain,
    reason=False,
)
CORDON = AdminAction(
    verb="Cordon",
    consequence="Nothing new is placed on these nodes; what runs there stays.",
    do=_cordon,
)
UNCORDON = AdminAction(
    verb="Uncordon",
    consequence="Portfolios may be placed on these nodes again.",
    do=_uncordon,
    reason=False,
)


FORGET = AdminAction(
    verb="Forget",
    consequence="These nodes leave every list and their tokens are revoked; their history keeps "
    "the name. Refused while a lease is valid or a portfolio is owned.",
    do=_forget,
)
REVOKE = AdminAction(
    verb="Revoke the tokens of",
    consequence="The daemons of these nodes are refused from now on and end; their portfolios "
    "move when their leases are over.",
    do=_revoke,
)


@admin.register(Node)
class NodeAdmin(FleetAdmin):
    """How each node is."""

    list_display = (
        "name",
        "condition",
        "lease_left",
        "load",
        "runs_shown",
        "marks",
        "host",
        "pid",
        "version",
        "python",
    )
    list_filter = ("status", "cordoned", "draining")
    search_fields = ("name", "host")
    readonly_fields = ("condition", "lease_left", "load", "runs_shown", "marks")
    actions = (
        acting("Drain…", DRAIN),
        acting("End drain…", UNDRAIN),
        acting("Cordon…", CORDON),
        acting("Uncordon…", UNCORDON),
        acting("Revoke tokens…", REVOKE),
        acting("Forget…", FORGET),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return nodes with everything the list shows, in one statement."""
        return (
            super()
            .get_queryset(request)
            .select_related("lease")
            .annotate(
                now=Now(),
                used=Coalesce(Sum("runs__portfolio__weight"), Value(0)),
                runs_count=Count("runs"),
            )
        )

    @admin.display(description="status", ordering="status")
    def condition(self, row: Any) -> str:
        """Return the status as everybody else sees it: `suspect` is read off the lease."""
        lease = getattr(row, "lease", None)
        if lease is None:
            return word(row.status)
        view = LeaseView(
            expires_at=lease.expires_at.timestamp(),
            marked_lost=row.status == NodeStatus.LOST,
            left=row.status == NodeStatus.LEFT,
        )
        return word(status_of(view, row.now.timestamp(), timing().lease_policy))

    @admin.display(description="marks")
    def marks(self, row: Any) -> str:
        """Return what keeps new portfolios off it, in words; nothing on a node like any other."""
        marks = [name for name in ("cordoned", "draining", "leaving") if getattr(row, name)]
        return ", ".join(marks) or PLACEHOLDER

    @admin.display(description="lease", ordering="lease__expires_at")
    def lease_left(self, row: Any) -> str:
        """Return the seconds its lease has left."""
        lease = getattr(row, "lease", None)
        if lease is None or row.status != NodeStatus.ALIVE:
            return PLACEHOLDER
        left_s = (lease.expires_at - row.now).total_seconds()
        return f"{max(left_s, 0):.1f} s"

    @admin.display(ordering="used")
    def load(self, row: Any) -> str:
        """Return the weights it runs, of those it can."""
        return f"{row.used}/{row.capacity}"

    @admin.display(description="portfolios", ordering="runs_count")
    def runs_shown(self, row: Any) -> str:
        """Return a link to what it runs."""
        return list_link(Portfolio, str(row.runs_count), run__node__id__exact=row.pk)
