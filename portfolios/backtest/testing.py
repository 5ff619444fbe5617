"""For the tests of a strategy: run it over a few bars, with the engine that runs it on a node.

run = run_bars(Momentum, bars("IBM", 10, 11, 12), window=3)
assert [order.side for order in run.orders] == ["buy"]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from portfolios.feeds.rows import EPOCH, MICROSECOND
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.events import Event, make_bar, to_units
from portfolios.runtime.results import BatchResult, FillRow, Side
from portfolios.runtime.spec import BrokerSettings, Limits, Spec
from portfolios.runtime.state import Position, encode_state
from portfolios.strategies import registry
from portfolios.strategies.base import Strategy

DAY_US = 86_400_000_000


class NotRepeatable(AssertionError):
    """The strategy decides differently if its process is restarted. The text says where."""


@dataclass(frozen=True, slots=True)
class StrategyOrder:
    """One order and what became of it."""

    seq: int  #: of the bar at which it was decided
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal  #: seen at the decision
    status: str  #: open, filled, cancelled, expired, refused
    reason: str | None  #: of a refusal, or of an end without a fill
    kind: str  #: market, limit, stop
    tag: str


@dataclass(frozen=True, slots=True)
class StrategyRun:
    """What a strategy did over bars: its orders and fills, and its final account and state."""

    orders: list[StrategyOrder]
    fills: list[FillRow]
    positions: dict[str, Position]
    cash: Decimal
    equity: Decimal
    state: dict[str, Any]  #: the strategy's own
    metrics: dict[str, float]  #: as last set with ctx.metric
    halted: str  #: why a limit halted it, which ended the run; empty if none did


def bars(
    symbol: str, *closes: Decimal | str | int, first_day: str = "2024-01-01", scale: int = 4
) -> list[Event]:
    """Return one bar a day with these closes, each opening at the close before.

    The first one opens at its own. Prices have up to `scale` decimal places.
    """
    begun_us = (datetime.fromisoformat(f"{first_day}T00:00:00+00:00") - EPOCH) // MICROSECOND
    prices = [to_units(close, scale) for close in closes]
    made: list[Event] = []
    for day, (opened, close) in enumerate(zip([*prices[:1], *prices], prices, strict=False)):
        at = begun_us + day * DAY_US
        open_high_low_close = (opened, max(opened, close), min(opened, close), close)
        made.append(make_bar(day + 1, symbol, at, at, open_high_low_close, 100, scale))
    return made


def run_bars(
    strategy: type[Strategy],
    events: Iterable[Event],
    *,
    cash: Decimal | int = 100_000,
    symbols: Sequence[str] = (),
    limits: Limits = Limits(),  # noqa: B008 - immutable
    broker: BrokerSettings = BrokerSettings(),  # noqa: B008
    history: Sequence[Event] = (),
    **parameters: Any,
) -> StrategyRun:
    """Run `strategy` over bars in the order of their times.

    `history` are earlier bars, for a strategy that warms up. The strategy is run twice, the second
    time with its process restarted after each bar, as may happen on a node. Raise NotRepeatable if
    the two runs differ, StrategyFailed if it fails, and ValueError for parameters that an operator
    could not set.
    """
    errors = strategy.validate(parameters, symbols)
    if errors:
        raise ValueError("; ".join(error.message for error in errors))
    spec = Spec(
        portfolio="test", uid="00000000-0000-0000-0000-000000000000", revision=1,
        strategy=strategy.name, strategy_version=strategy.version, parameters=parameters,
        symbols=list(symbols), starting_cash=Decimal(cash), first_seq=1, limits=limits,
        broker=broker,
    )  # fmt: skip
    ordered = sorted(events, key=lambda event: event.time)
    numbered = [msgspec.structs.replace(event, seq=n) for n, event in enumerate(ordered, start=1)]
    with registry.under_test(strategy):
        engine = PortfolioEngine.fresh(spec, history)
        whole = engine.run(numbered, 0, len(numbered))
        _compare_with_restarts(spec, numbered, whole, engine, history)
    account = engine.state.account
    return StrategyRun(
        orders=_orders(whole), fills=whole.fills, positions=account.positions, cash=account.cash,
        equity=account.equity, state=engine.state.strategy.data, metrics=dict(engine.state.metrics),
        halted=whole.halt,
    )  # fmt: skip


def _compare_with_restarts(
    spec: Spec,
    events: Sequence[Event],
    whole: BatchResult,
    ended: PortfolioEngine,
    history: Sequence[Event],
) -> None:
    """Raise NotRepeatable if a restart after each bar changes the orders or the last state.

    `whole` is the result of the run without restarts, `ended` its engine after the last event.
    """
    engine = PortfolioEngine.fresh(spec, history)
    orders = []
    for event in events:
        result = engine.run([event], event.seq - 1, event.seq)
        orders += result.orders
        expected = [order for order in whole.orders if order.seq <= event.seq]
        if orders != expected:
            raise NotRepeatable(
                f"{spec.strategy} decides differently at seq {event.seq} if its process is"
                f" restarted before: {_describe(orders)} instead of {_describe(expected)}. Keep"
                " what it remembers in `state`, not in an attribute or a global variable."
            )
        if result.halt:
            break
        engine = PortfolioEngine.restore(spec, encode_state(engine.state), event.seq)
    kept, wanted = engine.state.strategy.data, ended.state.strategy.data
    for name in sorted(kept.keys() | wanted.keys()):
        if kept.get(name) != wanted.get(name):
            raise NotRepeatable(
                f"state[{name!r}] of {spec.strategy} differs at the end if its process is restarted"
                f" after each bar: {kept.get(name)!r:.300} instead of {wanted.get(name)!r:.300}."
                " Use plain values, such as lists instead of tuples, and keep what the strategy"
                " remembers in `state`."
            )


def _describe(orders: Sequence[Any]) -> str:
    return ", ".join(f"{o.side} {o.quantity:f} {o.symbol} at seq {o.seq}" for o in orders) or "none"


def _orders(result: BatchResult) -> list[StrategyOrder]:
    """Return the orders of a batch, each with what became of it."""
    became: dict[tuple[int, int], tuple[str, str | None]] = {
        (fill.order_seq, fill.order_index): ("filled", None) for fill in result.fills
    }
    became |= {
        (end.order_seq, end.order_index): (end.status, end.reason or None) for end in result.ended
    }
    orders = []
    for row in result.orders:
        status, reason = became.get((row.seq, row.index), (row.status, row.reason))
        orders.append(
            StrategyOrder(
                row.seq, row.symbol, row.side, row.quantity, row.price, status, reason, row.kind,
                row.tag,
            )
        )  # fmt: skip
    return orders
