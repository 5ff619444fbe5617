"""Base of strategies that decide from the last closes of each symbol."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portfolios.runtime.events import Event
from portfolios.runtime.state import StrategyPart
from portfolios.strategies.base import Context, OrderIntent, Strategy


class RecentClosesStrategy(Strategy):
    """Keeps the last `window` closes of each symbol as its state: integers of the symbol's scale.

    Buys and sells nothing before the window is full or while an order of the symbol is open.
    """

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters)
        self._size = self.window  # looked up once, not at every event

    @property
    def window(self) -> int:
        """Return how many closes to keep."""
        raise NotImplementedError

    def decide(self, ctx: Context, symbol: str, closes: list[int]) -> Iterable[OrderIntent] | None:
        """Return the orders for `symbol`, given its last `window` closes."""
        raise NotImplementedError

    def initial(self) -> dict[str, Any]:
        return {"closes": {}}

    def adapt(self, old: StrategyPart) -> dict[str, Any] | None:
        """Keep the newest closes, as many as the new window needs."""
        kept = super().adapt(old)
        if kept is None:
            return None
        size = self.window
        return {"closes": {symbol: closes[-size:] for symbol, closes in kept["closes"].items()}}

    def on_event(
        self, ctx: Context, state: dict[str, Any], event: Event
    ) -> Iterable[OrderIntent] | None:
        symbol = event.symbol
        closes = state["closes"].get(symbol)
        if closes is None:
            closes = state["closes"][symbol] = []
        closes.append(event.close_units)
        missing = self._size - len(closes)
        if missing < 0:
            del closes[0]
        elif missing:
            return None
        return None if ctx.has_open_order(symbol) else self.decide(ctx, symbol, closes)
