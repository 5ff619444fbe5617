"""Hold while the fast moving average is above the slow one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated

import msgspec

from portfolios.strategies.base import (
    Context,
    FieldError,
    Held,
    OrderIntent,
    quantity_errors,
    smaller_errors,
)
from portfolios.strategies.recent_closes import RecentClosesStrategy

Window = Annotated[int, msgspec.Meta(ge=1, le=1000, description="bars of the mean")]


class SmaCrossParameters(msgspec.Struct, frozen=True):
    """Two windows in bars, and how much to hold."""

    fast: Window = 10
    slow: Window = 30
    quantity: Held = Decimal(10)


class SmaCross(RecentClosesStrategy):
    """Holds while the mean of the last `fast` closes is above that of the last `slow` closes."""

    name = "sma_cross"
    parameters_type = SmaCrossParameters

    @classmethod
    def check(cls, parameters: SmaCrossParameters, symbols: Sequence[str]) -> Iterable[FieldError]:
        yield from smaller_errors("fast", parameters.fast, "slow", parameters.slow)
        yield from quantity_errors("quantity", parameters.quantity)

    def __init__(self, parameters: SmaCrossParameters) -> None:
        super().__init__(parameters)
        self._windows = parameters.fast, parameters.slow

    @property
    def window(self) -> int:
        slow: int = self.parameters.slow
        return slow

    def decide(self, ctx: Context, symbol: str, closes: list[int]) -> Iterable[OrderIntent] | None:
        fast, slow = self._windows
        held = ctx.held(symbol)
        if sum(closes[-fast:]) * slow > sum(closes) * fast:  # integers: no rounding
            return None if held else [OrderIntent(symbol, "buy", self.parameters.quantity)]
        return [OrderIntent(symbol, "sell", held)] if held > 0 else None
