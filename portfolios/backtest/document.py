"""The result of a backtest as a document for programs. docs/strategies.md lists its fields.

Money, prices and quantities are texts, so that no program rounds them; fractions and averages are
numbers. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec

from portfolios.backtest.curve import CurvePoint
from portfolios.backtest.figures import MetricValues, OrderLine
from portfolios.backtest.run import BacktestResult
from portfolios.feeds.rows import EPOCH
from portfolios.runtime.money import as_text
from portfolios.runtime.python_version import PYTHON_VERSION
from portfolios.runtime.state import account_view

FORMAT = 1


class Input(msgspec.Struct):
    """Strategy, configuration and range: equal inputs give equal results on every machine."""

    strategy: str
    strategy_version: int
    parameters: dict[str, Any]
    symbols: list[str]  #: empty or ["*"]: every symbol of the feed
    limits: dict[str, Any]
    broker: dict[str, Any]  #: fees and slippage
    starting_cash: str
    feed: str
    feed_sha256: str
    from_seq: int
    to_seq: int
    artifact: str  #: sha256 of the wheel; empty for an installed strategy
    python: str  #: floats may differ between minor versions


class Figures(msgspec.Struct):
    """The sums over the whole range. A fraction of 0.05 is five per cent."""

    events: int  #: that the portfolio handled
    first_at: str | None
    last_at: str | None
    equity: str  #: cash and positions at their last prices, after the last event
    profit: str
    return_: float = msgspec.field(name="return")  #: profit as a fraction of the starting cash
    realised: str  #: profit of what was closed
    unrealised: str  #: profit of what is still held
    fees: str  #: paid for all fills; profit is realised + unrealised - fees
    max_drawdown: float  #: deepest fall below the highest equity before, as a fraction of that
    max_drawdown_amount: str
    drawdown_from: str | None
    drawdown_to: str | None
    turnover: str  #: value of all fills
    turnover_ratio: float  #: turnover as a multiple of the average equity
    average_exposure: float  #: gross value of positions, as a fraction of the equity
    max_exposure: float
    orders: int  #: placed
    fills: int
    refused: int  #: by a limit; repeats with the same reason are counted below
    refused_again: int  #: repeats of a refusal with the same reason
    cancelled: int
    expired: int
    open_orders: int  #: neither filled nor ended by the end
    halted: str | None  #: why a limit halted it, which ended the run
    halted_at_seq: int | None


class Point(msgspec.Struct):
    """Equity over one interval. A long curve has its points joined; low and high stay exact."""

    seq: int
    at: str
    equity: float
    low: float
    high: float
    drawdown: float  #: a fraction of the highest equity before
    exposure: float  #: gross, a fraction of the equity


class Order(msgspec.Struct):
    """One order, and what became of it."""

    seq: int  #: of the event at which it was decided
    index: int  #: its number among the orders of that event, from 0
    at: str  #: when it was decided
    symbol: str
    side: str
    quantity: str
    price: str  #: seen at the decision
    kind: str  #: market, limit, stop
    limit_price: str | None
    stop_price: str | None
    time_in_force: str
    tag: str
    status: str  #: open, filled, cancelled, expired, refused
    reason: str | None  #: of a refusal or an end
    filled_at: str | None
    fill_price: str | None
    fee: str


class BacktestDocument(msgspec.Struct):
    """The result of a backtest."""

    format: int
    input: Input
    figures: Figures
    metrics: dict[str, MetricValues]  #: by name, as sampled at equity points
    positions: list[dict[str, Any]]  #: after the last event
    equity: list[Point]
    orders: list[Order]
    orders_left_out: int  #: the oldest ones, beyond 100,000
    elapsed_s: float


def document_of(result: BacktestResult) -> BacktestDocument:
    """Return a result as a document."""
    tally = result.tally
    return BacktestDocument(
        format=FORMAT,
        input=_input(result),
        figures=_figures(result),
        metrics=dict(sorted(tally.metrics.items())),
        positions=account_view(result.state)["positions"],
        equity=[_point(point) for point in tally.curve.points],
        orders=[_order(line) for line in tally.orders],
        orders_left_out=tally.orders_total - len(tally.orders),
        elapsed_s=round(result.elapsed_s, 3),
    )


def _input(result: BacktestResult) -> Input:
    backtest = result.backtest
    spec = backtest.spec
    return Input(
        strategy=spec.strategy, strategy_version=spec.strategy_version, parameters=spec.parameters,
        symbols=spec.symbols, limits=msgspec.to_builtins(spec.limits),
        broker=msgspec.to_builtins(spec.broker), starting_cash=as_text(spec.starting_cash),
        feed=backtest.feed.name, feed_sha256=backtest.feed.sha256, from_seq=backtest.range.first,
        to_seq=backtest.range.last, artifact=spec.artifact, python=PYTHON_VERSION,
    )  # fmt: skip


def _figures(result: BacktestResult) -> Figures:
    tally, account = result.tally, result.state.account
    profit = account.equity - account.starting_cash
    unrealised = sum((p.value - p.cost for p in account.positions.values()), Decimal(0))
    average = tally.average_equity
    halted_at_seq, halted = tally.halt or (None, None)
    return Figures(
        events=tally.events,
        first_at=_iso_or_none(tally.first_us),
        last_at=_iso_or_none(tally.last_us),
        equity=as_text(account.equity),
        profit=as_text(profit),
        return_=round(float(profit / account.starting_cash), 6),
        realised=as_text(account.realised),
        unrealised=as_text(unrealised),
        fees=as_text(tally.fees),
        max_drawdown=round(tally.drawdown.fraction, 6),
        max_drawdown_amount=as_text(tally.drawdown.amount),
        drawdown_from=_iso_or_none(tally.drawdown.peak_us),
        drawdown_to=_iso_or_none(tally.drawdown.trough_us),
        turnover=as_text(tally.traded),
        turnover_ratio=round(float(tally.traded) / average, 4) if average > 0 else 0.0,
        average_exposure=round(tally.average_exposure, 6),
        max_exposure=round(tally.max_exposure, 6),
        orders=tally.placed,
        fills=tally.fills,
        refused=tally.refused,
        refused_again=tally.refused_again,
        cancelled=tally.cancelled,
        expired=tally.expired,
        open_orders=len(account.open_orders),
        halted=halted,
        halted_at_seq=halted_at_seq,
    )


def _point(point: CurvePoint) -> Point:
    return Point(
        point.seq, _iso(point.at_us), round(point.equity, 4), round(point.low, 4),
        round(point.high, 4), round(point.drawdown, 6), round(point.exposure, 6),
    )  # fmt: skip


def _order(line: OrderLine) -> Order:
    row = line.row
    return Order(
        row.seq, row.index, _iso(row.decided_us), row.symbol, row.side, as_text(row.quantity),
        f"{row.price:f}", row.kind, _price(row.limit_price), _price(row.stop_price),
        row.time_in_force, row.tag, line.status, line.reason, _iso_or_none(line.filled_us),
        _price(line.fill_price), as_text(line.fee),
    )  # fmt: skip


def _price(price: Decimal | None) -> str | None:
    """Return a price as text with all its places, such as `10.50`; None for None."""
    return None if price is None else f"{price:f}"


def _iso(at_us: int) -> str:
    """Return a time in µs since the epoch as ISO 8601 in UTC."""
    return (EPOCH + timedelta(microseconds=at_us)).isoformat()


def _iso_or_none(at_us: int | None) -> str | None:
    return None if at_us is None else _iso(at_us)
