"""Make a portfolio that has no owner ready to be placed again."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement, head_of_portfolio
from scheduling.db.transaction import Transaction, query
from scheduling.decide.reasons import as_data, render
from scheduling.decide.types import Reason

#: Applies to an unassigned run only: the phase set by a faster grant stays. The operator who starts
#: it has seen how old its events are, so `catch_up` causes no halt up to the present head.
MAKE_PENDING = Statement(
    "MAKE_PENDING",
    f"""
UPDATE scheduling_run SET phase = 'pending', phase_since = clock_timestamp(), attempts = 0,
    failures_by_node = '{{}}', reason = 'waits for the next pass', halt_id = NULL,
    failed_seq = NULL,
    resumed_from = last_seq, resume_seq = {head_of_portfolio("scheduling_run.portfolio_id")}
WHERE portfolio_id = %(portfolio)s AND node_id IS NULL
""",
)

NOTE_PENDING = Statement(
    "NOTE_PENDING",
    """
UPDATE scheduling_run SET reason = %(reason)s::text, why = %(why)s::jsonb
WHERE portfolio_id = %(portfolio)s AND node_id IS NULL AND phase = 'pending'
""",
)


def make_pending(portfolio: int) -> Transaction[None]:
    """Make a quarantined, halted or stopped portfolio pending, unless a node owns it.

    Its attempts begin at 0, and its `catch_up` causes no halt up to the present head.
    """
    yield from query(MAKE_PENDING, portfolio=portfolio)


def note_pending(portfolio: int, why: Reason) -> Transaction[None]:
    """Store the reason why a portfolio that was started has no node yet."""
    yield from query(NOTE_PENDING, portfolio=portfolio, reason=render(why), why=Jsonb(as_data(why)))
