"""Hold while the fast moving average is above the slow one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from portfolios.runtime.events import Event
from portfolios.runtime.state import StrategyPart
from portfolios.strategies.base import Context, FieldError, OrderIntent, Strategy, quantity_errors

Window = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class SmaCrossParameters(msgspec.Struct, frozen=True):
    """Two windows in bars, and how much to hold."""

    fast: Window = 10
    slow: Window = 30
    quantity: Decimal = Decimal(10)


class SmaCross(Strategy):
    """Buys when the mean of the last `fast` closes is above that of the last `slow`, and sells all
    when it no longer is. State: the last closes of each symbol, in units of 0.0001."""

    name = "sma_cross"
    parameters_type = SmaCrossParameters

    @classmethod
    def check(cls, parameters: SmaCrossParameters, symbols: Sequence[str]) -> Iterable[FieldError]:
        if parameters.fast >= parameters.slow:
            yield FieldError(
                "fast",
                "conflict",
                f"fast ({parameters.fast}) must be smaller than slow ({parameters.slow}).",
            )
        yield from quantity_errors("quantity", parameters.quantity)

    def initial(self) -> dict[str, Any]:
        return {"closes": {}}

    def adapt(self, old: StrategyPart) -> dict[str, Any] | None:
        """Keep the newest closes that the new windows can use."""
        kept = super().adapt(old)
        if kept is None:
            return None
        slow = self.parameters.slow
        return {"closes": {symbol: closes[-slow:] for symbol, closes in kept["closes"].items()}}

    def on_event(
        self, ctx: Context, state: dict[str, Any], event: Event
    ) -> Iterable[OrderIntent] | None:
        fast, slow = self.parameters.fast, self.parameters.slow
        closes = state["closes"].setdefault(event.symbol, [])
        closes.append(event.close_e4)
        if len(closes) > slow:
            del closes[0]
        if len(closes) < slow or ctx.has_open_order(event.symbol):
            return None
        above = sum(closes[-fast:]) * slow > sum(closes) * fast  # whole numbers: no rounding
        held = ctx.held(event.symbol)
        if above and not held:
            return [OrderIntent(event.symbol, "buy", self.parameters.quantity)]
        if not above and held > 0:
            return [OrderIntent(event.symbol, "sell", held)]
        return None
