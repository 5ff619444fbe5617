"""Write lines of the audit log, in the transaction of the change they record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from portfolios.text import escape_unprintable
from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query

AUDIT = Statement(
    "AUDIT",
    """
INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
SELECT clock_timestamp(), %(kind)s::text, l.portfolio, l.node, %(actor)s::text, l.reason, l.data
FROM unnest(%(portfolios)s::bigint[], %(nodes)s::bigint[], %(reasons)s::text[], %(data)s::jsonb[])
    AS l(portfolio, node, reason, data)
""",
)


class Line(NamedTuple):
    """One event, without its kind and actor: these are the same for all events of a statement."""

    portfolio: int | None
    node: int | None
    reason: str
    data: dict[str, Any]


def audit(
    kind: str,
    /,
    *,
    portfolio: int | None = None,
    node: int | None = None,
    actor: str = "",
    reason: str = "",
    **data: Any,
) -> Transaction[None]:
    """Write one event, with `data` as its fields."""
    yield from audit_all(kind, [Line(portfolio, node, reason, data)], actor=actor)


def audit_all(kind: str, lines: Sequence[Line], *, actor: str = "") -> Transaction[None]:
    """Write an event of `kind` for each line, in one statement."""
    yield from query(
        AUDIT,
        kind=kind,
        actor=escape_unprintable(actor)[:150],
        portfolios=[line.portfolio for line in lines],
        nodes=[line.node for line in lines],
        reasons=[escape_unprintable(line.reason) for line in lines],
        data=[Jsonb(line.data) for line in lines],
    )


#: Seconds within which a task that is refused repeatedly has one line in the audit log.
REFUSED_TASK_INTERVAL_S = 600

AUDIT_REFUSED_TASK = Statement(
    "AUDIT_REFUSED_TASK",
    """
INSERT INTO scheduling_event (at, kind, actor, reason, data)
SELECT clock_timestamp(), 'task_refused', 'worker', %(reason)s,
       jsonb_build_object('func', %(func)s::text)
WHERE NOT EXISTS (
    SELECT FROM scheduling_event e WHERE e.kind = 'task_refused'
    AND e.at > clock_timestamp() - make_interval(secs => %(interval_s)s)
    AND e.data->>'func' = %(func)s
)
""",
)


def audit_refused_task(function: str, reason: str) -> Transaction[None]:
    """Write an event: the worker refused to call `function`.

    Nothing is written if there was such an event within REFUSED_TASK_INTERVAL_S.
    """
    yield from query(
        AUDIT_REFUSED_TASK, func=function, reason=reason, interval_s=REFUSED_TASK_INTERVAL_S
    )
