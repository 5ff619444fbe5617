"""Register a daemon: a new incarnation of a node takes over all its runs in one transaction."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb

from scheduling.db.statements import ACTIVE_HANDOFF_STATES, Statement
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.decide.process_exit import MAX_ATTEMPTS
from scheduling.decide.reasons import count
from scheduling.decide.types import may_continue_under
from scheduling.enact.audit_log import audit
from scheduling.enact.grant import GrantCause, Owner, grant, lock_run
from scheduling.enact.handoff.finish import place_again, revoke_ownership
from scheduling.enact.handoff.request_handoff import supersede
from scheduling.enact.handoff.rollback import fail, quarantine
from scheduling.enact.handoff.statements import active_handoff
from scheduling.enact.notify import bump_desired_versions, lock_nodes
from scheduling.errors import Refused
from scheduling.timing import Timing
from scheduling.wire.messages import Register

#: Takeovers of a valid lease, within TAKEOVER_WINDOW_S; the next is refused.
MAX_TAKEOVERS = 2
TAKEOVER_WINDOW_S = 60.0

#: Each registration takes over the runs of the node, which ownership history keeps for good. So a
#: node that has registered so often is refused until enough of these were long ago.
MAX_REGISTRATIONS, REGISTERED_WITHIN_S = 20, 60.0

#: No joins: after a wait for a goodbye, a joined node would be read as not yet left, and the
#: takeover would count as a lost owner.
LOCK_LEASE = Statement(
    "LOCK_LEASE", "SELECT node_id FROM scheduling_lease WHERE node_id = %(node)s FOR UPDATE"
)


class LeaseRow(NamedTuple):
    incarnation: UUID
    takeovers: list[float]  #: Unix times
    valid: bool
    host: str
    pid: int | None
    status: str
    now: Decimal  #: Unix time


LEASE = Statement(
    "LEASE",
    """
SELECT l.incarnation, l.takeovers, l.expires_at > clock_timestamp() AS valid, n.host, n.pid,
       n.status, extract(epoch FROM clock_timestamp()) AS now
FROM scheduling_lease l JOIN scheduling_node n ON n.id = l.node_id
WHERE l.node_id = %(node)s
""",
    row=LeaseRow,
)

#: Another node's lease with this incarnation. A unique index decides concurrent registrations.
HELD_ELSEWHERE = Statement(
    "HELD_ELSEWHERE",
    """
SELECT l.node_id FROM scheduling_lease l
WHERE l.incarnation = %(incarnation)s AND l.node_id <> %(node)s
""",
)


class RecentRow(NamedTuple):
    times: int


RECENT = Statement(
    "RECENT",
    """
SELECT count(*) AS times FROM scheduling_event
WHERE node_id = %(node)s AND kind = 'node_registered'
  AND at > (SELECT clock_timestamp() - make_interval(secs => %(within_s)s))
""",
    row=RecentRow,
)

TAKE_LEASE = Statement(
    "TAKE_LEASE",
    """
INSERT INTO scheduling_lease AS l (node_id, incarnation, renewals, renewed_at, expires_at,
                                   gateway_id, connection, taken_at, takeovers)
VALUES (%(node)s, %(incarnation)s, 0, clock_timestamp(),
        clock_timestamp() + make_interval(secs => %(ttl_s)s), %(gateway)s, NULL,
        clock_timestamp(), %(takeovers)s)
ON CONFLICT (node_id) DO UPDATE SET incarnation = excluded.incarnation, renewals = 0,
    renewed_at = excluded.renewed_at, expires_at = excluded.expires_at,
    gateway_id = excluded.gateway_id, connection = NULL, socket_loss_pending = false,
    taken_at = excluded.taken_at, takeovers = excluded.takeovers,
    cut_by = '', cut_at = NULL
""",
)

NODE = Statement(
    "NODE",
    """
UPDATE scheduling_node SET capacity = %(capacity)s, reported_labels = %(labels)s,
    -- What an operator edited stays edited over every start of the daemon.
    labels = jsonb_strip_nulls(%(labels)s::jsonb || label_edits),
    strategies = %(strategies)s, feeds = %(feeds)s, host = %(host)s, pid = %(pid)s,
    version = %(version)s, python = %(python)s, registered_at = clock_timestamp(), status = 'alive',
    -- A daemon that only restarted was not away.
    status_since = CASE WHEN status = 'alive' THEN status_since ELSE clock_timestamp() END,
    leaving = false,
    -- Tells the newer of two daemons without a clock. Stays when the lease is deleted.
    registrations = registrations + 1
