"""Act on the whole fleet: freeze, halt, hold failover, rebalance, raise the epoch floor."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from ginkgo_site.deadline import statement_limit
from portfolios.feed_registration import ensure_feed
from portfolios.models import FeedSegment
from portfolios.sentences import sentence as _
from scheduling.db.transaction import Transaction, execute
from scheduling.enact import epoch_floor, fleet_policy, halt, storm, timeline
from scheduling.enact.audit_log import audit
from scheduling.enact.fleet_revoke import PATIENT_LIMIT_S
from scheduling.errors import Invalid, Refused
from scheduling.models.fleet_control import EvenBy
from scheduling.passes.balance import BalanceOutcome
from scheduling.scheduler import LOCK_WAIT_S, Scheduler

#: More grants than any portfolio ever receives, and few enough that epochs and ids, which are
#: raised too, stay far below the largest bigint: beyond it nothing could be granted or recorded.
MAX_RAISE = 1_000_000_000_000


def raise_epoch_floor(by: int, *, actor: str, reason: str = "") -> Sequence[epoch_floor.Raised]:
    """Invalidate every epoch, incarnation and desired set handed out before a restore or promotion.

    Raise each portfolio's epoch by `by`, from 1 to MAX_RAISE. Return each portfolio's epoch before
    and after. Raise Invalid for another number.
    """
    if not 1 <= by <= MAX_RAISE:
        message = f"by is {by:,}; give 1 to {MAX_RAISE:,}."
        raise Invalid([{"field": "by", "code": "out_of_range", "message": message}])
    return execute(epoch_floor.raise_epoch_floor(by, actor=actor, reason=reason))


def freeze(*, actor: str, reason: str = "", failover: bool = False) -> None:
    """Stop all automatic moves; if `failover`, hold failover too. Idempotent."""
    execute(fleet_policy.freeze(actor=actor, reason=reason, failover=failover))


def unfreeze(*, actor: str) -> None:
    """Lift the freeze. Idempotent."""
    execute(fleet_policy.unfreeze(actor=actor))


def even_by(measure: str, *, actor: str, reason: str = "") -> None:
    """Rebalance nodes by the `weight` they hold or by their measured `cpu`, from the next pass on.

    Feasibility depends on weight in either case. Idempotent.
    """
    execute(
        fleet_policy.choose_rebalance_measure(EvenBy(measure).value, actor=actor, reason=reason)
    )


def rebalance(*, actor: str) -> BalanceOutcome:
    """Run a pass as soon as no other pass is under way. Return what it began.

    Raise Refused (503) if another one is still under way after LOCK_WAIT_S.
    """
    outcome = Scheduler("by hand").tick(actor=actor, lock_wait_s=LOCK_WAIT_S).balance
    if outcome is None:
        message = _(
            "No pass was started: another one has been under way for {lock_wait_s:g} s "
            "and does the same work.",
            lock_wait_s=LOCK_WAIT_S,
        )
        raise Refused("unavailable", message, status=503)
    return outcome


def run_feed(rate: float, *, actor: str) -> None:
    """Release `rate` events a second of the packaged bars from now on; 0 pauses them. Idempotent.

    Raise `FeedDiffers` if the installed data is not the log that was traded on.
    """
    with transaction.atomic():
        before = FeedSegment.objects.order_by("-id").first()
        feed = ensure_feed(rate)
        latest = feed.segments.latest("id")
        if latest == before:
            return
        execute(audit("feed_rate", actor=actor, rate=rate, from_seq=latest.from_seq))
        # Nodes compute the head from the segments in their desired sets.
        execute(fleet_policy.bump_every_desired_version())


def halt_all(*, actor: str, reason: str = "", expect_running: int | None = None) -> halt.Halted:
    """Stop every portfolio now, without waiting for any node. Return what was stopped.

    Raise Refused if the number of running portfolios is not `expect_running`; None: any.
    """
    with statement_limit(PATIENT_LIMIT_S):
        return execute(
            halt.halt_all(actor=actor, reason=reason[:200], expect_running=expect_running)
        )


def undo_halt(number: int | None = None, *, actor: str, reason: str = "") -> tuple[int, list[str]]:
    """Start all portfolios that the halt `number` still keeps stopped; None: the newest such halt.

    Return the halt's number and the names of the portfolios. They are pending until the next pass,
    which is requested at once. Raise NotFound for an unknown halt, Refused (404) for None if no
    portfolio is stopped by a halt.
    """
    with statement_limit(PATIENT_LIMIT_S):
        return execute(halt.undo_halt(number, actor=actor, reason=reason[:200]))


def hold_storm(*, actor: str, reason: str = "") -> None:
    """Hold failover until an operator releases it, even if a storm already holds it. Idempotent.

    Placements, stops, moves and other actions of operators continue.
    """
    execute(storm.hold(actor, reason))


def release_storm(*, actor: str, reason: str = "") -> bool:
    """Let failover continue now. Return whether it was held. Idempotent.

    If vanished commits caused the hold, they count as settled: they cause no other hold.
    """
    return execute(_release_hold(actor, reason))


def _release_hold(actor: str, reason: str) -> Transaction[bool]:
    """Release the hold on failover, and settle vanished commits. Return False if there was none."""
    was_held = yield from storm.release(actor, reason)
    if was_held:
        yield from timeline.settle()
    return was_held
