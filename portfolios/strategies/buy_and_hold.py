"""Buy once and hold indefinitely."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from portfolios.runtime.events import Event
from portfolios.strategies.base import (
    Context,
    FieldError,
    Held,
    OrderIntent,
    Strategy,
    quantity_errors,
)


class BuyAndHoldParameters(msgspec.Struct, frozen=True):
    """The quantity to hold of each symbol."""

    quantity: Held = Decimal(10)


class BuyAndHold(Strategy):
    """Holds `quantity` of each of its symbols from the first event of the symbol on."""

    name = "buy_and_hold"
    parameters_type = BuyAndHoldParameters

    @classmethod
    def check(
        cls, parameters: BuyAndHoldParameters, symbols: Sequence[str]
    ) -> Iterable[FieldError]:
        return quantity_errors("quantity", parameters.quantity)

    def on_event(
        self, ctx: Context, state: dict[str, Any], event: Event
    ) -> Iterable[OrderIntent] | None:
        if ctx.held(event.symbol) or ctx.has_open_order(event.symbol):
            return None
        return [OrderIntent(event.symbol, "buy", self.parameters.quantity)]
