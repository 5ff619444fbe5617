"""Handle the reports of a handoff's target: that it is prepared, or that it failed."""

from __future__ import annotations

from uuid import UUID

from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.decide.process_exit import MAX_ATTEMPTS
from scheduling.enact.handoff.release_source import grant_to_target
from scheduling.enact.handoff.rollback import (
    fail,
    handle_prepare_failure,
    quarantine,
    reject_handoff_revision,
    roll_back,
)
from scheduling.enact.handoff.statements import MOVE, SET_PHASE, lock_run_and_handoff
from scheduling.enact.notify import bump_desired_versions
from scheduling.timing import Timing


def handle_prepared(
    handoff_id: int, node: int, incarnation: UUID, timing: Timing
) -> Transaction[str]:
    """Drain the source, now that the target is prepared. Grant at once if there is no living owner.

    A failover fails if the owner is back. If an event waits, the loss of the earlier owner counts
    as a failed attempt, since the event may have caused it; after the last attempt the portfolio is
    quarantined.

    Return what was done: `draining`, `activating`, `failed` or `quarantined`. Idempotent: a repeat,
    or a report after the deadline, returns `late`.
    """
    locked = yield from lock_run_and_handoff(handoff_id, target=(node, incarnation))
    if locked is None:
        return "late"
    run, handoff = locked
    # Compared again: its node may have registered anew before the lock.
    is_target = (handoff.target_node_id, handoff.target_incarnation) == (node, incarnation)
    if handoff.state != "preparing" or not is_target:
        return "late"  # a repeat, or the deadline was faster
    if handoff.from_epoch != run.epoch:
        yield from fail(handoff, run, "the portfolio was granted again meanwhile")
        return "failed"
    if handoff.kind == "failover":
        if run.node_id is not None and not owner_is_gone(handoff):
            error = f"{handoff.source_name} sends heartbeats again and keeps it"
            yield from fail(handoff, run, error)
            return "failed"
        if run.event_waits and run.attempts + 1 >= MAX_ATTEMPTS:
            error = f"{handoff.source_name}, which ran it, was lost"
            yield from fail(handoff, run, error)
            yield from quarantine(run, run.attempts + 1, error)
            return "quarantined"
    if handoff.kind == "failover" or run.node_id is None:  # nobody is there to release it
        return (yield from grant_to_target(handoff, run, timing))
    yield from query_one(
        MOVE,
        handoff=handoff_id,
        from_=["preparing"],
        to="draining",
        error="",
        deadline_s=timing.drain_deadline_s,
    )
    yield from query(
        SET_PHASE, portfolio=run.portfolio_id, epoch=run.epoch, phase="draining", reason=None
    )
    yield from bump_desired_versions([handoff.source_node_id, handoff.target_node_id])
    return "draining"


def owner_is_gone(handoff: Row) -> bool:
    """Return whether the source was lost, has left, or runs another daemon by now. Pure."""
    # A heartbeat renews the lease before it makes a lost node alive: then the node is back.
    is_lost = handoff.source_status in ("lost", "left") and not handoff.source_valid
    return is_lost or handoff.source_lease != handoff.source_incarnation


def handle_step_failure(
    handoff_id: int, node: int, incarnation: UUID, step: str, error: str, strategy_failed: bool
) -> Transaction[str]:
    """End or roll back a handoff whose target failed at `step`, `prepare` or `activate`.

    Return `failed` or `rolled_back`; `late` if the handoff is at another step, as for a repeat.
    `strategy_failed`: whether an error of the strategy itself was the cause.
    """
    locked = yield from lock_run_and_handoff(handoff_id, target=(node, incarnation))
    if locked is None:
        return "late"
    run, handoff = locked
    if (handoff.target_node_id, handoff.target_incarnation) != (node, incarnation):
        return "late"
    if step == "activate" and handoff.state == "activating":
        if strategy_failed or handoff.kind == "reload":  # of a reload, only the revision is new
            yield from reject_handoff_revision(handoff, run, error)
        return (yield from roll_back(handoff, run, error))
    if step == "prepare" and handoff.state in ("preparing", "draining"):
        yield from handle_prepare_failure(handoff, run, error, strategy_failed=strategy_failed)
        return "failed"
    return "late"
