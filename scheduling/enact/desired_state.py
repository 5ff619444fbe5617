"""What an operator wants of a portfolio: that it runs, is stopped, or is deleted."""

from __future__ import annotations

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query

#: Concurrent writers: a halt of the whole fleet and its undoing, and a deletion, after which
#: nothing is written. The operator's transaction holds the portfolio's row.
DESIRE = Statement(
    "DESIRE",
    """
UPDATE portfolios_portfolio SET desired_state = %(state)s
WHERE id = %(portfolio)s AND archived_at IS NULL AND desired_state <> %(state)s
""",
)

#: Concurrent writer: another deletion; the first one's time stays.
ARCHIVE = Statement(
    "ARCHIVE",
    """
UPDATE portfolios_portfolio SET desired_state = 'stopped', archived_at = clock_timestamp()
WHERE id = %(portfolio)s AND archived_at IS NULL
""",
)


def want_running(portfolio: int) -> Transaction[None]:
    """Store that the portfolio should run, unless it was deleted. A pass places it."""
    yield from query(DESIRE, portfolio=portfolio, state="running")


def want_stopped(portfolio: int) -> Transaction[None]:
    """Store that the portfolio should be stopped.

    This alone ends no ownership: the caller also requests the stop.
    """
    yield from query(DESIRE, portfolio=portfolio, state="stopped")


def archive(portfolio: int) -> Transaction[None]:
    """Mark the portfolio as deleted: no list shows it. Its orders and audit log stay."""
    yield from query(ARCHIVE, portfolio=portfolio)
