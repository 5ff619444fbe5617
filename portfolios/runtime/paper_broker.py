"""The paper broker: at which price an order fills within a bar, and what that costs. Pure.

docs/mechanisms/paper-broker.md has the rules as tables. An order is worked at the bars of its
symbol that come after the event it was decided on:

    market  fills at the open.
    limit   fills at the open if the open is at the limit or better, else at the limit if the range
            of the bar reaches it.
    stop    fills at the open if the open is at the stop or beyond it (a gap), else at the stop if
            the range of the bar reaches it.

A fill is of the whole quantity. Slippage makes market and stop orders worse, never beyond the range
of the bar.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from portfolios.runtime.money import CONTEXT, ZERO, to_four_places
from portfolios.runtime.spec import BrokerSettings
from portfolios.runtime.state import OpenOrder

BPS = Decimal("0.0001")  #: a hundredth of a per cent
NOT_FILLED = "not filled at the first bar after its decision"


class PriceRange(NamedTuple):
    """Open, high and low of a bar, each with as many decimal places as its symbol has."""

    open: Decimal
    high: Decimal
    low: Decimal


def fill_price(order: OpenOrder, bar: PriceRange, settings: BrokerSettings) -> Decimal | None:
    """Return the price at which `order` fills at `bar`, or None if it does not."""
    buys = order.side == "buy"
    if order.kind == "limit":
        assert order.limit_price is not None
        return _limit_fill_price(order.limit_price, buys, bar)
    if order.kind == "stop":
        assert order.stop_price is not None
        price = _stop_fill_price(order.stop_price, buys, bar)
        return None if price is None else _slip(price, buys, bar, settings)
    return _slip(bar.open, buys, bar, settings)


def _limit_fill_price(limit: Decimal, buys: bool, bar: PriceRange) -> Decimal | None:
    """Return the price at which a limit order fills; None if its limit is not reached."""
    if buys:
        return min(bar.open, limit) if bar.low <= limit else None
    return max(bar.open, limit) if bar.high >= limit else None


def _stop_fill_price(stop: Decimal, buys: bool, bar: PriceRange) -> Decimal | None:
    """Return the price at which a stop order fills, before slippage; None if it is not reached."""
    if buys:
        return max(bar.open, stop) if bar.high >= stop else None
    return min(bar.open, stop) if bar.low <= stop else None


def _slip(price: Decimal, buys: bool, bar: PriceRange, settings: BrokerSettings) -> Decimal:
    """Return `price` made worse by the slippage, within the bar and to the places of its prices."""
    if not settings.slips:
        return price
    slippage = CONTEXT.multiply(price, settings.slippage_bps * BPS)
    slippage += settings.slippage_ticks * settings.tick_size
    worse = (price + slippage if buys else price - slippage).quantize(bar.open, context=CONTEXT)
    return min(worse, bar.high) if buys else max(worse, bar.low)


def fee_of(settings: BrokerSettings, quantity: Decimal, price: Decimal) -> Decimal:
    """Return the fee of a fill of `quantity` at `price`, four places."""
    if not settings.charges:
        return ZERO
    value = CONTEXT.multiply(quantity, price)
    return to_four_places(
        settings.fee_per_order
        + CONTEXT.multiply(quantity, settings.fee_per_share)
        + CONTEXT.multiply(value, settings.fee_bps * BPS)
    )
