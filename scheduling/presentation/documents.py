"""Documents of single objects, as the API answers them and commands print them with --json."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scheduling.errors import NotFound
from scheduling.models import Control, Handoff, Node, NodeStatus, Storm
from scheduling.observe.fleet_view.read import read_fleet_view, read_portfolio
from scheduling.observe.fleet_view.types import FleetView, NodeView, PortfolioView
from scheduling.operations.moves import MoveOutcome
from scheduling.presentation.serializers.fleet import FreezeDocument, PolicyDocument, StormDocument
from scheduling.presentation.serializers.history import HandoffDocument
from scheduling.presentation.serializers.nodes import NodeDocument
from scheduling.presentation.serializers.portfolios import PortfolioDocument
from scheduling.timing import timing


def node_view(name: str) -> NodeView:
    """Return one node, or raise NotFound. Reads the whole fleet."""
    return find_any_node(read_fleet_view(), name)


def find_any_node(fleet: FleetView, name: str) -> NodeView:
    """Return the node, even if it has only a token yet. Raise NotFound for any other name."""
    for view in fleet.nodes:
        if view.name == name:
            return view
    unregistered = Node.objects.filter(name=name, status=NodeStatus.NEW)
    row = unregistered.filter(tokens__revoked_at__isnull=True, tokens__isnull=False).first()
    if row is None:
        raise NotFound("node", name)
    return NodeView(
        id=row.pk,
        name=row.name,
        status=row.status,
        schedulable=False,
        cordoned=row.cordoned,
        draining=row.draining,
        drain_reason=row.drain_reason,
        drain_actor=row.drain_actor,
        leaving=False,
        capacity=row.capacity,
        labels=row.labels,
        load=0,
        held=0,
        lease_left_s=None,
        lease_ttl_s=timing().lease_ttl_s,
        last_heartbeat_at=None,
        lease_expires_at=None,
        incarnation=None,
        host="",
        pid=None,
        version="",
        python="",
        metrics={},
        status_since=row.status_since,
        portfolios=[],
    )


def node_document(name: str) -> Any:
    """Return the document of one node as operators see it, or raise NotFound."""
    return NodeDocument(node_view(name), context={"operator": True}).data


def portfolio_view(name: str) -> PortfolioView:
    """Return one portfolio, or raise NotFound."""
    view = read_portfolio(name)
    if view is None:
        raise NotFound("portfolio", name)
    return view


def portfolio_document(name: str) -> Any:
    """Return the document of one portfolio, or raise NotFound."""
    return PortfolioDocument(portfolio_view(name)).data


def handoff_document(handoff: Handoff | None) -> Any:
    """Return the document of a handoff; None for None."""
    return None if handoff is None else HandoffDocument(handoff).data


def moved_document(outcomes: Iterable[MoveOutcome]) -> dict[str, Any]:
    """Return what became of each portfolio of a request to move several."""
    results = [
        {
            "portfolio": each.portfolio,
            "handoff": handoff_document(each.handoff),
            "code": each.refused.code if each.refused else None,
            "sentence": each.refused.message if each.refused else None,
        }
        for each in outcomes
    ]
    return {"results": results}


def freeze_document() -> dict[str, Any]:
    """Return whether automatic moves are frozen, and by whom. One statement."""
    control = Control.objects.filter(pk=1).first() or Control()
    document = {
        "frozen": control.frozen_at is not None,
        "at": control.frozen_at,
        "by": control.frozen_by,
        "reason": control.frozen_reason,
        "failover": control.frozen_at is not None and control.freeze_failover,
    }
    return dict(FreezeDocument(document).data)


def storm_document() -> dict[str, Any]:
    """Return whether failover is held, since and until when, by whom and why. One statement."""
    storm = Storm.objects.filter(pk=1, held_at__isnull=False).first() or Storm()
    document = {
        "held": storm.held_at is not None,
        "at": storm.held_at,
        "until": storm.until,
        "by": storm.held_by,
        "reason": storm.reason,
        "nodes": storm.nodes,
        "of_nodes": storm.of_nodes,
    }
    return dict(StormDocument(document).data)


def policy_document() -> dict[str, Any]:
    """Return the policy in force. One statement."""
    control = Control.objects.filter(pk=1).first() or Control()
    return dict(PolicyDocument({"even_by": control.even_by}).data)
