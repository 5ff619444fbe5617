"""The sweep: make the changes that are due because time has passed.

Expired leases, missed deadlines, proven revisions, desired states that no handoff follows yet.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ginkgo_site.deadline import statement_limit
from scheduling import tracing
from scheduling.db.transaction import execute, execute_autocommit
from scheduling.enact import handoff, revisions, storm, timeline, unheld_runs
from scheduling.enact.epoch_floor import DEFAULT_RAISE, raise_epoch_floor
from scheduling.enact.fleet_revoke import PATIENT_LIMIT_S
from scheduling.enact.lease import mark_lost
from scheduling.enact.pass_lock import acquire
from scheduling.enact.stalls import mark_behind, mark_stalls
from scheduling.passes.attempts import attempt
from scheduling.timing import Timing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SweepOutcome:
    """What the sweep changed."""

    lost: tuple[str, ...] = ()  #: names of nodes
    expired: int = 0  #: handoffs whose step was overdue
    proven: int = 0  #: revisions
    reloads: int = 0  #: that were begun
    stops: int = 0  #: that were requested again
    given_up: int = 0  #: ownerships that were ended so that the portfolio is placed again

    def __bool__(self) -> bool:
        return any((self.lost, self.expired, self.proven, self.reloads, self.stops, self.given_up))


def sweep(holder: str, timing: Timing, *, full: bool = True) -> SweepOutcome:
    """Mark lost nodes, expire overdue handoffs, prove revisions, follow desired states.

    Each change is a conditional transaction of its own, so that a concurrent sweep changes nothing
    twice. Without `full`, only leases, timeline, storm and overdue handoffs are checked: the other
    checks read every run of the fleet.
    """
    lost = execute_autocommit(mark_lost(timing))
    for node in lost:
        logger.warning("%s is lost: %s", node.name, node.reason)
    names = tuple(node.name for node in lost)
    _recover_timeline(timing)
    execute(storm.update_storm_hold(timing))
    expired = sum(
        _expire(overdue, timing) for overdue in execute_autocommit(handoff.find_overdue(timing))
    )
    if not full:
        return SweepOutcome(lost=names, expired=expired)
    proven = execute_autocommit(revisions.mark_proven_revisions(timing))
    execute_autocommit(mark_stalls(timing))
    execute_autocommit(mark_behind(timing))
    execute_autocommit(acquire(holder))  # renew the pass lock: the rest can take seconds
    return SweepOutcome(
        lost=names,
        expired=expired,
        proven=proven,
        reloads=_reload_stale_revisions(timing),
        stops=_repeat_stops(timing),
        given_up=_reclaim_unheld_runs(timing),
    )


def _expire(handoff_id: int, timing: Timing) -> bool:
    """End the overdue step of this handoff. Return whether that changed anything."""
    with tracing.handoff_span(handoff_id, "deadline passed") as span:
        outcome = attempt(handoff.expire, handoff_id, timing)
        changed = outcome not in (None, "early", "gone", "late")
        if not changed:
            span.drop()
        error = "" if outcome in ("activating", "done") else str(outcome)
        span.note(error, outcome=outcome)
    return changed


def _reload_stale_revisions(timing: Timing) -> int:
    """Request reloads to wanted revisions. Return how many were begun."""
    requested = [
        attempt(
            handoff.reload_to_wanted,
            row.portfolio_id,
            node=row.node_id,
            wanted=row.wanted,
            seen_epoch=row.epoch,
            timing=timing,
        )
        for row in execute_autocommit(revisions.find_stale_revisions(timing))
    ]
    return sum(each is not None for each in requested)


def _repeat_stops(timing: Timing) -> int:
    """Request again the stops that were superseded. Return how many were begun."""
    requested = [
        attempt(
            handoff.request,
            "stop",
            row.portfolio_id,
            target=None,
            actor="system",
            reason="the wanted state is stopped",
            timing=timing,
            seen_epoch=row.epoch,
        )
        for row in execute_autocommit(unheld_runs.find_unstopped())
    ]
    return sum(each is not None for each in requested)


def _reclaim_unheld_runs(timing: Timing) -> int:
    """End ownerships without a first commit in time, and those of incarnations that are gone.

    Return how many ended.
    """
    limit_s = timing.activate_deadline_s
    unactivated = [
        attempt(unheld_runs.reclaim_unactivated, row.portfolio_id, row.epoch, limit_s)
        for row in execute_autocommit(unheld_runs.find_unactivated(timing))
    ]
    orphaned = [
        attempt(unheld_runs.reclaim_orphaned, row.portfolio_id, row.epoch)
        for row in execute_autocommit(unheld_runs.find_orphaned())
    ]
    return sum(map(bool, [*unactivated, *orphaned]))


def _recover_timeline(timing: Timing) -> None:
    """If settings allow it, raise the epoch floor if commits vanished, or record that none did."""
    if not timing.raises_epoch_floor:
        return
    found = execute_autocommit(
        timeline.read_unsettled(wait_s=timing.heartbeat_interval_s, quiet_s=2 * timing.lease_ttl_s)
    )
    if found.vanished and found.changed:
        reason = "acknowledged commits vanished (GINKGO_RAISE_EPOCH_FLOOR=auto)"
        with statement_limit(PATIENT_LIMIT_S):
            execute(raise_epoch_floor(DEFAULT_RAISE, actor="sweep", reason=reason))
        logger.warning("the epoch floor was raised: %s", reason)
    elif found.quiet and not found.vanished:
        execute(timeline.settle())
