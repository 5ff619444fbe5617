"""Documents of single objects, as the API answers them and commands print them with --json."""

from __future__ import annotations

from typing import Any

from scheduling.errors import NotFound
from scheduling.models import Control, Handoff, Node, NodeStatus, Storm
from scheduling.observe.fleet_view import NodeView, PortfolioView, read_fleet_view, read_portfolio
from scheduling.presentation.serializers import (
    FreezeDocument,
    HandoffDocument,
    NodeDocument,
    PolicyDocument,
    PortfolioDocument,
    StormDocument,
)
from scheduling.timing import timing


def node_line(name: str) -> NodeView:
    """Return the board's line of one node, or raise NotFound."""
    for line in read_fleet_view().nodes:
        if line.name == name:
            return line
    unborn = Node.objects.filter(name=name, status=NodeStatus.NEW)
    row = unborn.filter(tokens__revoked_at__isnull=True, tokens__isnull=False).first()
    if row is None:
        raise NotFound("node", name)
    return _unborn(row)


def _unborn(row: Node) -> NodeView:
    """Return the line of a node that has a token but never registered; no board shows it."""
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
    """Return an operator's document of one node, or raise NotFound."""
    return NodeDocument(node_line(name), context={"operator": True}).data


def portfolio_line(name: str) -> PortfolioView:
    """Return the board's line of one portfolio, or raise NotFound."""
    line = read_portfolio(name)
    if line is None:
        raise NotFound("portfolio", name)
    return line


def portfolio_document(name: str) -> Any:
    """Return the document of one portfolio, or raise NotFound."""
    return PortfolioDocument(portfolio_line(name)).data


def handoff_document(handoff: Handoff | None) -> Any:
    """Return the document of a handoff just made, or None."""
    return None if handoff is None else HandoffDocument(handoff).data


def freeze_document() -> dict[str, Any]:
    """Return whether automatic moves are held, and by whom. One statement."""
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
    """Return whether failover is held, and by whom. One statement."""
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
