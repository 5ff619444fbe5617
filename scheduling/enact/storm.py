"""Hold failover in a storm: if many nodes are lost at once, failover waits for one lease.

The cause is more often the network, or the control plane, than all the nodes. Nodes that send
heartbeats meanwhile are alive and keep their portfolios. Nothing else is held: register, place,
stop and operators' requests go on. The hold is a row, so that it survives a restart.
"""

from __future__ import annotations

from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.decide.liveness import assess_losses_of_rows
from scheduling.enact.audit_log import audit
from scheduling.enact.notify import notify_watchers
from scheduling.timing import Timing

#: What a storm is judged by: every node with its lease, and the present or last hold.
SEEN = Statement(
    "SEEN",
    """
SELECT n.name, n.status, extract(epoch FROM n.status_since)::float AS status_since, n.lost_times,
       extract(epoch FROM l.expires_at)::float AS expires_at,
       extract(epoch FROM clock_timestamp())::float AS now,
       extract(epoch FROM s.ended_at)::float AS ended_at, s.ended_at AS ended_timestamp,
       s.held_at IS NOT NULL AS held
FROM scheduling_node n LEFT JOIN scheduling_lease l ON l.node_id = n.id
LEFT JOIN scheduling_storm s ON true
WHERE n.status <> 'new' ORDER BY n.name
""",
)

OPEN = Statement(
    "OPEN",
    """
INSERT INTO scheduling_storm AS s (id, held_at, until, nodes, of_nodes, held_by, reason, ended_at)
VALUES (1, clock_timestamp(), clock_timestamp() + make_interval(secs => %(ttl_s)s), %(nodes)s,
        %(of)s, '', '', NULL)
-- Concurrent writer: another watcher that saw the same storm, or an operator who holds or has just
-- released failover.
ON CONFLICT (id) DO UPDATE SET held_at = excluded.held_at, until = excluded.until,
    nodes = excluded.nodes, of_nodes = excluded.of_nodes, held_by = '', reason = ''
    WHERE s.held_at IS NULL AND s.ended_at IS NOT DISTINCT FROM %(ended)s
RETURNING held_at
""",
)

#: A clock that was set back must neither extend a hold nor make its losses count again.
CLAMP = Statement(
    "CLAMP",
    """
-- A NULL stays NULL; least() alone would replace it.
UPDATE scheduling_storm SET
    ended_at = CASE WHEN ended_at IS NOT NULL THEN least(ended_at, clock_timestamp()) END,
    until = CASE WHEN until IS NOT NULL
        THEN least(until, clock_timestamp() + make_interval(secs => %(ttl_s)s)) END
WHERE until > clock_timestamp() + make_interval(secs => %(ttl_s)s)
   OR ended_at > clock_timestamp()
""",
)

#: A hold by an operator does not expire.
CLOSE = Statement(
    "CLOSE",
    """
UPDATE scheduling_storm SET held_at = NULL, until = NULL, ended_at = clock_timestamp()
-- Concurrent writer: an operator who releases it, or extends it, which clears `until`.
WHERE held_at IS NOT NULL AND until < clock_timestamp()
RETURNING id
""",
)

RELEASE = Statement(
    "RELEASE",
    """
UPDATE scheduling_storm SET held_at = NULL, until = NULL, held_by = '', reason = '',
    ended_at = clock_timestamp()
WHERE held_at IS NOT NULL
RETURNING id
""",
)

#: Hold failover until it is released; a hold by a storm is extended.
HOLD_FAILOVER = """
INSERT INTO scheduling_storm AS s (id, held_at, until, nodes, of_nodes, held_by, reason, ended_at)
VALUES (1, clock_timestamp(), NULL, '[]', 0, %(actor)s::text, %(reason)s::text, NULL)
ON CONFLICT (id) DO UPDATE SET held_by = excluded.held_by, reason = excluded.reason, until = NULL,
    held_at = coalesce(s.held_at, excluded.held_at),
    nodes = CASE WHEN s.held_at IS NULL THEN '[]' ELSE s.nodes END,
    of_nodes = CASE WHEN s.held_at IS NULL THEN 0 ELSE s.of_nodes END
"""

HOLD = Statement("HOLD", f"{HOLD_FAILOVER} RETURNING held_at")


def update_storm_hold(timing: Timing) -> Transaction[bool]:
    """Hold failover in a new storm; end a hold that has expired. Return whether either was done.

    Each hold begins and ends once, regardless of the number of watchers.
    """
    yield from query(CLAMP, ttl_s=timing.lease_ttl_s)  # in case the clock was set back
    over = yield from query_one(CLOSE)
    if over is not None:
        reason = f"held for {timing.lease_ttl_s:g} s; failover goes on, a few portfolios per pass"
        yield from audit("storm_over", actor="sweep", reason=reason)
        yield from notify_watchers()
        return True
    rows = yield from query(SEEN)
    if not rows or rows[0].held:
        return False
    seen = assess_losses_of_rows(rows, rows[0].now, rows[0].ended_at, timing.lease_policy)
    if not seen.storm:
        return False
    opened = yield from query_one(
        OPEN,
        ttl_s=timing.lease_ttl_s,
        nodes=Jsonb(list(seen.gone)),
        of=seen.alive_before,
        ended=rows[0].ended_timestamp,
    )
    if opened is None:
        return False
    yield from audit(
        "storm_held",
        actor="sweep",
        reason=f"{len(seen.gone)} of {seen.alive_before} nodes were lost within "
        f"{timing.lease_ttl_s:g} s; failover is held for {timing.lease_ttl_s:g} s",
        nodes=list(seen.gone),
        of=seen.alive_before,
    )
    yield from notify_watchers()
    return True


def hold(actor: str, reason: str) -> Transaction[None]:
    """Hold failover until an operator releases it; this extends a hold by a storm."""
    yield from query(HOLD, actor=actor[:150], reason=reason[:200])
    yield from audit("storm_held", actor=actor, reason=reason)
    yield from notify_watchers()


def release(actor: str, reason: str) -> Transaction[bool]:
    """Release failover now. Return False if it was not held."""
    if (yield from query_one(RELEASE)) is None:
        return False
    yield from audit("storm_released", actor=actor, reason=reason)
    yield from notify_watchers()
    return True
