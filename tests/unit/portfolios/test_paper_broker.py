"""At which price the paper broker fills an order within a bar, and what it charges."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from portfolios.runtime.paper_broker import PriceRange, fee_of, fill_price
from portfolios.runtime.spec import BrokerSettings
from portfolios.runtime.state import OpenOrder

BAR = PriceRange(Decimal("10.00"), Decimal("12.00"), Decimal("9.00"))
NONE = BrokerSettings()


def order(side: Any, kind: Any = "market", price: str | None = None) -> OpenOrder:
    """Return an order of 3 pieces with its limit or stop at `price`."""
    at = None if price is None else Decimal(price)
    return OpenOrder(
        1, 0, "KO", side, Decimal(3), Decimal(10), kind, at if kind == "limit" else None,
        at if kind == "stop" else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("side", "kind", "price", "expected"),
    [
        ("buy", "limit", "8.99", None),  # below the low
        ("buy", "limit", "9.00", "9.00"),  # the low
        ("sell", "limit", "12.01", None),
        ("sell", "limit", "12.00", "12.00"),
        ("buy", "stop", "12.01", None),
        ("buy", "stop", "12.00", "12.00"),
        ("sell", "stop", "8.99", None),
        ("sell", "stop", "9.00", "9.00"),
    ],
)
def test_limit_and_stop_orders_fill_where_the_bar_just_reaches_their_price(
    side: str, kind: str, price: str, expected: str | None
) -> None:
    wanted = None if expected is None else Decimal(expected)
    assert fill_price(order(side, kind, price), BAR, NONE) == wanted


@pytest.mark.parametrize(
    ("settings", "side", "kind", "price", "expected"),
    [
        (BrokerSettings(slippage_bps=Decimal(50)), "buy", "market", None, "10.05"),
        (BrokerSettings(slippage_bps=Decimal(50)), "sell", "market", None, "9.95"),
        (BrokerSettings(slippage_ticks=3), "buy", "market", None, "10.03"),
        (BrokerSettings(slippage_ticks=2, tick_size=Decimal("0.2")), "sell", "stop", "9.6", "9.2"),
        (BrokerSettings(slippage_bps=Decimal(50), slippage_ticks=3), "buy", "stop", "11", "11.08"),
        # 0.5 % of 11 is 0.055: halves to even, in units of the bar
        (BrokerSettings(slippage_bps=Decimal(50)), "buy", "stop", "11", "11.06"),
        (BrokerSettings(slippage_bps=Decimal(5000)), "buy", "market", None, "12.00"),  # the high
        (BrokerSettings(slippage_bps=Decimal(5000)), "sell", "market", None, "9.00"),  # the low
        (BrokerSettings(slippage_bps=Decimal(50)), "buy", "limit", "9.50", "9.50"),  # never
    ],
)  # fmt: skip
def test_slippage_makes_a_fill_worse_within_the_bar(
    settings: BrokerSettings, side: str, kind: str, price: str | None, expected: str
) -> None:
    assert fill_price(order(side, kind, price), BAR, settings) == Decimal(expected)


def test_fee_of_a_fill_is_the_sum_of_its_three_parts() -> None:
    settings = BrokerSettings(Decimal("1.5"), Decimal("0.01"), Decimal(20))
    # 1.5 + 30 * 0.01 + 30 * 10.1 * 0.0020 = 1.5 + 0.3 + 0.606
    assert fee_of(settings, Decimal(30), Decimal("10.1")) == Decimal("2.4060")
    assert fee_of(NONE, Decimal(30), Decimal("10.1")) == 0