WHERE id = %(node)s
""",
)

#: A node that left and returns is open again, if the operator who drained it wanted that. Before
#: NODE, which makes it alive. No concurrent writer: the row is locked (lock_nodes).
END_DRAIN_UNTIL_RETURN = Statement(
    "END_DRAIN_UNTIL_RETURN",
    """
WITH returned AS (
    UPDATE scheduling_node SET draining = false, drain_reason = '', drain_actor = '',
        drain_until_return = false
    WHERE id = %(node)s AND draining AND drain_until_return AND status = 'left'
    RETURNING id
)
INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
SELECT clock_timestamp(), 'node_undrained', NULL, id, %(actor)s::text,
       'its daemon registered again', '{}'::jsonb
FROM returned
""",
)

#: Portfolios that the earlier incarnation owned or was the target of: one list, so that the runs
#: are locked in one order.
AFFECTED = Statement(
    "AFFECTED",
    f"""
SELECT r.portfolio_id FROM scheduling_run r WHERE r.node_id = %(node)s
UNION
SELECT h.portfolio_id FROM scheduling_handoff h
WHERE h.target_node_id = %(node)s AND h.target_incarnation <> %(incarnation)s
  AND h.state IN {ACTIVE_HANDOFF_STATES}
ORDER BY 1
""",
)

#: Let the handoff under which the run was granted go on with the grant to the new incarnation.
FOLLOW_GRANT = Statement(
    "FOLLOW_GRANT",
    """
UPDATE scheduling_handoff SET to_epoch = %(epoch)s, target_incarnation = %(incarnation)s,
    deadline_at = clock_timestamp() + make_interval(secs => %(deadline_s)s)
