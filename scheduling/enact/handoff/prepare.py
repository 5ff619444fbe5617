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


def handle_prepared(handoff: int, node: int, incarnation: UUID, timing: Timing) -> Transaction[str]:
    """Drain the source, now that the target is prepared; without one, grant. Return what was done.

    Idempotent: a repeat, or a report after the deadline, returns `late`.
    """
    locked = yield from lock_run_and_handoff(handoff, target=(node, incarnation))
    if locked is None:
        return "late"
    run, h = locked
    if h.state != "preparing" or (h.target_node_id, h.target_incarnation) != (node, incarnation):
        return "late"  # a repeat, or the deadline was faster
    if h.from_epoch != run.epoch:
        yield from fail(h, run, "the portfolio was granted again meanwhile")
        return "failed"
    if run.node_id is None or h.kind == "failover":
        if h.kind == "failover" and run.node_id is not None and not owner_is_gone(h):
            yield from fail(h, run, f"{h.source_name} sends heartbeats again and keeps it")
            return "failed"
        if h.kind == "failover" and run.event_waits and run.attempts + 1 >= MAX_ATTEMPTS:
            error = f"{h.source_name}, which ran it, was lost"
            yield from fail(h, run, error)
            yield from quarantine(run, run.attempts + 1, error)
            return "quarantined"
        return (yield from grant_to_target(h, run, timing, released=False, batch=None, answer=""))
    yield from query_one(
        MOVE,
        handoff=handoff,
        from_=["preparing"],
        to="draining",
        error="",
        deadline_s=timing.drain_deadline_s,
    )
    yield from query(
        SET_PHASE, portfolio=run.portfolio_id, epoch=run.epoch, phase="draining", reason=None
    )
    yield from bump_desired_versions([h.source_node_id, h.target_node_id])
    return "draining"


def owner_is_gone(h: Row) -> bool:
    """Return whether the owner lost its lease, so that a failover may go on. Pure."""
    return (
        h.source_status in ("lost", "left") and not h.source_valid
    ) or h.source_lease != h.source_incarnation


def handle_step_failure(
    handoff: int,
    node: int,
    incarnation: UUID,
    step: str,
    error: str,
    strategy_failed: bool,
    timing: Timing,
) -> Transaction[str]:
    """End or roll back a handoff whose target failed at `step`. Return what was done.

    Idempotent: a repeat, or a report of another step, returns `late`. `strategy_failed`: by the
    strategy's own error.
    """
    locked = yield from lock_run_and_handoff(handoff, target=(node, incarnation))
    if locked is None:
        return "late"
    run, h = locked
    if (h.target_node_id, h.target_incarnation) != (node, incarnation):
        return "late"
    if step == "activate" and h.state == "activating":
        if strategy_failed or h.kind == "reload":
            yield from reject_handoff_revision(h, run, error)
        return (yield from roll_back(h, run, error, timing))
    if h.state in ("preparing", "draining"):
        yield from handle_prepare_failure(h, run, error, strategy_failed)
        return "failed"
    return "late"
