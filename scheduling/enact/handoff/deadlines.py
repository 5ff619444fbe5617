"""Handle steps of handoffs that missed their deadline or wait for a node that is gone."""

from __future__ import annotations

from typing import NamedTuple

from scheduling.db.statements import (
    ACTIVE_HANDOFF_STATES,
    IdRow,
    Statement,
    commits_blocked,
    gateway_served,
    own_gateway_failed,
)
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.enact.handoff.finish import revoke_ownership
from scheduling.enact.handoff.prepare import owner_is_gone
from scheduling.enact.handoff.release_source import fail_if_symbols_in_use, grant_to_target
from scheduling.enact.handoff.rollback import (
    fail,
    failed_before,
    handle_prepare_failure,
    reject_handoff_revision,
    roll_back,
)
from scheduling.enact.handoff.statements import build_s, lock_run_and_handoff
from scheduling.timing import Timing


def could_not_report(*leases: str) -> str:
    """Return the SQL condition that a node of one of these `leases` could not report its step.

    A node cannot report while no gateway can be reached or no commit gets through, nor for one
    heartbeat interval after that, so its step does not count as late. `leases`: aliases of their
    rows. Parameters: gap_s, interval_s.
    """
    causes = [
        "(EXISTS (SELECT FROM scheduling_gateway)"
        f" AND NOT EXISTS (SELECT FROM scheduling_gateway g WHERE {gateway_served('interval_s')}))",
        commits_blocked("interval_s"),
        *(own_gateway_failed(lease, "interval_s") for lease in leases),
    ]
    return f"({' OR '.join(causes)})"


OVERDUE = Statement(
    "OVERDUE",
    f"""
SELECT h.id FROM scheduling_handoff h
LEFT JOIN scheduling_lease l ON l.node_id = h.target_node_id
LEFT JOIN scheduling_node s ON s.id = h.source_node_id
LEFT JOIN scheduling_lease sl ON sl.node_id = h.source_node_id
LEFT JOIN scheduling_node t ON t.id = h.target_node_id
WHERE h.state IN {ACTIVE_HANDOFF_STATES} AND (
    (h.deadline_at < clock_timestamp() AND NOT {could_not_report("l", "sl")})
    -- Do not wait for a node that is gone.
    OR (h.kind <> 'stop' AND (t.status <> 'alive' OR l.incarnation <> h.target_incarnation))
    OR (h.state = 'draining'
        AND (s.status <> 'alive' OR sl.incarnation <> h.source_incarnation))
)
ORDER BY h.id LIMIT 500
""",
    row=IdRow,
)


class DeadlineRow(NamedTuple):
    has_passed: bool
    build_s: float  #: added to the deadline of *prepare*


IS_DUE = Statement(
    "IS_DUE",
    f"""
SELECT %(deadline)s < clock_timestamp() AS has_passed,
    {build_s("%(kind)s::text", "%(portfolio)s::bigint", "%(revision)s::int")} AS build_s
""",
    row=DeadlineRow,
)


def find_overdue(timing: Timing) -> Transaction[list[int]]:
    """Return ids of at most 500 handoffs whose step is late, or waits for a node that is gone."""
    rows = yield from query(
        OVERDUE, gap_s=timing.pulse_gap_s, interval_s=timing.heartbeat_interval_s
    )
    return [row.id for row in rows]


def expire(handoff_id: int, timing: Timing) -> Transaction[str]:
    """End the step of a handoff if its deadline passed or its node is gone. Return the new state.

    Return `early` if neither holds or the handoff has ended, `late` if the target's first commit or
    another grant came before the rollback, and `gone` if the handoff was deleted.
    """
    locked = yield from lock_run_and_handoff(handoff_id)
    if locked is None:
        return "gone"
    run, handoff = locked
    deadline = yield from query_one(
        IS_DUE,
        deadline=handoff.deadline_at,
        kind=handoff.kind,
        portfolio=handoff.portfolio_id,
        revision=handoff.to_revision,
    )
    assert deadline is not None
    target_gone = handoff.target_node_id is not None and (
        not handoff.target_valid or handoff.target_lease != handoff.target_incarnation
    )
    # A stop grants to nobody: it need not wait until the sweep marks the source lost.
    source_gone = handoff.source_node_id is not None and (
        not handoff.source_valid or handoff.source_lease != handoff.source_incarnation
    )
    if handoff.state == "preparing" and target_gone:
        yield from fail(handoff, run, f"{handoff.target_name} was lost before it was ready")
        return "failed"
    if handoff.state == "preparing" and deadline.has_passed:
        limit_s = timing.prepare_deadline_s + deadline.build_s
        error = f"{handoff.target_name} could not prepare in {limit_s:g} s"
        yield from handle_prepare_failure(handoff, run, error, timed_out=True)
        return "failed"
    is_stop = handoff.kind == "stop"
    if handoff.state == "draining" and is_stop and (deadline.has_passed or source_gone):
        yield from revoke_ownership(handoff, run)
        return "done"
    if handoff.state == "draining" and target_gone:
        yield from fail(handoff, run, f"{handoff.target_name} was lost before the grant")
        return "failed"
    if handoff.state == "draining" and (deadline.has_passed or owner_is_gone(handoff)):
        if (yield from fail_if_symbols_in_use(handoff, run)):
            return "failed"
        late = f"did not release in {timing.drain_deadline_s:g} s"
        source_state = late if deadline.has_passed else "is gone"
        error = f"{handoff.source_name} {source_state}: the epoch was raised without it"
        return (yield from grant_to_target(handoff, run, timing, error=error))
    if handoff.state == "activating" and (deadline.has_passed or target_gone):
        error = (
            f"{handoff.target_name} was lost before its first commit"
            if target_gone
            else f"{handoff.target_name} did not commit in {timing.activate_deadline_s:g} s"
        )
        # One missed deadline says more about the node than about the revision; a second rejects it.
        if handoff.kind == "reload" and not target_gone and (yield from failed_before(handoff)):
            yield from reject_handoff_revision(handoff, run, error)
        return (yield from roll_back(handoff, run, error, timed_out=not target_gone))
    return "early"
