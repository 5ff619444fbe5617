"""Views of nodes, from their rows, leases and reports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from scheduling.decide.liveness import LeasePolicy, LeaseView, status_of
from scheduling.decide.reasons import as_data, render
from scheduling.decide.types import Reason
from scheduling.observe.fleet_view.types import LossView, NodeView
from scheduling.observe.view_fields import same_named


def node_view(
    row: Any, now: datetime, owned: list[Any], held: int, policy: LeasePolicy
) -> NodeView:
    """Return the view of a node from a row of NODES.

    `owned`: the rows of its portfolios. `held`: the places that handoffs to the node will take.
    """
    expires = row.expires_at
    status = node_status(row, now, policy)
    away = status in ("lost", "left")
    reason, why = _reason(row, status, now, policy)
    fields = same_named(NodeView, row) | {
        "status": status,
        "schedulable": not (away or row.cordoned or row.draining or row.leaving),
        "load": sum(run.weight for run in owned),
        "held": held,
        "lease_left_s": None if expires is None else max((expires - now).total_seconds(), 0.0),
        "lease_ttl_s": policy.ttl_s,
        "last_heartbeat_at": row.renewed_at,
        "lease_expires_at": expires,
        "incarnation": None if row.incarnation is None else str(row.incarnation),
        "metrics": {} if away or row.metrics is None else row.metrics,
        "reason": reason,
        "why": why,
        "portfolios": [run.name for run in owned],
        # For a node without portfolios a forecast says nothing.
        "loss": LossView(**same_named(LossView, row)) if row.as_of is not None and owned else None,
    }
    return NodeView(**fields)


def node_status(row: Any, now: datetime, policy: LeasePolicy) -> str:
    """Return the status of a node by its row of NODES: lost or left, else that of its lease."""
    lease = LeaseView(
        expires_at=None if row.expires_at is None else row.expires_at.timestamp(),
        marked_lost=row.status == "lost",
        left=row.status == "left",
    )
    return status_of(lease, now.timestamp(), policy)


def _reason(
    row: Any, status: str, now: datetime, policy: LeasePolicy
) -> tuple[str, dict[str, Any] | None]:
    """Return why the node is lost or suspect, as (sentence, data); ("", None) if not known."""
    if status == "lost":
        return row.lost_reason, row.lost_why
    if status != "suspect" or row.renewed_at is None:
        return "", None
    # A closed connection cuts the lease short.
    closed = row.cut_at if row.cut_by == "closed" else None
    reason = Reason(
        "suspect",
        {
            "closed_at": None if closed is None else f"{closed:%Y-%m-%dT%H:%M:%SZ}",
            "silent_s": round((now - row.renewed_at).total_seconds()),
            "limit_s": policy.ttl_s,
        },
    )
    return render(reason), as_data(reason)
