"""Hold while the fast moving average is above the slow one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated

import msgspec

from portfolios.strategies.base import (
    Context,
    FieldError,
    OrderIntent,
    quantity_errors,
    smaller_errors,
)
from portfolios.strategies.recent_closes import RecentClosesStrategy

Window = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class SmaCrossParameters(msgspec.Struct, frozen=True):
    """Two windows in bars, and how much to hold."""

    fast: Window = 10
    slow: Window = 30
    quantity: Decimal = Decimal(10)


class SmaCross(RecentClosesStrategy):
    """Buys when the mean of the last `fast` closes is above that of the last `slow` closes, and
    sells everything when it no longer is."""

    name = "sma_cross"
    parameters_type = SmaCrossParameters

    @classmethod
    def check(cls, parameters: SmaCrossParameters, symbols: Sequence[str]) -> Iterable[FieldError]:
        yield from smaller_errors("fast", parameters.fast, "slow", parameters.slow)
        yield from quantity_errors("quantity", parameters.quantity)

    @property
    def window(self) -> int:
        slow: int = self.parameters.slow
        return slow

    def decide(self, ctx: Context, symbol: str, closes: list[int]) -> Iterable[OrderIntent] | None:
        fast, slow = self.parameters.fast, self.parameters.slow
        above = sum(closes[-fast:]) * slow > sum(closes) * fast  # integers: no rounding
        held = ctx.held(symbol)
        if above and not held:
            return [OrderIntent(symbol, "buy", self.parameters.quantity)]
        if not above and held > 0:
            return [OrderIntent(symbol, "sell", held)]
        return None
