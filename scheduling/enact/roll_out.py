"""Write roll-outs: each step locks the roll-out first, then what it changes of a portfolio.

So the pass and the operators who stop a roll-out or take it back never decide at the same time, and
the later one finds the other's state. A concurrent change of a portfolio waits for, or is
waited for at, the lock of the portfolio's row, and is found by its wanted revision.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.decide.reasons import as_data, render
from scheduling.decide.roll_out import (
    NOT_RETURNABLE,
    OPEN_ITEMS,
    OPEN_ROLL_OUTS,
    RETURNABLE,
    RollOutState,
    Steps,
)
from scheduling.decide.types import NEEDS_OPERATOR_PHASES, Reason
from scheduling.enact.artifacts import hold
from scheduling.enact.audit_log import Line, audit, audit_all
from scheduling.enact.grant import lock_run
from scheduling.enact.handoff import Request, request_all
from scheduling.enact.handoff.statements import active_handoff
from scheduling.enact.notify import notify_watchers
from scheduling.errors import NotFound, Refused
from scheduling.timing import Timing

_OPEN_ITEMS = "(" + ", ".join(f"'{state}'" for state in OPEN_ITEMS) + ")"


class IdRow(NamedTuple):
    id: int


NEW_ROLL_OUT = Statement(
    "NEW_ROLL_OUT",
    """
INSERT INTO scheduling_rollout
    (artifact_sha256, state, at_a_time, canary_s, note, requested_by, reason, created_at)
VALUES (%(artifact)s, 'running', %(at_a_time)s, %(canary_s)s, %(note)s::text, %(actor)s::text, '',
        clock_timestamp())
RETURNING id
""",
    row=IdRow,
)


class PortfolioRow(NamedTuple):
    portfolio_id: int


NEW_ITEMS = Statement(
    "NEW_ITEMS",
    f"""
INSERT INTO scheduling_rolloutitem
    (roll_out_id, portfolio_id, position, state, since, seen_revision, reason)
SELECT %(roll_out)s, n.portfolio, n.place - 1, 'waiting', clock_timestamp(), n.revision, ''
FROM unnest(%(portfolios)s::bigint[], %(revisions)s::int[]) WITH ORDINALITY
    AS n(portfolio, revision, place)
-- In the order of the index, so that two roll-outs of the same portfolios wait for each other in
-- one order.
ORDER BY n.portfolio
-- Concurrent writer: another roll-out of one of them, which committed first.
ON CONFLICT (portfolio_id) WHERE state IN {_OPEN_ITEMS} DO NOTHING
RETURNING portfolio_id
""",
    row=PortfolioRow,
)


class HeldRow(NamedTuple):
    name: str
    roll_out_id: int


#: Portfolios that are part of another open roll-out.
HELD_BY_OTHERS = Statement(
    "HELD_BY_OTHERS",
    f"""
SELECT p.name, i.roll_out_id
FROM scheduling_rolloutitem i JOIN portfolios_portfolio p ON p.id = i.portfolio_id
WHERE i.portfolio_id = ANY(%(portfolios)s::bigint[]) AND i.roll_out_id <> %(roll_out)s
  AND i.state IN {_OPEN_ITEMS}
ORDER BY p.name LIMIT 3
""",
    row=HeldRow,
)


class LockedRow(NamedTuple):
    id: int
    artifact_sha256: str
    state: RollOutState
    at_a_time: int
    requested_by: str


#: Concurrent writers: the pass, and operators who stop the roll-out or take it back.
LOCK_ROLL_OUT = Statement(
    "LOCK_ROLL_OUT",
    """
SELECT id, artifact_sha256, state, at_a_time, requested_by
FROM scheduling_rollout WHERE id = %(roll_out)s FOR NO KEY UPDATE
""",
    row=LockedRow,
)


class ItemRow(NamedTuple):
    id: int
    portfolio_id: int
    state: str
    seen_revision: int
    from_revision: int | None
    to_revision: int | None


ITEM = Statement(
    "ITEM",
    """
SELECT id, portfolio_id, state, seen_revision, from_revision, to_revision
FROM scheduling_rolloutitem WHERE id = %(item)s
""",
    row=ItemRow,
)


class WantedRow(NamedTuple):
    id: int
    name: str
    revision: int
    status: str | None
    desired_state: str
    archived_at: datetime | None


LOCK_PORTFOLIO = Statement(
    "LOCK_PORTFOLIO",
    "SELECT id FROM portfolios_portfolio WHERE id = %(portfolio)s FOR NO KEY UPDATE",
    row=IdRow,
)

#: After the lock: a row that was waited for is read as its other writer left it.
WANTED = Statement(
    "WANTED",
    """
SELECT p.id, p.name, p.revision, v.status, p.desired_state, p.archived_at
FROM portfolios_portfolio p
LEFT JOIN portfolios_revision v ON v.portfolio_id = p.id AND v.number = p.revision
WHERE p.id = %(portfolio)s
""",
    row=WantedRow,
)


class NumberRow(NamedTuple):
    number: int


#: The roll-out keeps the artifact from being deleted.
NEW_REVISION = Statement(
    "NEW_REVISION",
    """