WHERE portfolio_id = %(portfolio)s AND state = 'activating' AND to_epoch = %(seen_epoch)s
""",
)


def register(
    node: int, node_name: str, message: Register, timing: Timing, gateway: UUID
) -> Transaction[int]:
    """Give the lease and all runs of the node to `message.incarnation`, each run at epoch + 1.

    Return the number of runs given; a run that `_take_over` ended instead is not counted. If the
    same incarnation registers again (its first answer was lost), no run changes.

    Raise Refused in three cases. Another node holds the incarnation, by which reports are matched.
    Or another daemon holds a valid lease of the node, and MAX_TAKEOVERS such leases were taken over
    within TAKEOVER_WINDOW_S: two daemons with one name would go on forever. Or the node was
    registered MAX_REGISTRATIONS times within REGISTERED_WITHIN_S.
    """
    incarnation = UUID(message.incarnation)
    yield from query(LOCK_LEASE, node=node)
    if (yield from query_one(HELD_ELSEWHERE, node=node, incarnation=incarnation)) is not None:
        raise incarnation_refusal(node_name)
    lease = yield from query_one(LEASE, node=node)
    is_repeat = lease is not None and lease.incarnation == incarnation
    takeovers: list[float] = list(lease.takeovers) if lease is not None else []
    if lease is not None and not is_repeat and lease.valid and lease.status == "alive":
        now = float(lease.now)
        takeovers = [t for t in takeovers if now - t < TAKEOVER_WINDOW_S]
        if len(takeovers) >= MAX_TAKEOVERS:
            raise Refused(
                "name_in_use",
                f"Node {node_name} is in use: the lease of the daemon on {lease.host}, pid "
                f"{lease.pid}, is valid, and the node was taken over {len(takeovers)} times in "
                f"{TAKEOVER_WINDOW_S:g} s. Stop that daemon, try again once its lease has ended if "
                "it was killed, or choose another name.",
                host=lease.host,
                pid=lease.pid,
            )
        takeovers.append(now)
    if not is_repeat:
        yield from _refuse_too_many(node, node_name)
    yield from query(
        TAKE_LEASE,
        node=node,
        incarnation=incarnation,
        ttl_s=timing.lease_ttl_s,
        gateway=gateway,
        takeovers=Jsonb(takeovers),
    )
    no_goodbye = lease is not None and not is_repeat and lease.status != "left"
    taken = 0
    nodes: set[int | None] = {node}
    affected = yield from query(AFFECTED, node=node, incarnation=incarnation)
    for row in affected:
        run = yield from lock_run(row.portfolio_id)
        active = yield from active_handoff(row.portfolio_id)
        if run is None:
            continue
        if active is not None:
            nodes |= {active.source_node_id, active.target_node_id}
        if run.node_id == node and run.incarnation != incarnation:
            taken += yield from _take_over(
                run, active, node, node_name, message, no_goodbye, timing
            )
        elif active is not None and (
            active.target_node_id == node and active.target_incarnation != incarnation
        ):
            error = f"{node_name} started again before it was ready"
            yield from fail(active, run, error, bump=False)
    yield from lock_nodes(nodes)
    yield from query(END_DRAIN_UNTIL_RETURN, node=node, actor=node_name)
    yield from query(
        NODE,
        node=node,
        capacity=message.capacity,
        labels=Jsonb(message.labels),
        strategies=Jsonb(message.strategies),
        feeds=Jsonb(message.feeds),
        host=message.host,
        pid=message.pid,
        version=message.version,
        python=message.python,
    )
    if not is_repeat:
        yield from audit(
            "node_registered",
            node=node,
            actor=node_name,
            reason=f"{count(taken, 'portfolio')} taken over" if taken else "",
            incarnation=message.incarnation,
            host=message.host,
            pid=message.pid,
        )
    yield from bump_desired_versions(nodes)
    return taken


def _refuse_too_many(node: int, node_name: str) -> Transaction[None]:
    """Raise Refused if the node was registered MAX_REGISTRATIONS times in REGISTERED_WITHIN_S."""
    recent = yield from query_one(RECENT, node=node, within_s=REGISTERED_WITHIN_S)
    assert recent is not None
    if recent.times >= MAX_REGISTRATIONS:
        raise Refused(
            "throttled",
            f"Node {node_name} was registered {recent.times} times within "
            f"{REGISTERED_WITHIN_S:g} s, limit {MAX_REGISTRATIONS}; see why its daemon ends.",
            status=429,
        )


def incarnation_refusal(node_name: str) -> Refused:
    """Return the refusal of a daemon whose incarnation another node holds."""
    return Refused(
        "incarnation_in_use",
        f"Node {node_name} cannot register: another node holds this incarnation. An incarnation "
        "belongs to one start of one daemon; restart the daemon, which draws a new one.",
    )


def _take_over(
    run: Row,
    active: Row | None,
    node: int,
    node_name: str,
    message: Register,
    no_goodbye: bool,
    timing: Timing,
) -> Transaction[bool]:
    """Grant one run to the new incarnation. `active`: its handoff, which goes on if it activates.

    Return False if the ownership ended instead: by a stop under way, after the last attempt, or
    because of another Python version. `no_goodbye`: the earlier daemon did not say goodbye.
    """
    incarnation = UUID(message.incarnation)
    if active is not None and active.kind == "stop":
        # The draining process ended with its daemon.
        yield from revoke_ownership(active, run, bump=False)
        return False
    counts_as_attempt = no_goodbye and run.event_waits
    if counts_as_attempt and run.attempts + 1 >= MAX_ATTEMPTS:
        error = f"the daemon of {node_name} ended and started again"
        if active is not None:
            yield from supersede(active, error, bump=False)
        yield from quarantine(run, run.attempts + 1, error, bump=False)
        return False
    if not may_continue_under(run.python, run.accept_python, message.python):
        error = (
            f"{node_name} started again with Python {message.python}, and the portfolio last ran "
            f"under Python {run.python}"
        )
        if active is not None:
            yield from supersede(active, error, bump=False)
        yield from place_again(run, cause="python", reason=error, bump=False)
        return False
    given = yield from grant(
        run.portfolio_id,
        run.epoch,
        Owner(node, incarnation, run.revision, message.python),
        GrantCause("register", f"{node_name} started again", node_name),
        lost_owner=bool(counts_as_attempt),
    )
    assert given is not None  # the run is locked
    if active is None:
        return True
    if active.state == "activating":
        yield from query(
            FOLLOW_GRANT,
            portfolio=run.portfolio_id,
            seen_epoch=run.epoch,
            epoch=given.epoch,
            incarnation=incarnation,
            deadline_s=timing.activate_deadline_s,
        )
    else:
        granted = yield from lock_run(run.portfolio_id)  # the run with its new epoch
        assert granted is not None
        error = f"{node_name} started again before it released"
        yield from fail(active, granted, error, bump=False)
    return True
