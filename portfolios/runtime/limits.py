"""Check an order, the orders of a minute and the drawdown against the limits of a portfolio."""

from __future__ import annotations

from decimal import Decimal

from portfolios.runtime.money import ZERO, as_text, to_four_places
from portfolios.runtime.spec import Limits
from portfolios.runtime.state import Account, Figures, OrdersOfMinute


def refusal(
    limits: Limits, account: Account, symbol: str, signed: Decimal, price: Decimal
) -> str | None:
    """Return why an order of `signed` pieces is refused, or None if it may be placed.

    `price` is the price that the fill is expected at. Open orders count as filled, each at its own
    expected price. An order that reduces a position never violates the position limit. A market
    order fills at the next open, which may be higher than the price seen: cash can then go below
    zero by that difference, and by fees.
    """
    if account.halted:
        return f"the portfolio halts: {account.halted}"
    if limits.largest_order is not None and abs(signed) > limits.largest_order:
        return (
            f"order of {_format(abs(signed))} is over the largest, {_format(limits.largest_order)}"
        )
    notional = limits.largest_notional
    if notional is not None and to_four_places(abs(signed) * price) > notional:
        return (
            f"order of {as_text(abs(signed) * price)} in value is over the largest,"
            f" {as_text(notional)}"
        )
    position = account.positions.get(symbol)
    before = position.quantity if position else ZERO
    for order in account.open_orders:
        if order.symbol == symbol:
            before += order.signed_quantity
    after = before + signed
    largest = limits.largest_position
    if largest is not None and abs(after) > largest and abs(after) > abs(before):
        return f"position of {_format(after)} would be over the largest, {_format(largest)}"
    if after < 0 and signed < 0 and not limits.allow_short:
        return f"would be short by {_format(-after)}, and short positions are not allowed"
    if signed > 0 and not limits.allow_negative_cash:
        return _cash_refusal(account, signed, price)
    return None


def _cash_refusal(account: Account, quantity: Decimal, price: Decimal) -> str | None:
    """Return why a purchase is refused for lack of cash, or None."""
    free = account.cash
    for order in account.open_orders:
        if order.side == "buy":
            free -= order.expected_value
    needed = to_four_places(quantity * price)
    if needed <= free:
        return None
    return f"needs {as_text(needed)} of cash, {as_text(free)} is free"


def _format(quantity: Decimal) -> str:
    """Return a quantity without needless zeros: 10, 0.5."""
    return format(quantity.normalize(), "f")


def rate_refusal(limits: Limits, account: Account, minute: int) -> str | None:
    """Return why no further order may be placed in a minute, or None.

    `minute` is the feed time in whole minutes since 1970, as for `count_order`.
    """
    most, newest = limits.orders_per_minute, account.minute
    placed = newest.orders if newest is not None and newest.minute == minute else 0
    if most is None or placed < most:
        return None
    return f"{placed} orders were placed in this minute of feed time, the most is {most}"


def count_order(limits: Limits, account: Account, minute: int) -> None:
    """Count a placed order if orders per minute are limited; else forget the count."""
    if limits.orders_per_minute is None:
        account.minute = None
        return
    if account.minute is None or account.minute.minute != minute:
        account.minute = OrdersOfMinute(minute)
    account.minute.orders += 1


def drawdown_violation(limits: Limits, figures: Figures) -> str | None:
    """Return why the portfolio has to halt after an equity point, or None."""
    most = limits.largest_drawdown_pct
    if most is None or figures.drawdown_pct <= most:
        return None
    return (
        f"the equity is {as_text(figures.drawdown)} or {_format(figures.drawdown_pct)} % below its"
        f" peak of {as_text(figures.peak)}, limit {_format(most)} %"
    )
