"""What authors test their strategies with."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from portfolios.backtest.testing import NotRepeatable, bars, run_bars
from portfolios.runtime.errors import StrategyFailed
from portfolios.strategies import registry
from portfolios.strategies.base import OrderIntent, Strategy
from portfolios.strategies.sma_cross import SmaCross


class EverySecondBar(Strategy):
    """Buys at every second bar, and counts where `count` tells it."""

    name = "every_second_bar"

    def on_event(self, ctx: Any, state: Any, event: Any) -> Any:
        if self.count(state) % 2:
            return None
        return [OrderIntent(event.symbol, "buy", Decimal(1))]

    def count(self, state: Any) -> int:
        state["bars"] = state.get("bars", 0) + 1
        return int(state["bars"])


class CountsInAnAttribute(EverySecondBar):
    bars = 0

    def count(self, state: Any) -> int:
        self.bars += 1
        return self.bars


class KeepsATuple(EverySecondBar):
    def count(self, state: Any) -> int:
        state["pair"] = (1, 2)
        return super().count(state)


def test_run_names_orders_fills_and_equity() -> None:
    run = run_bars(EverySecondBar, bars("A", 10, 11, 12, 13), cash=100)
    assert [(order.seq, order.status) for order in run.orders] == [(2, "filled"), (4, "open")]
    assert [(fill.fill_seq, fill.price) for fill in run.fills] == [(3, Decimal("11"))]
    assert (run.cash, run.equity) == (Decimal(89), Decimal(102))
    assert run.state == {"bars": 4}


def test_bars_of_several_symbols_are_numbered_by_their_times() -> None:
    run = run_bars(EverySecondBar, [*bars("A", 10, 11), *bars("B", 20, 21)])
    assert [(order.seq, order.symbol) for order in run.orders] == [(2, "B"), (4, "B")]


def test_memory_outside_the_state_is_found() -> None:
    with pytest.raises(NotRepeatable, match="decides differently at seq 2 if its process is rest"):
        run_bars(CountsInAnAttribute, bars("A", 10, 11, 12))


def test_state_that_changes_when_it_is_stored_is_found() -> None:
    with pytest.raises(NotRepeatable, match="lists instead of tuples"):
        run_bars(KeepsATuple, bars("A", 10, 11))


def test_parameters_are_checked_as_those_of_an_operator() -> None:
    with pytest.raises(ValueError, match=r"fast is 0; give a whole number, 1 or more\."):
        run_bars(SmaCross, bars("A", 10), fast=0)


def test_failure_is_raised_and_the_class_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EverySecondBar, "count", lambda self, state: 1 // 0)
    with pytest.raises(StrategyFailed, match="at seq 1"):
        run_bars(EverySecondBar, bars("A", 10))
    with pytest.raises(registry.UnknownStrategy):
        registry.get("every_second_bar")
