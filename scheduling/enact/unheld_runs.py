"""Find runs in no handoff whose owner is wrong or late, and revoke them for a new placement."""

from __future__ import annotations

from typing import NamedTuple

from scheduling.db.statements import NO_ACTIVE_HANDOFF, Statement
from scheduling.db.transaction import Transaction, query
from scheduling.enact.grant import lock_run
from scheduling.enact.handoff.deadlines import could_not_report
from scheduling.enact.handoff.finish import place_again
from scheduling.enact.handoff.rollback import handle_failed_start
from scheduling.timing import Timing


class OwnedRow(NamedTuple):
    portfolio_id: int
    epoch: int


#: At most 50 runs that are in no handoff and are owned by an incarnation that no longer holds its
#: node's lease, because a grant and a registration happened at the same time. The next grant to the
#: incarnation that holds the lease repairs this.
ORPHANED = Statement(
    "ORPHANED",
    f"""
SELECT r.portfolio_id, r.epoch
FROM scheduling_run r JOIN scheduling_lease l ON l.node_id = r.node_id
WHERE l.incarnation <> r.incarnation
  AND {NO_ACTIVE_HANDOFF}
ORDER BY r.portfolio_id LIMIT 50
""",
    row=OwnedRow,
)


def find_orphaned() -> Transaction[list[OwnedRow]]:
    """Return at most 50 runs in no handoff, owned by an incarnation that lost its node's lease."""
    return (yield from query(ORPHANED))


def reclaim_orphaned(portfolio: int, seen_epoch: int) -> Transaction[bool]:
    """Revoke a run of `find_orphaned` for a new placement. Return False if granted since."""
    run = yield from lock_run(portfolio)
    if run is None or run.epoch != seen_epoch or run.node_id is None:
        return False  # granted since it was read
    reason = f"{run.node_name} started again while the portfolio was granted to it"
    return (yield from place_again(run, cause="orphaned", reason=reason))


#: Runs granted to a living node without a first commit, and in no handoff that has a deadline.
UNACTIVATED = Statement(
    "UNACTIVATED",
    f"""
SELECT r.portfolio_id, r.epoch
FROM scheduling_run r JOIN scheduling_node n ON n.id = r.node_id
JOIN scheduling_lease l ON l.node_id = r.node_id AND l.incarnation = r.incarnation
WHERE r.first_commit_at IS NULL AND r.phase = 'starting'
  AND r.granted_at < clock_timestamp() - make_interval(secs => %(limit_s)s)
  AND l.taken_at < clock_timestamp() - make_interval(secs => %(limit_s)s)
  AND l.expires_at > clock_timestamp() + interval '2 s' AND n.status = 'alive'
  AND NOT {could_not_report("l")}
  AND {NO_ACTIVE_HANDOFF}
ORDER BY r.portfolio_id LIMIT 50
""",
    row=OwnedRow,
)


def find_unactivated(timing: Timing) -> Transaction[list[OwnedRow]]:
    """Return at most 50 runs that a living node owns and has not committed in time.

    Runs in an active handoff are left out: the handoff has a deadline of its own.
    """
    rows = yield from query(
        UNACTIVATED,
        limit_s=timing.activate_deadline_s,
        gap_s=timing.pulse_gap_s,
        interval_s=timing.heartbeat_interval_s,
    )
    return rows


def reclaim_unactivated(portfolio: int, seen_epoch: int, limit_s: float) -> Transaction[bool]:
    """Revoke a run of `find_unactivated`. Return False if committed or granted since.

    `limit_s`: seconds in which its node should have committed.
    """
    run = yield from lock_run(portfolio)
    if run is None or run.node_id is None or run.epoch != seen_epoch or run.first_commit_at:
        return False  # committed or granted since it was read
    error = f"{run.node_name} did not commit in {limit_s:g} s"
    yield from handle_failed_start(run, run.node_id, error, run.revision, timed_out=True)
    return True


#: Runs that should be stopped, are owned, and are in no handoff: their stop was superseded.
UNSTOPPED = Statement(
    "UNSTOPPED",
    f"""
SELECT r.portfolio_id, r.epoch FROM scheduling_run r
JOIN portfolios_portfolio p ON p.id = r.portfolio_id
WHERE r.node_id IS NOT NULL AND p.desired_state = 'stopped'
  AND {NO_ACTIVE_HANDOFF}
ORDER BY r.portfolio_id LIMIT 50
""",
    row=OwnedRow,
)


def find_unstopped() -> Transaction[list[OwnedRow]]:
    """Return at most 50 runs for which a stop has to be requested again."""
    return (yield from query(UNSTOPPED))