INSERT INTO portfolios_revision
    (portfolio_id, number, strategy, strategy_version, artifact_sha256, config, symbols, limits,
     status, status_reason, note, created_by, created_at)
SELECT v.portfolio_id, (SELECT max(l.number) + 1 FROM portfolios_revision l
                        WHERE l.portfolio_id = v.portfolio_id),
       v.strategy, s.version, s.artifact_id, v.config, v.symbols, v.limits,
       'unproven', '', %(note)s::text, %(actor)s::text, clock_timestamp()
FROM portfolios_revision v
JOIN portfolios_strategy s ON s.artifact_id = %(artifact)s AND s.name = v.strategy
WHERE v.portfolio_id = %(portfolio)s AND v.number = %(number)s
RETURNING number
""",
    row=NumberRow,
)

#: Concurrent writers: an operator's change or reload, which made another revision the wanted one.
WANT = Statement(
    "WANT",
    """
UPDATE portfolios_portfolio SET revision = %(to)s
WHERE id = %(portfolio)s AND revision = %(from_)s AND archived_at IS NULL
RETURNING id
""",
    row=IdRow,
)

START_ITEM = Statement(
    "START_ITEM",
    """
UPDATE scheduling_rolloutitem SET state = 'changing', since = clock_timestamp(),
    from_revision = %(from_)s, to_revision = %(to)s
WHERE id = %(item)s AND state = 'waiting'
""",
)

#: A state that another pass has changed since it was read stays.
CHANGE_ITEMS = Statement(
    "CHANGE_ITEMS",
    """
UPDATE scheduling_rolloutitem i SET state = c.state, since = clock_timestamp(),
    reason = c.reason, why = c.why,
    pause_ms = coalesce(i.pause_ms, (
        SELECT h.pause_ms FROM scheduling_handoff h
        WHERE h.portfolio_id = i.portfolio_id AND h.to_revision = i.to_revision
          AND h.from_revision <> i.to_revision AND h.state = 'done'
        ORDER BY h.id LIMIT 1))
FROM unnest(%(items)s::bigint[], %(before)s::text[], %(states)s::text[], %(reasons)s::text[],
            %(whys)s::jsonb[]) AS c(item, before, state, reason, why)
WHERE i.id = c.item AND i.state = c.before AND i.roll_out_id = %(roll_out)s
RETURNING i.id, i.portfolio_id
""",
)

SET_STATE = Statement(
    "SET_STATE",
    """
UPDATE scheduling_rollout SET state = %(to)s::text,
    reason = coalesce(%(reason)s::text, reason), why = coalesce(%(why)s::jsonb, why),
    ended_at = CASE WHEN %(to)s::text = ANY(%(open)s) THEN NULL ELSE clock_timestamp() END
WHERE id = %(roll_out)s AND state = ANY(%(from_)s)
RETURNING id
""",
    row=IdRow,
)

RETURN_ITEMS = Statement(
    "RETURN_ITEMS",
    """
UPDATE scheduling_rolloutitem SET state = 'returning', since = clock_timestamp(), reason = '',
    why = NULL
WHERE roll_out_id = %(roll_out)s AND state <> ALL(%(not_returnable)s)
RETURNING portfolio_id
""",
    row=PortfolioRow,
)

TOUCH_ITEM = Statement(
    "TOUCH_ITEM",
    """
UPDATE scheduling_rolloutitem SET since = clock_timestamp()
WHERE id = %(item)s AND state = 'returning'
""",
)

PORTFOLIOS_CHANGED = Statement(
    "PORTFOLIOS_CHANGED",
    """
SELECT portfolio_id FROM scheduling_rolloutitem
WHERE roll_out_id = %(roll_out)s AND state <> ALL(%(not_returnable)s)
""",
    row=PortfolioRow,
)


def create(
    artifact: str,
    wanted: Sequence[tuple[int, int]],
    *,
    at_a_time: int,
    canary_s: float | None,
    note: str,
    actor: str,
) -> Transaction[int]:
    """Create a roll-out over (portfolio, its wanted revision), canary first. Return its id.

    Raise Refused, naming it, if another open roll-out has one of the portfolios.
    """
    if not (yield from hold(artifact)):
        raise Refused(
            "artifact_gone",
            f"The artifact {artifact[:12]}… has just been deleted; upload it again.",
        )
    made = yield from query_one(
        NEW_ROLL_OUT,
        artifact=artifact,
        at_a_time=at_a_time,
        canary_s=canary_s,
        note=note[:200],
        actor=actor[:150],
    )
    assert made is not None
    portfolios = [portfolio for portfolio, _ in wanted]
    inserted = yield from query(
        NEW_ITEMS,
        roll_out=made.id,
        portfolios=portfolios,
        revisions=[revision for _, revision in wanted],
    )
    if len(inserted) < len(wanted):
        yield from _refuse_held(portfolios, made.id)
    yield from audit_all(
        "roll_out_started",
        [Line(None, None, note, {"roll_out": made.id, "artifact": artifact,
                                 "portfolios": len(wanted)})],
        actor=actor,
    )  # fmt: skip
    yield from notify_watchers()
    return made.id


def _refuse_held(portfolios: Sequence[int], roll_out: int) -> Transaction[None]:
    """Raise Refused if a portfolio is part of another open roll-out."""
    held = yield from query(HELD_BY_OTHERS, portfolios=portfolios, roll_out=roll_out)
    if held:
        raise Refused(
            "roll_out_in_progress",
            f"{held[0].name} is part of roll-out {held[0].roll_out_id}, which has not ended; stop "
            "that one or wait for its end.",
            roll_out=held[0].roll_out_id,
        )


def apply(roll_out: int, seen: RollOutState, steps: Steps) -> Transaction[bool]:
    """Write changed states of items and of the roll-out. Return False if it was changed meanwhile.

    An operator may have stopped it or taken it back since `seen` was read; the next pass decides
    again.
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
        yield from _set_state(roll_out, [seen], steps.state, steps.reason, actor="roll-out")
    yield from notify_watchers()
    return True


