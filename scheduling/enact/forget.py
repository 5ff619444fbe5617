"""Forget a node that is gone for good: remove it from every list, keep its name in history."""

from __future__ import annotations

from portfolios.sentences import abbreviate
from portfolios.sentences import sentence as _
from scheduling.db.statements import ACTIVE_HANDOFF_STATES, Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.enact.audit_log import audit
from scheduling.enact.notify import notify_watchers
from scheduling.enact.pin import unpin
from scheduling.errors import NotFound, Refused

#: No joins: after a wait for a register, a joined node would be read as it was before the wait.
LOCK_LEASE = Statement(
    "LOCK_LEASE",
    """
SELECT node_id FROM scheduling_lease
WHERE node_id = (SELECT id FROM scheduling_node WHERE name = %(name)s) FOR UPDATE
""",
)

LEASE = Statement(
    "LEASE",
    """
SELECT n.id, l.expires_at > clock_timestamp() AND n.status IN ('alive', 'lost') AS valid,
       extract(epoch FROM l.expires_at - clock_timestamp())::float AS left_s, n.host, n.pid
FROM scheduling_lease l JOIN scheduling_node n ON n.id = l.node_id
WHERE n.name = %(name)s
""",
)

#: Runs pinned to the node change too, so lock all of them before the node's row.
LOCK_RUNS = Statement(
    "LOCK_RUNS",
    """
SELECT r.portfolio_id, p.name, r.node_id IS NOT DISTINCT FROM n.id AS owned
FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
JOIN scheduling_node n ON n.id IN (r.node_id, r.pinned_node_id)
WHERE n.name = %(name)s ORDER BY r.portfolio_id FOR UPDATE OF r
""",
)

LOCK_NODE = Statement(
    "LOCK_NODE",
    f"""
SELECT n.id, n.status,
       EXISTS (SELECT FROM scheduling_nodetoken t
               WHERE t.node_id = n.id AND t.revoked_at IS NULL) AS has_token,
       (SELECT count(*) FROM scheduling_handoff h
        WHERE h.state IN {ACTIVE_HANDOFF_STATES}
          AND (h.source_node_id = n.id OR h.target_node_id = n.id)) AS handoffs
FROM scheduling_node n WHERE n.name = %(name)s FOR NO KEY UPDATE OF n
""",
)

#: Reset the node to its state before it first registered. Concurrent writer: its daemon, whose
#: registration waited for the lease. It passes, and the node returns, if the gateway still has the
#: revoked token in its cache, where it stays for two seconds.
FORGET = Statement(
    "FORGET",
    """
WITH ended AS (
    DELETE FROM scheduling_lease WHERE node_id = %(node)s
), unreported AS (
    DELETE FROM scheduling_nodereport WHERE node_id = %(node)s
), revoked AS (
    UPDATE scheduling_nodetoken SET revoked_at = clock_timestamp()
    WHERE node_id = %(node)s AND revoked_at IS NULL RETURNING id
)
UPDATE scheduling_node SET status = 'new', status_since = clock_timestamp(), cordoned = false,
    draining = false, drain_reason = '', drain_actor = '', drain_until_return = false,
    leaving = false, lost_times = '[]',
    labels = '{}', reported_labels = '{}', label_edits = '{}', host = '', pid = NULL, version = '',
    registered_at = NULL
WHERE id = %(node)s
RETURNING (SELECT count(*) FROM revoked) AS tokens
""",
)


def forget(name: str, *, actor: str, reason: str) -> Transaction[None]:
    """Forget the node, revoke its tokens and clear pins to it.

    Raise Refused while its lease is valid, it owns a portfolio or is in a handoff; NotFound if no
    node has this name or it was forgotten already.
    """
    yield from query(LOCK_LEASE, name=name)
    lease = yield from query_one(LEASE, name=name)
    if lease is not None and lease.valid:
        raise Refused(
            "lease_valid",
            _(
                "Node {name} cannot be forgotten: its lease is valid for another "
                "{left_s:.0f} s (host {host}, pid {pid}); stop its daemon first.",
                name=name,
                left_s=lease.left_s,
                host=lease.host,
                pid=lease.pid,
            ),
        )
    runs = yield from query(LOCK_RUNS, name=name)
    node = yield from query_one(LOCK_NODE, name=name)
    if node is None or (node.status == "new" and not node.has_token):
        raise NotFound("node", name)
    owned = [row.name for row in runs if row.owned]
    if owned:
        raise Refused(
            "node_owns",
            _(
                "Node {name} cannot be forgotten: it still owns {owned}; move or stop "
                "what it owns first.",
                name=name,
                owned=abbreviate(owned),
            ),
            portfolios=owned,
        )
    if node.handoffs:
        raise Refused(
            "handoff_in_progress",
            _(
                "Node {name} cannot be forgotten. Handoffs from or to it that are under way: "
                "{handoffs}; wait until they have ended.",
                name=name,
                handoffs=node.handoffs,
            ),
        )
    gone = yield from query_one(FORGET, node=node.id)
    assert gone is not None
    yield from unpin(
        [row.portfolio_id for row in runs],
        node=node.id,
        actor=actor,
        reason=f"{name} was forgotten",
    )
    yield from audit(
        "node_forgotten", node=node.id, actor=actor, reason=reason, tokens_revoked=gone.tokens
    )
    yield from notify_watchers()
