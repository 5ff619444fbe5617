"""A strategy for tests that acts on the bars of all its symbols."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from portfolios.runtime.events import Bar, Event
from portfolios.strategies.base import Context, Intent, OrderIntent, Report, Strategy, WarmUp


class CheapestOfAll(Strategy):
    """Buys the cheapest and sells the dearest of its symbols; remembers each set of bars."""

    name = "cheapest_of_all"

    def initial(self) -> dict[str, Any]:
        return {"sets": [], "reports": 0}

    def warm_up(self) -> WarmUp:
        return WarmUp(events=5)

    def on_event(
        self, ctx: Context, state: dict[str, Any], event: Event
    ) -> Iterable[Intent] | None:
        return None

    def on_bars(
        self, ctx: Context, state: dict[str, Any], bars: Mapping[str, Bar]
    ) -> Iterable[Intent] | None:
        state["sets"].append([[bar.symbol, bar.seq, bar.close_units] for bar in bars.values()])
        by_price = sorted(bars, key=lambda symbol: bars[symbol].close)
        cheapest, dearest = by_price[0], by_price[-1]
        intents: list[Intent] = [OrderIntent(cheapest, "buy", Decimal(ctx.random.randint(1, 3)))]
        if ctx.held(dearest) > 0:
            intents.append(OrderIntent(dearest, "sell", Decimal(1), tag="dear"))
        return intents

    def on_report(self, ctx: Context, state: dict[str, Any], report: Report) -> None:
        state["reports"] += 1
