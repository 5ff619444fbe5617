"""The statements of roll-outs, and the change of a roll-out's state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.types.json import Jsonb

from scheduling.db.statements import IdRow, PortfolioIdRow, Statement
from scheduling.db.transaction import Transaction, query_one
from scheduling.decide.reasons import as_data, render
from scheduling.decide.roll_out import OPEN_ITEMS, OPEN_ROLL_OUTS, RollOutState
from scheduling.decide.types import Reason
from scheduling.enact.audit_log import audit

_OPEN_ITEMS = "(" + ", ".join(f"'{state}'" for state in OPEN_ITEMS) + ")"


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
    row=PortfolioIdRow,
)


class HeldRow(NamedTuple):
    name: str  #: of the portfolio
    roll_out_id: int  #: the open roll-out that it is part of


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
    artifact_sha256: str
    state: RollOutState
    requested_by: str


#: Concurrent writers: the pass, and operators who stop the roll-out or take it back.
LOCK_ROLL_OUT = Statement(
    "LOCK_ROLL_OUT",
    """
SELECT artifact_sha256, state, requested_by
FROM scheduling_rollout WHERE id = %(roll_out)s FOR NO KEY UPDATE
""",
    row=LockedRow,
)


class ItemRow(NamedTuple):
    portfolio_id: int
    state: str
    seen_revision: int
    from_revision: int | None
    to_revision: int | None


ITEM = Statement(
    "ITEM",
    """
SELECT portfolio_id, state, seen_revision, from_revision, to_revision
FROM scheduling_rolloutitem WHERE id = %(item)s
""",
    row=ItemRow,
)


class WantedRow(NamedTuple):
    """The wanted revision of a portfolio with its status, and whether the portfolio should run."""

    revision: int
    status: str | None  #: None: there is no such revision
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
SELECT p.revision, v.status, p.desired_state, p.archived_at
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

#: Concurrent writer: another pass. An item that it changed since the item was read stays as it is.
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
    row=PortfolioIdRow,
)

#: Let the time limit of an item begin now.
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
    row=PortfolioIdRow,
)


def set_state(
    roll_out: int,
    before: Sequence[RollOutState],
    state: RollOutState,
    reason: Reason | None,
    *,
    actor: str,
    note: str = "",
) -> Transaction[None]:
    """Change a roll-out's state if it is one of `before`.

    `reason` (None: `note`) goes to the audit log.
    """
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
