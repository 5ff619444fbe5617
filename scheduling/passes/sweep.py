"""The sweep: what time alone has changed. Leases, deadlines, proofs, wishes not yet followed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from django.db import Error as DjangoDatabaseError
from psycopg.errors import DeadlockDetected, LockNotAvailable

from ginkgo_site.deadline import statement_limit
from scheduling.db.transaction import (
    CONNECTION_LOST,
    Transaction,
    execute,
    execute_autocommit,
)
from scheduling.enact import handoff, reclaim, revisions, storm, timeline
from scheduling.enact.epoch_floor import ENOUGH, raise_epoch_floor
from scheduling.enact.fleet_revoke import PATIENT_LIMIT_S
from scheduling.enact.lease import mark_lost
from scheduling.enact.stalls import mark_behind, mark_stalls
from scheduling.errors import Refused
from scheduling.passes.pass_lock import acquire
from scheduling.timing import Timing

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SweepOutcome:
    """What the sweep changed."""

    lost: tuple[str, ...] = ()
    expired: int = 0
    proven: int = 0
    reloads: int = 0
    stops: int = 0
    given_up: int = 0

    def __bool__(self) -> bool:
        return any((self.lost, self.expired, self.proven, self.reloads, self.stops, self.given_up))


def sweep(holder: str, timing: Timing, *, whole: bool = True) -> SweepOutcome:
    """Mark lost nodes, take the way out of overdue steps, prove revisions, follow wishes.

    Each change is a transaction of its own and conditional, so a second sweep beside this one
    changes nothing twice. The pass lock is renewed before each batch. Not `whole`: only leases and
    overdue steps, for which no run is read; the rest looks at every run of the fleet.
    """
    lost = execute_autocommit(mark_lost(timing))
    for node in lost:
        logger.warning(
            "%s is lost after %.1f s, limit %g s", node.name, node.silent_s, timing.lease_ttl_s
        )
    _recover_history(timing)
    execute(storm.update_storm_hold(timing))
    expired = sum(
        _try(lambda one=one: handoff.expire(one, timing)) not in (None, "early")  # type: ignore[misc]
        for one in execute_autocommit(handoff.overdue(timing))
    )
    if not whole:
        return SweepOutcome(lost=tuple(node.name for node in lost), expired=expired)
    proven = execute_autocommit(revisions.mark_proven_revisions(timing))
    execute_autocommit(mark_stalls(timing))
    execute_autocommit(mark_behind(timing))
    execute_autocommit(acquire(holder))
    reloads = sum(
        _try(
            lambda row=row: handoff.reload_to_wanted(  # type: ignore[misc]
                row.portfolio_id,
                node=row.node_id,
                wanted=row.wanted,
                seen_epoch=row.epoch,
                timing=timing,
            )
        )
        is not None
        for row in execute_autocommit(revisions.stale_revisions(timing))
    )
    stops = sum(
        _try(
            lambda row=row: handoff.request(  # type: ignore[misc]
                "stop",
                row.portfolio_id,
                target=None,
                actor="system",
                reason="stopped is wanted",
                timing=timing,
                seen_epoch=row.epoch,
            )
        )
        is not None
        for row in execute_autocommit(reclaim.unstopped())
    )
    limit_s = timing.activate_deadline_s
    given_up = sum(
        bool(
            _try(
                lambda row=row: reclaim.reclaim_unactivated(  # type: ignore[misc]
                    row.portfolio_id, row.epoch, limit_s
                )
            )
        )
        for row in execute_autocommit(reclaim.unactivated(timing))
    )
    given_up += sum(
        bool(_try(lambda row=row: reclaim.reclaim_orphaned(row.portfolio_id, row.epoch)))  # type: ignore[misc]
        for row in execute_autocommit(reclaim.orphaned())
    )
    return SweepOutcome(
        lost=tuple(node.name for node in lost),
        expired=expired,
        proven=proven,
        reloads=reloads,
        stops=stops,
        given_up=given_up,
    )


def _recover_history(timing: Timing) -> None:
    """Raise the epoch floor where the database changed and lacks commits, if it may by itself."""
    if not timing.raises_epoch_floor:
        return
    found = execute_autocommit(
        timeline.unsettled(wait_s=timing.heartbeat_interval_s, quiet_s=2 * timing.lease_ttl_s)
    )
    if found.vanished and found.changed:
        reason = "acknowledged commits vanished (GINKGO_RAISE_EPOCH_FLOOR=auto)"
        with statement_limit(PATIENT_LIMIT_S):
            execute(raise_epoch_floor(ENOUGH, actor="sweep", reason=reason))
        logger.warning("the epoch floor was raised: %s", reason)
    elif found.quiet and not found.vanished:
        execute(timeline.settle())


def _try(recipe: Callable[[], Transaction[T]]) -> T | None:
    """Run one change of a sweep and return its outcome, or None where it has to wait for the next.

    A refusal is data. A row that somebody else holds, or a change that fails by a fault of ours,
    must not keep the sweep from the others.
    """
    try:
        return execute(recipe())
    except Refused as refused:
        logger.info("left for the next sweep: %s", refused)
    except (LockNotAvailable, DeadlockDetected) as busy:
        logger.info("left for the next sweep: %s", type(busy).__name__)
    except (*CONNECTION_LOST, DjangoDatabaseError):
        raise  # the database is away: nothing can be known of the others either
    except Exception:
        logger.exception("left for the next sweep")
    return None
