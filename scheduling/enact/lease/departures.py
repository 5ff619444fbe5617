"""End the lease of a daemon that says goodbye, or that was found dead."""

from __future__ import annotations

from uuid import UUID

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query_one
from scheduling.enact.audit_log import audit
from scheduling.enact.notify import bump_desired_versions

GOODBYE = Statement(
    "GOODBYE",
    """
UPDATE scheduling_node n SET status = 'left', status_since = clock_timestamp(), leaving = false
FROM scheduling_lease l
WHERE n.id = %(node)s AND l.node_id = n.id AND l.incarnation = %(incarnation)s
  AND n.status <> 'left'
RETURNING n.id
""",
)

END_LEASE = Statement(
    "END_LEASE",
    """
UPDATE scheduling_lease SET expires_at = least(expires_at, clock_timestamp())
WHERE node_id = %(node)s AND incarnation = %(incarnation)s
RETURNING node_id
""",
)


def record_goodbye(node: int, node_name: str, incarnation: UUID, reason: str) -> Transaction[bool]:
    """End the lease of a daemon that leaves, and mark its node as left. A repeat changes nothing.

    Return False, with nothing changed, if `incarnation` does not hold the node's lease.
    """
    held = yield from query_one(END_LEASE, node=node, incarnation=incarnation)
    left = yield from query_one(GOODBYE, node=node, incarnation=incarnation)
    if left is not None:
        yield from audit("node_left", node=node, actor=node_name, reason=reason)
        yield from bump_desired_versions([node])
    return held is not None


#: Concurrent writer: a new incarnation that registered; its lease stays.
END_OF_DAEMON = Statement(
    "END_OF_DAEMON",
    """
UPDATE scheduling_lease SET expires_at = least(expires_at, clock_timestamp()),
    cut_by = CASE WHEN expires_at > clock_timestamp() THEN 'ended' ELSE cut_by END,
    cut_at = CASE WHEN expires_at > clock_timestamp() THEN clock_timestamp() ELSE cut_at END
WHERE node_id = %(node)s AND incarnation = %(incarnation)s
RETURNING node_id
""",
)


def record_dead_daemon(node: int, incarnation: UUID) -> Transaction[bool]:
    """End the lease of a daemon known to be dead. Return False if `incarnation` does not hold it.

    The node keeps its status: its next daemon takes over its runs, and only the sweep marks it
    lost. If the daemon is alive after all, its next heartbeat renews the lease.
    """
    return (yield from query_one(END_OF_DAEMON, node=node, incarnation=incarnation)) is not None
