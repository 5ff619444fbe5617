"""Sockets of nodes: a close shortens the lease, unless the control plane may be the cause."""

from __future__ import annotations

from uuid import UUID

from scheduling.db.statements import GATEWAY_FIT, Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.enact.notify import notify_watchers
from scheduling.timing import Timing

CONNECT = Statement(
    "CONNECT",
    """
UPDATE scheduling_lease SET connection = %(connection)s, socket_gateway_id = %(gateway)s,
    socket_loss_pending = false
WHERE node_id = %(node)s AND incarnation = %(incarnation)s RETURNING node_id
""",
)

#: Concurrent writer: a newer socket or incarnation. Then there is no such connection any more.
SOCKET_LOST = Statement(
    "SOCKET_LOST",
    """
UPDATE scheduling_lease SET connection = NULL, socket_lost_at = clock_timestamp(),
    socket_loss_pending = true
WHERE node_id = %(node)s AND connection = %(connection)s RETURNING node_id
""",
)


def record_socket(
    node: int, incarnation: UUID, connection: UUID, gateway: UUID
) -> Transaction[bool]:
    """Record that a node opened a socket. Return False if `incarnation` does not hold its lease."""
    row = yield from query_one(
        CONNECT, node=node, incarnation=incarnation, connection=connection, gateway=gateway
    )
    return row is not None


def record_socket_loss(node: int, connection: UUID) -> Transaction[bool]:
    """Record that the socket of a node closed. The sweep, which sees all sockets, judges the close.

    Return False if `connection` is not the node's newest socket, or its close was recorded before.
    """
    row = yield from query_one(SOCKET_LOST, node=node, connection=connection)
    if row is not None:
        yield from notify_watchers()
    return row is not None


#: Sockets that close within this time of one another may have one cause.
SIMULTANEOUS_S = 1.0

JUDGE_SOCKETS = Statement(
    "JUDGE_SOCKETS",
    f"""
WITH due AS MATERIALIZED (
    SELECT l.node_id, l.socket_gateway_id, least(l.socket_lost_at, clock_timestamp()) AS at
    FROM scheduling_lease l
    WHERE l.socket_loss_pending
      AND l.socket_lost_at NOT BETWEEN clock_timestamp() - make_interval(secs => %(wait_s)s)
          AND clock_timestamp() + interval '1 s'  -- the clock was set back
    -- Concurrent writers: a heartbeat, a new socket. The next sweep judges a lease that is locked.
    ORDER BY l.node_id FOR UPDATE SKIP LOCKED
), around AS (
    -- For each loss: how many sockets were lost about that time, and how many there were. A loss
    -- counts even if its node has a new socket by now.
    SELECT d.node_id, count(*) FILTER (WHERE w.lost) AS lost,
           count(*) FILTER (WHERE w.lost OR w.connection IS NOT NULL) AS sockets
    FROM due d CROSS JOIN LATERAL (
        SELECT o.connection, coalesce(abs(extract(epoch FROM o.socket_lost_at - d.at))
                                      <= %(wait_s)s, false) AS lost
        FROM scheduling_lease o JOIN scheduling_node n ON n.id = o.node_id
        WHERE n.status = 'alive'
    ) w
    GROUP BY d.node_id
)
UPDATE scheduling_lease l SET socket_loss_pending = false,
    expires_at = CASE WHEN j.counts AND j.ends < l.expires_at THEN j.ends ELSE l.expires_at END,
    -- Only if the lease would have lasted longer: otherwise its end has another cause.
    cut_by = CASE WHEN j.counts AND j.ends < l.expires_at THEN 'closed' ELSE l.cut_by END,
    cut_at = CASE WHEN j.counts AND j.ends < l.expires_at THEN j.at ELSE l.cut_at END
FROM (
    SELECT d.node_id, d.at, d.at + make_interval(secs => %(grace_s)s) AS ends,
           a.lost < greatest(2, a.sockets / 2.0) AND EXISTS (
               SELECT FROM scheduling_gateway g
               WHERE g.id = d.socket_gateway_id AND {GATEWAY_FIT}) AS counts
    FROM due d JOIN around a ON a.node_id = d.node_id
) j
WHERE l.node_id = j.node_id
""",
)


def judge_socket_losses(timing: Timing) -> Transaction[None]:
    """Shorten the leases of nodes whose sockets closed, unless the control plane may be the cause.

    A lease then ends `socket_grace_s` after the close. It stays as it is if half of all sockets,
    and at least two, closed within SIMULTANEOUS_S (the cause may be a proxy, a network or a web
    process), or if the gateway that reported the close is not fit: it may have been frozen.
    """
    yield from query(
        JUDGE_SOCKETS,
        wait_s=SIMULTANEOUS_S,
        grace_s=timing.socket_grace_s,
        gap_s=timing.pulse_gap_s,
    )
