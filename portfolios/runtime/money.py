"""Exact money: the decimal context of every process, and the rounding of amounts."""

from __future__ import annotations

import decimal
from decimal import Decimal

CONTEXT = decimal.Context(prec=28, rounding=decimal.ROUND_HALF_EVEN)
FOUR_PLACES = Decimal("0.0001")
FOUR_PLACES_EXPONENT = -4
ZERO = Decimal("0.0000")
#: Arithmetic in CONTEXT whatever the current context is, looked up once: they run at each event.
add, subtract, multiply, divide = CONTEXT.add, CONTEXT.subtract, CONTEXT.multiply, CONTEXT.divide
quantize = CONTEXT.quantize


def install_context() -> None:
    """Make CONTEXT the decimal context of this thread and of threads started later."""
    decimal.DefaultContext.prec = CONTEXT.prec
    decimal.DefaultContext.rounding = CONTEXT.rounding
    decimal.setcontext(CONTEXT.copy())


def to_four_places(amount: Decimal) -> Decimal:
    """Return `amount` rounded to exactly four places, halves to even."""
    return quantize(amount, FOUR_PLACES)


def price_text(price: Decimal) -> str:
    """Return a price for people: its own places, four at least, and never an exponent."""
    exponent = price.as_tuple().exponent
    has_fewer_than_four = isinstance(exponent, int) and exponent > FOUR_PLACES_EXPONENT
    return as_text(price) if has_fewer_than_four else format(price, "f")


def as_text(amount: Decimal) -> str:
    """Return `amount` for people: four places, never an exponent, never a negative zero."""
    rounded = to_four_places(amount)
    return format(rounded if rounded else ZERO, "f")
