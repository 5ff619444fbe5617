"""Handle the target's report that it is prepared, or that it failed."""

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


def prepared(handoff: int, node: int, incarnation: UUID, timing: Timing) -> Transaction[str]:
    """The target is prepared: drain the source, or grant at once if there is none. Idempotent."""
    locked = yield from lock_run_and_handoff(handoff)
    if locked is None:
        return "gone"
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
    """Return whether a failover may go on: the owner lost its lease. Pure."""
    return (
        h.source_status in ("lost", "left") and not h.source_valid
    ) or h.source_lease != h.source_incarnation


def step_failed(
    handoff: int,
    node: int,
    incarnation: UUID,
    step: str,
    error: str,
    strategy_failed: bool,
    timing: Timing,
) -> Transaction[str]:
    """The target failed to prepare or activate. Idempotent; a late report changes nothing."""
    locked = yield from lock_run_and_handoff(handoff)
    if locked is None:
        return "gone"
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
