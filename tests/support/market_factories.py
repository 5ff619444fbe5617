"""Factories for tests of the runtime: bars, specs, and engines with a scripted strategy."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.events import PRICE_PLACES, Bar, Event, to_units
from portfolios.runtime.results import BatchResult
from portfolios.runtime.spec import Limits, Spec
from portfolios.strategies import registry
from portfolios.strategies.base import OrderIntent, Strategy

SECOND_US = 1_000_000


def bar(seq: int, symbol: str, open_: str, close: str, released_s: int | None = None) -> Event:
    """Return a bar, released by default `seq` seconds after the Unix epoch."""
    first, last = to_units(open_, PRICE_PLACES), to_units(close, PRICE_PLACES)
    at = (seq if released_s is None else released_s) * SECOND_US
    return Bar(seq, symbol, at, at, first, max(first, last), min(first, last), last, 100)


class Scripted(Strategy):
    """Returns the scripted intents of a seq, or raises the scripted exception."""

    name = "scripted"
    script: dict[int, Any] = {}

    def initial(self) -> dict[str, Any]:
        return {"seen": []}

    def on_event(self, ctx, state, event):  # type: ignore[no-untyped-def]
        state["seen"].append(event.seq)
        answer = self.script.get(event.seq)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def buy(symbol: str, quantity: str) -> OrderIntent:
    return OrderIntent(symbol, "buy", Decimal(quantity))


def sell(symbol: str, quantity: str) -> OrderIntent:
    return OrderIntent(symbol, "sell", Decimal(quantity))


def spec(strategy: str = "scripted", **changes: Any) -> Spec:
    """Return a spec with 1,000 of cash and default limits."""
    values: dict[str, Any] = {
        "portfolio": "alpha", "uid": "11111111-2222-3333-4444-555555555555", "revision": 1,
        "strategy": strategy, "strategy_version": 1, "parameters": {}, "symbols": [],
        "starting_cash": Decimal(1000), "first_seq": 1, "limits": Limits(),
    }  # fmt: skip
    return Spec(**(values | changes))


def scripted(monkeypatch: Any, script: dict[int, Any], **changes: Any) -> PortfolioEngine:
    """Return an engine of `Scripted` with this script: seq → intents, or what it raises."""
    monkeypatch.setitem(registry.BUILT_IN, "scripted", Scripted)
    monkeypatch.setattr(Scripted, "script", script)
    return PortfolioEngine.fresh(spec(**changes))


def run(engine: PortfolioEngine, events: Sequence[Event], suppress: bool = False) -> BatchResult:
    """Run the events from the engine's seq up to the last one."""
    return engine.run(events, engine.last_seq, events[-1].seq, suppress)
