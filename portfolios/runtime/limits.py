"""Check an order against the limits when the strategy decides, at the price it saw."""

from __future__ import annotations

from decimal import Decimal

from portfolios.runtime.money import ZERO, as_text, quantise
from portfolios.runtime.spec import Limits
from portfolios.runtime.state import Account


def refusal(
    limits: Limits, account: Account, symbol: str, signed: Decimal, price: Decimal
) -> str | None:
    """Return why an order of `signed` pieces is refused, or None if it may be placed.

    Open orders count as filled at the price they were decided at. An order that reduces a position
    never violates the position limit. The fill is at the next open, whose price may be higher than
    the price seen: cash can then go below zero by that difference.
    """
    if limits.largest_order is not None and abs(signed) > limits.largest_order:
        return (
            f"order of {_format(abs(signed))} is over the largest, {_format(limits.largest_order)}"
        )
    position = account.positions.get(symbol)
    before = position.quantity if position else ZERO
    before += sum(o.signed_quantity for o in account.open_orders if o.symbol == symbol)
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
    promised = sum(quantise(o.quantity * o.price) for o in account.open_orders if o.side == "buy")
    needed, free = quantise(quantity * price), account.cash - promised
    if needed <= free:
        return None
    return f"needs {as_text(needed)} of cash, {as_text(free)} is free"


def _format(quantity: Decimal) -> str:
    """Return a quantity without needless zeros: 10, 0.5."""
    return format(quantity.normalize(), "f")
