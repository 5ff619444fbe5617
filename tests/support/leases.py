"""Helpers of the tests of leases."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from scheduling.db.transaction import execute
from scheduling.enact.lease import judge_socket_losses, mark_lost, record_socket, record_socket_loss
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Lease
from scheduling.timing import timing
from tests.support.factories import FakeNode, ago


def lease() -> Lease:
    return Lease.objects.get()


def left_s() -> float:
    """Return the seconds that are left of the only lease."""
    return (lease().expires_at - datetime.now(UTC)).total_seconds()


def mark_lost_nodes() -> list[str]:
    """Mark the nodes whose leases have expired, and return their names."""
    return [row.name for row in execute(mark_lost(timing()))]


def connect(node: FakeNode) -> UUID:
    """Record that a socket of the node has opened. Return the id of the connection."""
    connection = uuid4()
    assert execute(record_socket(node.row.pk, node.incarnation, connection, GATEWAY_ID)) is True
    return connection


def close(node: FakeNode, connection: UUID, seconds_ago: float = 1.1) -> bool:
    """Record that a socket closed `seconds_ago`, and let the sweep judge it.

    Return False if a newer socket or incarnation has replaced it, or its loss was known.
    """
    recorded = execute(record_socket_loss(node.row.pk, connection))
    Lease.objects.filter(node=node.row, socket_loss_pending=True).update(
        socket_lost_at=ago(seconds_ago)
    )
    execute(judge_socket_losses(timing()))
    return recorded
