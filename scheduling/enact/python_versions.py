"""Accept that portfolios continue under another Python version than before."""

from __future__ import annotations

from collections.abc import Sequence

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query
from scheduling.enact.audit_log import Line, audit_all
from scheduling.enact.notify import notify_watchers

ACCEPT_PYTHON = Statement(
    "ACCEPT_PYTHON",
    """
WITH chosen AS MATERIALIZED (
    -- In portfolio order, as everywhere. Concurrent writer: a grant, whose node was chosen before
    -- or after this; the next pass reads the run again.
    SELECT r.portfolio_id, p.name FROM scheduling_run r
    JOIN portfolios_portfolio p ON p.id = r.portfolio_id
    WHERE p.archived_at IS NULL AND r.accept_python <> %(version)s::text
      AND (%(names)s::text[] IS NULL OR p.name = ANY(%(names)s::text[]))
    ORDER BY r.portfolio_id FOR UPDATE OF r
)
UPDATE scheduling_run r SET accept_python = %(version)s::text
FROM chosen c WHERE r.portfolio_id = c.portfolio_id
RETURNING r.portfolio_id, c.name
""",
)


def accept_python(
    version: str, names: Sequence[str] | None, *, actor: str, reason: str = ""
) -> Transaction[list[str]]:
    """Let portfolios run under Python `version`, though they last ran under another.

    `names` None means all portfolios; an empty `version` withdraws an earlier acceptance. Return
    the names of the changed portfolios.
    """
    rows = yield from query(
        ACCEPT_PYTHON, version=version, names=None if names is None else list(names)
    )
    if rows:
        lines = [
            Line(portfolio=row.portfolio_id, node=None, reason=reason, data={"version": version})
            for row in rows
        ]
        yield from audit_all("python_accepted", lines, actor=actor)
        yield from notify_watchers()
    return sorted(row.name for row in rows)
