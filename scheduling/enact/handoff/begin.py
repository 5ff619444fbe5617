"""The first arrow: a handoff is asked for, or superseded by one of higher rank."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from scheduling.decide.precedence import outranks
from scheduling.decide.reasons import as_data
from scheduling.decide.world import WAITS_FOR_A_PERSON, Reason
from scheduling.enact.audit import audit
from scheduling.enact.grant import lock_run
from scheduling.enact.handoff.statements import (
    ACTIVE_HANDOFF,
    INSERT,
    MOVE,
    SET_PHASE,
    TARGET,
)
from scheduling.enact.hints import lock_nodes, touch
from scheduling.enact.recipe import Recipe, Row, call, one
from scheduling.enact.timing import Timing
from scheduling.errors import Refused


def request(
    kind: str,
    portfolio: int,
    *,
    target: int | None,
    to_revision: int | None = None,
    actor: str,
    reason: str,
    why: Reason | None = None,
    timing: Timing,
    seen_epoch: int | None = None,
) -> Recipe[Row]:
    """Begin a handoff and return its row, or raise `Refused` with the sentence.

    `seen_epoch` is what an automatic pass decided on: another epoch by now means that somebody was
    faster, and refuses. What a person asks for names no epoch. `why` is what `reason` says, as
    data, where a plan found it.
    """
    run = yield from lock_run(portfolio)
    if run is None:
        raise Refused("not_found", "The portfolio is gone.", status=404)
    if seen_epoch is not None and run.epoch != seen_epoch:
        raise Refused("superseded", f"{run.name} was granted again since it was looked at.")
    if kind != "stop" and (run.desired_state == "stopped" or run.archived_at):
        # A halt or a stop was faster: what is to run nowhere is not begun anywhere.
        raise Refused("already_stopped", f"{run.name} is to be stopped; start it first.")
    if kind != "stop" and run.phase in WAITS_FOR_A_PERSON:
        # It came to rest since it was looked at, and only a person may say that it goes on.
        raise Refused("already_stopped", f"{run.name} is {run.phase}; start it first.")
    active = yield from one(ACTIVE_HANDOFF, portfolio=portfolio)
    if active is not None and not outranks(kind, active.kind):
        raise Refused(
            "handoff_in_progress",
            f"{run.name} is already in handoff {active.id} ({active.kind}, {active.state}); "
            "wait until it has ended.",
            handoff=active.id,
        )
    parts = [] if active is None else [active.source_node_id, active.target_node_id]
    yield from lock_nodes([run.node_id, target, *parts])
    if active is not None:
        yield from supersede(active, f"a {kind} came first")
    goal = None
    if target is not None:
        goal = yield from one(TARGET, node=target, portfolio=portfolio)
        if goal is None or goal.incarnation is None or not goal.valid:
            name = goal.name if goal is not None else f"number {target}"
            raise Refused(
                "node_lost",
                f"Node {name} cannot take {run.name}: its lease is not valid; choose another.",
            )
        if target != run.node_id and goal.held + run.weight > goal.capacity:
            raise Refused(
                "node_full",
                f"Node {goal.name} has no room for {run.name} (weight {run.weight}): "
                f"{goal.held} of {goal.capacity} are taken; choose another.",
            )
    state = "draining" if kind == "stop" else "preparing"
    deadline_s = timing.drain_deadline_s if kind == "stop" else timing.prepare_deadline_s
    row = yield from one(
        INSERT,
        portfolio=portfolio,
        kind=kind,
        state=state,
        reason=reason,
        why=None if why is None else Jsonb(as_data(why)),
        actor=actor[:150],
        source=run.node_id,
        source_incarnation=run.incarnation,
        target=target,
        target_incarnation=None if goal is None else goal.incarnation,
        from_epoch=run.epoch,
        from_revision=run.revision,
        to_revision=run.revision if to_revision is None else to_revision,
        deadline_s=deadline_s,
    )
    assert row is not None
    yield from audit(
        "handoff_requested",
        portfolio=portfolio,
        node=target if target is not None else run.node_id,
        actor=actor,
        reason=reason,
        handoff=row.id,
        kind=kind,
    )
    if kind == "stop":
        yield from call(
            SET_PHASE, portfolio=portfolio, epoch=run.epoch, phase="draining", reason=reason or None
        )
    yield from touch([run.node_id, target])
    return row


def supersede(active: Row, why: str, *, hint: bool = True) -> Recipe[None]:
    """End an active handoff because something of higher rank comes. Its roles fall away with it."""
    moved = yield from one(
        MOVE,
        handoff=active.id,
        from_=["requested", "preparing", "draining", "activating"],
        to="superseded",
        error=why,
        deadline_s=0,
    )
    if moved is not None:
        yield from audit(
            "handoff_superseded", portfolio=active.portfolio_id, reason=why, handoff=active.id
        )
        if hint:
            yield from touch([active.source_node_id, active.target_node_id])
