"""The sums of a backtest, added up batch by batch. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from portfolios.backtest.curve import Curve, CurvePoint
from portfolios.runtime.events import Event
from portfolios.runtime.money import ZERO, to_four_places
from portfolios.runtime.results import BatchResult, EquityRow, FillRow, OrderEndRow, OrderRow

#: The newest orders that are kept; the counts cover all of them.
ORDERS_KEPT = 100_000


class OrderLine(msgspec.Struct):
    """One order and what became of it."""

    row: OrderRow
    filled_us: int | None = None
    fill_price: Decimal | None = None
    fee: Decimal = ZERO
    end: OrderEndRow | None = None  #: of an order that was cancelled or expired

    @property
    def status(self) -> str:
        """Return open, filled, cancelled, expired or refused."""
        if self.fill_price is not None:
            return "filled"
        return self.row.status if self.end is None else self.end.status

    @property
    def reason(self) -> str | None:
        """Return why the order was refused or ended without a fill; None if no reason is known."""
        end_reason = "" if self.end is None else self.end.reason
        return self.row.reason or end_reason or None


@dataclass(slots=True)
class Drawdown:
    """The deepest fall of the equity from its highest point before."""

    amount: Decimal = ZERO
    fraction: float = 0.0  #: of that highest equity
    peak_us: int | None = None  #: when the equity was highest; None: it never fell
    trough_us: int | None = None  #: when it was lowest after that


class MetricValues(msgspec.Struct):
    """The sampled values of one metric, which a strategy sets with `ctx.metric`."""

    last: float
    low: float
    high: float


@dataclass(slots=True)
class Tally:
    """Sums of everything that the engine produced so far."""

    starting_cash: Decimal
    events: int = 0
    first_us: int | None = None  #: release time of the first event
    last_us: int | None = None  #: of the newest one
    placed: int = 0
    refused: int = 0
    refused_again: int = 0
    fills: int = 0
    cancelled: int = 0
    expired: int = 0
    traded: Decimal = ZERO  #: value of all fills
    fees: Decimal = ZERO
    halt: tuple[int, str] | None = None  #: seq of the event after which a limit halted it, and why
    drawdown: Drawdown = field(default_factory=Drawdown)
    max_exposure: float = 0.0  #: gross, a fraction of the equity
    metrics: dict[str, MetricValues] = field(default_factory=dict)  #: at most 32, by name
    orders: deque[OrderLine] = field(default_factory=lambda: deque(maxlen=ORDERS_KEPT))
    curve: Curve = field(default_factory=Curve)
    _points: int = 0  #: number of recorded equity points
    _equity_sum: float = 0.0
    _exposure_sum: float = 0.0
    _peak: Decimal = ZERO  #: highest equity so far
    _peak_us: int | None = None  #: when it was reached
    #: (seq, index) → order that was neither filled nor ended
    _open: dict[tuple[int, int], OrderLine] = field(default_factory=dict)
    _held: dict[str, float] = field(default_factory=dict)  #: symbol → quantity, below 0 if short
    _marks: dict[str, float] = field(default_factory=dict)  #: symbol → last price

    @property
    def orders_total(self) -> int:
        """Return the number of recorded orders: `orders` may hold fewer."""
        return self.placed + self.refused

    @property
    def average_equity(self) -> float:
        """Return the mean equity of the recorded points; without points, the starting cash."""
        return self._equity_sum / self._points if self._points else float(self.starting_cash)

    @property
    def average_exposure(self) -> float:
        """Return the mean gross exposure of the points, a fraction of the equity; 0 without any."""
        return self._exposure_sum / self._points if self._points else 0.0

    def add(self, events: Sequence[Event], result: BatchResult) -> None:
        """Add a batch and its results, up to the event at which a limit halted the portfolio."""
        if result.halt:
            self.halt = (result.to_seq, result.halt)
            events = [event for event in events if event.seq <= result.to_seq]
        if not events:
            return
        self.events += len(events)
        if self.first_us is None:
            self.first_us = events[0].released
            self._peak, self._peak_us = self.starting_cash, self.first_us
        self.last_us = events[-1].released
        self._add_orders(result)
        self._add_metrics(result)
        self._add_fills_and_points(events, result)

    def _add_orders(self, result: BatchResult) -> None:
        """Count orders, refusals and ends, and keep each order until it is filled or ended."""
        self.refused_again += result.refused_again
        for row in result.orders:
            line = OrderLine(row)
            self.orders.append(line)
            if row.status == "refused":
                self.refused += 1
            else:
                self.placed += 1
                self._open[row.seq, row.index] = line
        for end in result.ended:
            if end.status == "cancelled":
                self.cancelled += 1
            else:
                self.expired += 1
            ended = self._open.pop((end.order_seq, end.order_index), None)
            if ended is not None:
                ended.end = end

    def _add_metrics(self, result: BatchResult) -> None:
        """Keep the last, the lowest and the highest value of each metric."""
        for row in result.metrics:
            known = self.metrics.get(row.name)
            if known is None:
                self.metrics[row.name] = MetricValues(row.value, row.value, row.value)
            else:
                known.last = row.value
                known.low, known.high = min(known.low, row.value), max(known.high, row.value)

    def _add_fills_and_points(self, events: Sequence[Event], result: BatchResult) -> None:
        """Follow positions and last prices through the batch, for the exposure at each point.

        At one event the engine fills first, then marks, then records the equity.
        """
        held, marks = self._held, self._marks
        fills, points = iter(result.fills), iter(result.equity)
        fill, point = next(fills, None), next(points, None)
        for event in events:
            while fill is not None and fill.fill_seq <= event.seq:
                self._add_fill(fill)
                fill = next(fills, None)
            if event.symbol in held and event.has_price:
                marks[event.symbol] = float(event.close)
            if point is not None and point.seq <= event.seq:
                self._add_point(point)
                point = next(points, None)

    def _add_fill(self, fill: FillRow) -> None:
        self.fills += 1
        self.traded += to_four_places(fill.quantity * fill.price)
        self.fees += fill.fee
        signed = float(fill.quantity) * (1 if fill.side == "buy" else -1)
        held = self._held.get(fill.symbol, 0.0) + signed
        if abs(held) < 0.00005:  # quantities have four places
            self._held.pop(fill.symbol, None)
        else:
            self._held[fill.symbol] = held
        line = self._open.pop((fill.order_seq, fill.order_index), None)
        if line is not None:
            line.filled_us, line.fill_price, line.fee = fill.at_us, fill.price, fill.fee

    def _add_point(self, row: EquityRow) -> None:
        """Add the equity and the exposure at one recorded point."""
        equity = float(row.equity)
        gross = sum(abs(held * self._marks.get(symbol, 0.0)) for symbol, held in self._held.items())
        exposure = gross / equity if equity > 0 else 0.0
        self._points += 1
        self._equity_sum += equity
        self._exposure_sum += exposure
        self.max_exposure = max(self.max_exposure, exposure)
        fall = self._update_drawdown(row.equity, row.at_us)
        self.curve.add(CurvePoint(row.seq, row.at_us, equity, equity, equity, fall, exposure))

    def close(self, equity: Decimal, seq: int) -> None:
        """Add a point for the equity after the last event; do nothing if there was no event."""
        if self.last_us is not None:
            self._add_point(EquityRow(seq, self.last_us, equity))

    def _update_drawdown(self, equity: Decimal, at_us: int) -> float:
        """Return how far the equity is below its peak, as a fraction of that. Keep the deepest."""
        if equity >= self._peak:
            self._peak, self._peak_us = equity, at_us
            return 0.0
        amount = self._peak - equity
        fraction = float(amount / self._peak) if self._peak > 0 else 0.0
        if fraction > self.drawdown.fraction:
            self.drawdown = Drawdown(amount, fraction, self._peak_us, at_us)
        return fraction
