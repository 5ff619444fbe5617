"""Paper accounting of one fill.

Invariant: cash + sum of costs = starting cash + realised profit - fees, exactly.
"""

from __future__ import annotations

from decimal import Decimal

from portfolios.runtime.events import PRICE_PLACES
from portfolios.runtime.money import ZERO, to_four_places
from portfolios.runtime.state import Account, Position


def apply_fill(
    account: Account,
    symbol: str,
    signed: Decimal,
    price: Decimal,
    mark: int,
    scale: int = PRICE_PLACES,
    fee: Decimal = ZERO,
) -> None:
    """Book a fill of `signed` pieces (negative: sold) at `price`.

    If the symbol had no position, `mark` is the last price of the new one, in units of 10^-scale.
    """
    value = to_four_places(signed * price)
    account.cash -= value
    if fee:
        account.cash -= fee
        account.fees = fee if account.fees is None else account.fees + fee
    if account.figures is not None:
        account.figures.turnover += abs(value)
    position = account.positions.get(symbol)
    if position is None:
        account.positions[symbol] = Position(signed, value, mark, scale)
    elif (position.quantity > 0) == (signed > 0):  # the position grows
        position.quantity += signed
        position.cost += value
    elif abs(signed) < abs(position.quantity):  # a part of it is closed
        closed_cost = to_four_places(position.cost * -signed / position.quantity)
        account.realised += -value - closed_cost
        position.quantity += signed
        position.cost -= closed_cost
    else:
        _close(account, symbol, position, signed, price, value)


def _close(
    account: Account,
    symbol: str,
    position: Position,
    signed: Decimal,
    price: Decimal,
    value: Decimal,
) -> None:
    """Book a fill that closes the whole position, and opens the other side with the rest."""
    rest = position.quantity + signed
    rest_value = to_four_places(rest * price)
    proceeds = rest_value - value  # of the closed position
    account.realised += proceeds - position.cost
    del account.positions[symbol]
    if rest:
        account.positions[symbol] = Position(rest, rest_value, position.mark_units, position.scale)
