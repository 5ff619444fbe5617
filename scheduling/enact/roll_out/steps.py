"""What a pass does with a roll-out: change states, give portfolios the new or earlier revision."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from portfolios.sentences import sentence as _
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.decide.reasons import as_data, render
from scheduling.decide.roll_out import RollOutState, Steps
from scheduling.decide.types import NEEDS_OPERATOR_PHASES
from scheduling.enact.audit_log import Line, audit, audit_all
from scheduling.enact.grant import lock_run
from scheduling.enact.handoff import Request, request_all
from scheduling.enact.handoff.statements import active_handoff
from scheduling.enact.notify import notify_watchers
from scheduling.enact.roll_out.statements import (
    CHANGE_ITEMS,
    ITEM,
    LOCK_PORTFOLIO,
    LOCK_ROLL_OUT,
    NEW_REVISION,
    START_ITEM,
    TOUCH_ITEM,
    WANT,
    WANTED,
    set_state,
)
from scheduling.errors import Refused
from scheduling.timing import Timing


def apply(roll_out: int, seen: RollOutState, steps: Steps) -> Transaction[bool]:
    """Write the new states of items and of the roll-out, and return True.

    Return False if an operator stopped the roll-out or took it back since its state `seen` was
    read: the next pass decides again.
    """
    locked = yield from query_one(LOCK_ROLL_OUT, roll_out=roll_out)
    if locked is None or locked.state != seen:
        return False
    if steps.changes:
        changed = yield from query(
            CHANGE_ITEMS,
            roll_out=roll_out,
            items=[c.item.id for c in steps.changes],
            before=[c.item.state for c in steps.changes],
            states=[c.state for c in steps.changes],
            reasons=[render(c.reason) if c.reason else "" for c in steps.changes],
            whys=[Jsonb(as_data(c.reason)) if c.reason else None for c in steps.changes],
        )
        portfolios = {row.id: row.portfolio_id for row in changed}
        yield from audit_all(
            "roll_out_portfolio",
            [
                Line(
                    portfolios[c.item.id],
                    None,
                    render(c.reason) if c.reason else "",
                    {"roll_out": roll_out, "state": c.state},
                )
                for c in steps.changes
                if c.item.id in portfolios
            ],
            actor="roll-out",
        )
    if steps.state is not None:
        yield from set_state(roll_out, [seen], steps.state, steps.reason, actor="roll-out")
    yield from notify_watchers()
    return True


def start_item(roll_out: int, item: int, timing: Timing) -> Transaction[str]:
    """Give a portfolio the new revision and begin its reload, if nothing has changed meanwhile.

    Return `started`, or else `late`, `deleted`, `changed` or `busy`: the next pass decides again. A
    reload that is refused now, such as for a lost node, is begun by the sweep; the item has a
    deadline. Raise Refused if the artifact or its strategy is gone.
    """
    locked = yield from query_one(LOCK_ROLL_OUT, roll_out=roll_out)
    row = yield from query_one(ITEM, item=item)
    if locked is None or row is None or locked.state != "running" or row.state != "waiting":
        return "late"  # an operator has stopped it, or another pass has started it
    yield from query(LOCK_PORTFOLIO, portfolio=row.portfolio_id)
    run = yield from lock_run(row.portfolio_id)
    wanted = yield from query_one(WANTED, portfolio=row.portfolio_id)
    if run is None or wanted is None or wanted.archived_at is not None:
        return "deleted"
    is_stopped = wanted.desired_state == "stopped" or run.phase in NEEDS_OPERATOR_PHASES
    if wanted.revision != row.seen_revision or is_stopped:
        return "changed"
    if run.node_id is None or (yield from active_handoff(row.portfolio_id)) is not None:
        return "busy"
    actor = locked.requested_by
    made = yield from query_one(
        NEW_REVISION,
        portfolio=row.portfolio_id,
        number=row.seen_revision,
        artifact=locked.artifact_sha256,
        note=f"roll-out {roll_out}",
        actor=actor,
    )
    if made is None:
        raise Refused(
            "artifact_gone",
            _(
                "{name} cannot get the artifact of roll-out {roll_out}: it was deleted, or "
                "lacks the strategy of {name}. Stop the roll-out, and begin one with an artifact "
                "that has the strategy.",
                roll_out=roll_out,
                name=run.name,
            ),
        )
    yield from query(WANT, portfolio=row.portfolio_id, from_=row.seen_revision, to=made.number)
    # The way back must not lead to a rejected revision, but to the one that runs.
    way_back = run.revision if wanted.status == "rejected" else row.seen_revision
    yield from query(START_ITEM, item=item, from_=way_back, to=made.number)
    yield from audit(
        "portfolio_changed",
        portfolio=row.portfolio_id,
        actor=actor,
        reason=f"roll-out {roll_out}",
        fields=["artifact"],
        revision=made.number,
        roll_out=roll_out,
    )
    yield from _reload(row.portfolio_id, run.node_id, made.number, roll_out, actor, timing)
    return "started"


def give_back(roll_out: int, item: int, timing: Timing) -> Transaction[str]:
    """Give a portfolio its earlier revision again, unless an operator has changed it since.

    Return `given`; or else `changed`, or `late` if the roll-out or the item is in another state by
    now: the next pass decides again.
    """
    locked = yield from query_one(LOCK_ROLL_OUT, roll_out=roll_out)
    row = yield from query_one(ITEM, item=item)
    if locked is None or row is None or locked.state != "going_back" or row.state != "returning":
        return "late"
    assert row.from_revision is not None
    yield from query(LOCK_PORTFOLIO, portfolio=row.portfolio_id)
    run = yield from lock_run(row.portfolio_id)
    given = yield from query_one(
        WANT, portfolio=row.portfolio_id, from_=row.to_revision, to=row.from_revision
    )
    if run is None or given is None:
        return "changed"
    yield from query(TOUCH_ITEM, item=item)  # its deadline counts from now on
    actor = locked.requested_by
    yield from audit(
        "portfolio_changed",
        portfolio=row.portfolio_id,
        actor=actor,
        reason=f"way back of roll-out {roll_out}",
        fields=["artifact"],
        revision=row.from_revision,
        roll_out=roll_out,
    )
    if run.node_id is not None and run.revision != row.from_revision:
        yield from _reload(
            row.portfolio_id, run.node_id, row.from_revision, roll_out, actor, timing
        )
    else:
        yield from notify_watchers()
    return "given"


def _reload(
    portfolio: int, node: int, revision: int, roll_out: int, actor: str, timing: Timing
) -> Transaction[None]:
    """Begin the reload of a portfolio to its new wanted revision.

    If it is refused now, the sweep begins it later.
    """
    requested = Request("reload", portfolio, node, f"roll-out {roll_out}", to_revision=revision)
    (answer,) = yield from request_all([requested], actor=actor, timing=timing)
    if isinstance(answer, Refused):
        yield from notify_watchers()
