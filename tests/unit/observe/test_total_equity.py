"""The equity of a fleet as its board shows it."""

from __future__ import annotations

from decimal import Decimal

from scheduling.observe.fleet_view.portfolios import counted_equity
from tests.support.board_fixture import portfolio


def test_portfolio_that_lost_all_its_cash_counts_with_zero():
    assert counted_equity(portfolio("energy", "node-1", pnl=Decimal(-100_000))) == 0


def test_portfolio_of_unknown_equity_counts_with_its_starting_cash():
    unknown = portfolio("energy", "node-1", account={"equity": None})
    assert counted_equity(unknown) == Decimal(100_000)
