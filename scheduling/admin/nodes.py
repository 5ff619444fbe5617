"""Nodes: their state, and actions on them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet, Sum, Value
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from portfolios.models import Portfolio
from scheduling.admin.base import AdminAction, FleetAdmin
from scheduling.admin.display import coloured_state, list_link
from scheduling.admin.labels import label
from scheduling.decide.liveness import LeaseView, status_of
from scheduling.models import Node, NodeStatus
from scheduling.operations.registry import node_actions
from scheduling.presentation.formatting import UNKNOWN
from scheduling.presentation.sentences import revoked_sentence
from scheduling.timing import timing


@admin.register(Node)
class NodeAdmin(FleetAdmin):
    """Nodes with their status, lease and load."""

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
    actions = tuple(
        action.as_action(_("selected nodes"))
        for action in (
            AdminAction(node_actions.DRAIN),
            AdminAction(node_actions.UNDRAIN),
            AdminAction(node_actions.CORDON),
            AdminAction(node_actions.UNCORDON),
            AdminAction(
                node_actions.REVOKE_NODE_TOKENS,
                lambda row, revoked: revoked_sentence(revoked, row.name),
            ),
            AdminAction(node_actions.FORGET_NODE),
        )
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return nodes with everything that the list shows, in one statement."""
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

    @admin.display(description=_("status"), ordering="status")
    def condition(self, row: Any) -> str:
        """Return the status as the other interfaces show it: `suspect` follows from the lease."""
        lease = getattr(row, "lease", None)
        if lease is None:
            return coloured_state(row.status)
        view = LeaseView(
            expires_at=lease.expires_at.timestamp(),
            marked_lost=row.status == NodeStatus.LOST,
            left=row.status == NodeStatus.LEFT,
        )
        return coloured_state(status_of(view, row.now.timestamp(), timing().lease_policy))

    @admin.display(description=_("marks"))
    def marks(self, row: Any) -> str:
        """Return the marks that keep new portfolios off the node."""
        marks = [name for name in ("cordoned", "draining", "leaving") if getattr(row, name)]
        return _(", ").join(str(label(name)) for name in marks) or UNKNOWN

    @admin.display(description=_("lease"), ordering="lease__expires_at")
    def lease_left(self, row: Any) -> str:
        """Return the seconds left of the node's lease, or a dash unless the node is alive."""
        lease = getattr(row, "lease", None)
        if lease is None or row.status != NodeStatus.ALIVE:
            return UNKNOWN
        left_s = (lease.expires_at - row.now).total_seconds()
        return str(_("%(number)s s") % {"number": f"{max(left_s, 0):.1f}"})

    @admin.display(description=_("load"), ordering="used")
    def load(self, row: Any) -> str:
        """Return the sum of the weights that run on the node, and its capacity: `5/8`."""
        return f"{row.used}/{row.capacity}"

    @admin.display(description=_("portfolios"), ordering="runs_count")
    def runs_shown(self, row: Any) -> str:
        """Return the number of portfolios that the node runs, as a link to them."""
        return list_link(Portfolio, str(row.runs_count), run__node__id__exact=row.pk)