def _set_state(
    roll_out: int,
    before: Sequence[RollOutState],
    state: RollOutState,
    reason: Reason | None,
    *,
    actor: str,
    note: str = "",
) -> Transaction[None]:
    moved = yield from query_one(
        SET_STATE,
        roll_out=roll_out,
        from_=list(before),
        to=state,
        reason=None if reason is None else render(reason),
        why=None if reason is None else Jsonb(as_data(reason)),
        open=list(OPEN_ROLL_OUTS),
    )
    if moved is not None:
        text = render(reason) if reason is not None else note
        yield from audit(f"roll_out_{state}", actor=actor, reason=text, roll_out=roll_out)


def start_item(roll_out: int, item: int, timing: Timing) -> Transaction[str]:
    """Give a portfolio the new revision and begin its reload, if nothing has changed meanwhile.

    Return `started`, or why not: the next pass decides again. A reload that is refused now, for
    example since the node is lost, is begun by the sweep; the item has a deadline.
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
            "artifact_gone", f"The artifact of roll-out {roll_out} has no strategy of {run.name}."
        )
    yield from query(WANT, portfolio=row.portfolio_id, from_=row.seen_revision, to=made.number)
    # A rejected revision is nothing to return to: the one that runs is.
    back = run.revision if wanted.status == "rejected" else row.seen_revision
    yield from query(START_ITEM, item=item, from_=back, to=made.number)
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

    Return `given`, or why not: the next pass decides again.
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
    yield from query(TOUCH_ITEM, item=item)
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
    """Begin the reload. If it is refused now, the sweep begins it later."""
    asked = Request("reload", portfolio, node, f"roll-out {roll_out}", to_revision=revision)
    (answer,) = yield from request_all([asked], actor=actor, timing=timing)
    if isinstance(answer, Refused):
        yield from notify_watchers()


def stop(roll_out: int, *, actor: str, reason: str) -> Transaction[None]:
    """Start no further item. Those at work end as they would have. Raise Refused if it is over."""
    locked = yield from query_one(LOCK_ROLL_OUT, roll_out=roll_out)
    if locked is None:
        raise NotFound("roll-out", str(roll_out))
    if locked.state != "running":
        raise Refused(
            "roll_out_over",
            f"Roll-out {roll_out} is {_said(locked.state)}: it starts no further portfolio.",
        )
    why = Reason("roll_out_stopped_by", {"actor": actor, "reason": reason})
    yield from _set_state(roll_out, ["running"], "stopping", why, actor=actor)
    yield from notify_watchers()


def begin_way_back(roll_out: int, *, actor: str, reason: str) -> Transaction[int]:
    """Take the roll-out back. Return how many portfolios it had changed.

    Their items become open again, so that no other roll-out takes these portfolios meanwhile.
    Raise Refused if it went back already, changed nothing, or another roll-out has one of them.
    """
    locked = yield from query_one(LOCK_ROLL_OUT, roll_out=roll_out)
    if locked is None:
        raise NotFound("roll-out", str(roll_out))
    if locked.state not in RETURNABLE:
        raise Refused("roll_out_over", f"Roll-out {roll_out} is {_said(locked.state)} already.")
    found = yield from query(
        PORTFOLIOS_CHANGED, roll_out=roll_out, not_returnable=list(NOT_RETURNABLE)
    )
    if not found:
        raise Refused(
            "nothing_changed",
            f"Roll-out {roll_out} has changed no portfolio yet"
            + ("; stop it instead." if locked.state == "running" else "."),
        )
    yield from _refuse_held([row.portfolio_id for row in found], roll_out)
    yield from query(RETURN_ITEMS, roll_out=roll_out, not_returnable=list(NOT_RETURNABLE))
    yield from _set_state(roll_out, list(RETURNABLE), "going_back", None, actor=actor, note=reason)
    yield from notify_watchers()
    return len(found)


def _said(state: str) -> str:
    return state.replace("_", " ")
