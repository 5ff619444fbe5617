"""A strategy for tests that uses everything the runtime offers, and depends on what it is told."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from portfolios.runtime.events import Event
from portfolios.strategies.base import (
    CancelIntent,
    Context,
    Intent,
    OrderIntent,
    ReplaceIntent,
    Report,
    Strategy,
    WarmUp,
)

ONE = Decimal(1)


class EveryOrder(Strategy):
    """Cycles through the kinds of orders, cancels and replaces; counts its reports and timers."""

    name = "every_order"

    def initial(self) -> dict[str, Any]:
        return {"n": 0, "told": {}, "timers": []}

    def warm_up(self) -> WarmUp:
        return WarmUp(events=5)

    def on_event(
        self, ctx: Context, state: dict[str, Any], event: Event
    ) -> Iterable[Intent] | None:
        state["n"] += 1
        ctx.metric("events", state["n"])
        ctx.metric(f"of_{event.symbol.lower()}", float(ctx.held(event.symbol)))
        ctx.log(f"event {event.seq}")
        if state["n"] % 4 == 0:
            ctx.set_timer(event.released + 7_000_000)
        step, symbol, close = state["n"] % 7, event.symbol, event.close
        below, above = (close * Decimal(99) / 100), (close * Decimal(101) / 100)
        below, above = below.quantize(close), above.quantize(close)
        oldest = ctx.open_orders[0] if ctx.open_orders else None
        held = ctx.held(symbol)
        if step == 0:
            return [OrderIntent(symbol, "buy", ONE, "limit", below, tag=f"n{state['n']}")]
        if step == 1 and held > 0:
            return [OrderIntent(symbol, "sell", held, "stop", stop_price=below)]
        if step == 2 and oldest is not None and oldest.kind != "market":
            return [CancelIntent(oldest)]
        if step == 3 and oldest is not None and oldest.kind == "limit":
            return [ReplaceIntent(oldest, limit_price=above), CancelIntent(oldest)]
        if step == 4:
            return [OrderIntent(symbol, "buy", ONE, "limit", below, None, "ioc")]
        if step == 5:
            return [
                OrderIntent(symbol, "buy", ONE, "stop", stop_price=above),
                OrderIntent(symbol, "buy", ONE),
            ]
        return None

    def on_report(
        self, ctx: Context, state: dict[str, Any], report: Report
    ) -> Iterable[Intent] | None:
        told = state["told"]
        told[report.kind] = told.get(report.kind, 0) + 1
        if report.kind == "filled" and report.side == "buy" and told["filled"] % 3 == 0:
            return [OrderIntent(report.symbol, "sell", ONE, "limit", report.price, tag="profit")]
        return None

    def on_timer(self, ctx: Context, state: dict[str, Any], due: int) -> Iterable[Intent] | None:
        state["timers"] = [*state["timers"][-5:], due]
        held = next(iter(ctx.positions), None)
        return None if held is None else [OrderIntent(held, "buy", ONE, tag="timer")]
