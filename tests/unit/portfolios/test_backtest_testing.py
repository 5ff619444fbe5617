"""The test run that authors of strategies call in their own tests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from portfolios.backtest.testing import NotRepeatable, bars, run_bars
from portfolios.runtime.errors import StrategyFailed
from portfolios.runtime.spec import BrokerSettings, Limits
from portfolios.strategies import registry
from portfolios.strategies.base import CancelIntent, OrderIntent, Strategy
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


def test_test_run_of_a_strategy_gives_its_orders_fills_and_equity() -> None:
    run = run_bars(EverySecondBar, bars("A", 10, 11, 12, 13), cash=100)
    assert [(order.seq, order.status) for order in run.orders] == [(2, "filled"), (4, "open")]
    assert [(fill.fill_seq, fill.price) for fill in run.fills] == [(3, Decimal("11"))]
    assert (run.cash, run.equity) == (Decimal(89), Decimal(102))
    assert run.state == {"bars": 4}


def test_bars_of_several_symbols_are_numbered_by_their_times() -> None:
    run = run_bars(EverySecondBar, [*bars("A", 10, 11), *bars("B", 20, 21)])
    assert [(order.seq, order.symbol) for order in run.orders] == [(2, "B"), (4, "B")]


def test_strategy_with_memory_outside_its_state_is_refused_as_not_repeatable() -> None:
    with pytest.raises(NotRepeatable, match="decides differently at seq 2 if its process is rest"):
        run_bars(CountsInAnAttribute, bars("A", 10, 11, 12))


def test_state_that_changes_when_it_is_stored_is_refused_as_not_repeatable() -> None:
    with pytest.raises(NotRepeatable, match=r"^state\['\w+'\] of .* lists instead of tuples"):
        run_bars(KeepsATuple, bars("A", 10, 11))


def test_parameters_are_checked_as_those_of_an_operator() -> None:
    with pytest.raises(ValueError, match=r"fast is 0; give a whole number, 1 or more\."):
        run_bars(SmaCross, bars("A", 10), fast=0)


def test_failure_of_a_strategy_is_raised_and_its_class_unregistered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(EverySecondBar, "count", lambda self, state: 1 // 0)
    with pytest.raises(StrategyFailed, match="at seq 1"):
        run_bars(EverySecondBar, bars("A", 10))
    with pytest.raises(registry.UnknownStrategy):
        registry.get("every_second_bar")


class StopAndCancel(Strategy):
    """Buys, protects the position by a stop, and cancels a limit order."""

    name = "stop_and_cancel"

    def on_event(self, ctx: Any, state: Any, event: Any) -> Any:
        if event.seq == 1:
            far = OrderIntent("A", "buy", Decimal(1), "limit", limit_price=Decimal("0.5"))
            return [OrderIntent("A", "buy", Decimal(2), tag="entry"), far]
        if event.seq == 2:
            stop = OrderIntent("A", "sell", Decimal(2), "stop", stop_price=Decimal("1.00005"))
            return [stop, CancelIntent(ctx.open_orders[0])]
        return None


def test_test_run_gives_orders_of_every_kind_with_their_end() -> None:
    prices = bars("A", "1.10001", "1.2", "1.3", "0.9", scale=5)
    run = run_bars(StopAndCancel, prices, broker=BrokerSettings(fee_per_order=Decimal(1)))
    assert [(order.kind, order.tag, order.status) for order in run.orders] == [
        ("market", "entry", "filled"),
        ("limit", "", "cancelled"),
        ("stop", "", "filled"),
    ]
    assert run.fills[1].price == Decimal("1.00005")  # within the bar that opens at 1.3
    # 2 bought at 1.10001 and sold at 1.00005, and two fees of 1.
    assert run.equity == 100_000 - 2 - Decimal("2.2000") + Decimal("2.0001")


def test_run_of_bars_ends_at_the_bar_at_which_a_limit_halts_it() -> None:
    limits = Limits(largest_drawdown_pct=Decimal(10))
    run = run_bars(EverySecondBar, bars("A", 10, 10, 10, 1, 1, 1), cash=20, limits=limits)
    assert "45 % below its peak" in run.halted
    assert run.state == {"bars": 4}


class Hooked(Strategy):
    """Warms up with two events, sets a timer and a metric."""

    name = "hooked"

    def on_event(self, ctx: Any, state: Any, event: Any) -> None:
        state["seen"] = state.get("seen", 0) + 1
        ctx.metric("seen", state["seen"])
        if event.seq == 1:
            ctx.set_timer(event.released + 86_400_000_000)

    def on_timer(self, ctx: Any, state: Any, due: int) -> Any:
        return [OrderIntent("A", "buy", Decimal(1), tag="timer")]


def test_timers_and_metrics_work_as_on_a_node() -> None:
    run = run_bars(Hooked, bars("A", 10, 11, 12))
    assert run.metrics == {"seen": 3}
    # The timer fires before bar 2; its order is filled at the open of bar 3.
    assert [(order.seq, order.tag, order.status) for order in run.orders] == [
        (2, "timer", "filled")
    ]
