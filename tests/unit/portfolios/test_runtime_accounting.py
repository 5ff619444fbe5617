"""Cash, positions and profit after fills, against amounts worked out by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from portfolios.runtime.accounting import apply_fill
from portfolios.runtime.state import Account, State, StrategyPart, account_view


@pytest.fixture
def account() -> Account:
    return Account(Decimal("1000.0000"), Decimal("1000.0000"), Decimal("0.0000"), {}, [], -1)


def fill(account: Account, quantity: str, price: str) -> None:
    apply_fill(account, "KO", Decimal(quantity), Decimal(price), 0)


@pytest.mark.parametrize(
    ("fills", "cash", "realised", "held"),
    [
        ([("10", "25.50")], "745.0000", "0.0000", ("10", "255.0000")),  # 1000 - 10 * 25.5
        # Two purchases at the average of their prices: 1000 - 200 - 130; 330 / 15 = 22
        ([("10", "20"), ("5", "26")], "670.0000", "0.0000", ("15", "330.0000")),
        # A part is sold: cash 1000 - 200 + 92; profit 92 - 4 * 20 = 12; left 6 that cost 120
        ([("10", "20"), ("-4", "23")], "892.0000", "12.0000", ("6", "120.0000")),
        # All is sold: 1000 - 200 + 185; 185 - 200
        ([("10", "20"), ("-10", "18.5")], "985.0000", "-15.0000", None),
        ([("-10", "20")], "1200.0000", "0.0000", ("-10", "-200.0000")),  # a short sale
        # Bought back lower: cash 1200 - 60; profit 4 * (20 - 15) = 20; left -6 at -200 + 80
        ([("-10", "20"), ("4", "15")], "1140.0000", "20.0000", ("-6", "-120.0000")),
        # More is sold than held: cash 1000 - 200 + 330; profit 10 * (22 - 20); left 5 short at 22
        ([("10", "20"), ("-15", "22")], "1130.0000", "20.0000", ("-5", "-110.0000")),
        # More is bought than short: cash 1000 + 200 - 330; profit 10 * (20 - 22); left 5 at 22
        ([("-10", "20"), ("15", "22")], "870.0000", "-20.0000", ("5", "110.0000")),
    ],
)
def test_fills_change_cash_profit_and_position(
    account: Account, fills: list[tuple[str, str]], cash: str, realised: str,
    held: tuple[str, str] | None,
) -> None:  # fmt: skip
    for quantity, price in fills:
        fill(account, quantity, price)
    assert (str(account.cash), str(account.realised)) == (cash, realised)
    positions = {s: (str(p.quantity), str(p.cost)) for s, p in account.positions.items()}
    assert positions == ({} if held is None else {"KO": held})


def test_amounts_of_cash_are_rounded_half_to_even(account: Account) -> None:
    fill(account, "0.5", "0.0001")  # 0.00005 -> 0.0000
    assert account.cash == Decimal("1000.0000")
    fill(account, "1", "0.0003")
    fill(account, "0.5", "0.0003")  # 0.00015 -> 0.0002
    assert account.cash == Decimal("999.9995")


def test_rounding_of_realised_profit_loses_no_money(account: Account) -> None:
    fill(account, "3", "3.3333")  # costs 9.9999
    fill(account, "4", "2.5")  # costs 10, in all 19.9999 for 7
    fill(account, "-1", "3")  # its share 19.9999 / 7 = 2.857128… -> 2.8571
    assert account.realised == Decimal("0.1429")
    assert account.positions["KO"].cost == Decimal("17.1428")
    fill(account, "-6", "3")
    assert account.realised == Decimal("1.0001")  # 21 - 19.9999
    assert account.cash == Decimal("1001.0001")


def test_account_view_shows_cash_equity_and_profit(account: Account) -> None:
    fill(account, "10", "20")
    account.positions["KO"].mark_units = 215_000
    state = State(account, StrategyPart("canary", 1, {}, {}))
    assert account_view(state) == {
        "cash": "800.0000", "equity": "1015.0000",  # 800 + 10 * 21.5
        "pnl": "15.0000", "realised": "0.0000", "unrealised": "15.0000", "fees": "0.0000",
        "exposure": "215.0000", "gross_exposure": "215.0000",
        "turnover": "0.0000",  # not counted: the account has no figures
        "drawdown": "0.0000", "drawdown_pct": "0.0000", "largest_drawdown": "0.0000",
        "figures_since": 0, "open_orders": [],
        "positions": [{"symbol": "KO", "quantity": "10.0000", "average_price": "20.0000",
                       "price": "21.5000", "unrealised": "15.0000"}],
    }  # fmt: skip
