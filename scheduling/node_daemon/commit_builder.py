"""Collect the results of a portfolio since its last commit, and build the next commit."""

from __future__ import annotations

import uuid
from decimal import Decimal

from portfolios.runtime.results import (
    BatchResult,
    EquityRow,
    FillRow,
    MetricRow,
    OrderEndRow,
    OrderRow,
)
from scheduling.wire.messages import (
    MAX_METRIC_LINES,
    MAX_REFUSED_AGAIN,
    Commit,
    EquityLine,
    FillLine,
    MetricLine,
    OrderEndLine,
    OrderLine,
)


class CommitBuilder:
    """Results of the events in (from_seq, to_seq], collected over several batches."""

    def __init__(self, seq: int) -> None:
        """Start empty after `seq`."""
        self.from_seq = self.to_seq = seq
        #: Whether the orders of these events are suppressed. None before the first event of its
        #: symbols.
        self.suppress: bool | None = None
        self.feed_us = 0  #: start of the newest feed segment known when these events were read
        self.record = b""  #: hash of the record at `to_seq`, of a recorded feed
        self._state: bytes | None = None
        self.lacks_state = False  #: events were handled since the process returned its state
        self._orders: list[OrderLine] = []
        self._fills: list[FillLine] = []
        self._equity: list[EquityLine] = []
        self._ended: list[OrderEndLine] = []
        self._metrics: list[MetricLine] = []
        self._refused_again = 0  #: refused decisions that need no order line of their own

    @property
    def span(self) -> int:
        """Return how many events of the log the results cover."""
        return self.to_seq - self.from_seq

    @property
    def urgent(self) -> bool:
        """Return whether a fill, a placed order or the end of an order waits to be committed."""
        return bool(self._fills or self._ended) or any(
            order.status == "open" for order in self._orders
        )

    def skip(self, to_seq: int, record: bytes) -> None:
        """Record that no event up to `to_seq` is for this portfolio.

        `record` is the hash of the record at `to_seq`.
        """
        self.to_seq, self.record = to_seq, record

    def add(
        self, result: BatchResult, record: bytes | None = None, *, asked_for_state: bool = True
    ) -> None:
        """Add the results of a batch, and its state if the process returned one.

        `record` is the hash of the last record of the batch; None: the batch had no events. The
        process returns a changed state if the batch asked for it or a result is urgent.
        """
        self.to_seq = max(self.to_seq, result.to_seq)
        self.record = self.record if record is None else record
        self._orders.extend(map(_order_line, result.orders))
        self._fills.extend(map(_fill_line, result.fills))
        self._equity.extend(map(_equity_line, result.equity))
        self._ended.extend(map(_order_end_line, result.ended))
        self._metrics.extend(map(_metric_line, result.metrics))
        # Each event of a slow feed may add a value of every metric: keep the newest values.
        del self._metrics[:-MAX_METRIC_LINES]
        self._refused_again += result.refused_again
        if result.state is not None:
            self._state = result.state
        self.lacks_state = not (asked_for_state or result.is_urgent)

    def build(self, portfolio: int, epoch: int, release: int | None = None) -> Commit:
        """Return the commit, with a new batch id."""
        assert not self.lacks_state  # an older state would be taken for the one at `to_seq`
        return Commit(
            portfolio=portfolio,
            epoch=epoch,
            from_seq=self.from_seq,
            to_seq=self.to_seq,
            batch=str(uuid.uuid4()),
            state=self._state,
            suppress=bool(self.suppress),
            orders=self._orders,
            fills=self._fills,
            equity=self._equity,
            release=release,
            feed_us=self.feed_us,
            record=self.record,
            refused_again=min(self._refused_again, MAX_REFUSED_AGAIN),
            ended=self._ended,
            metrics=self._metrics,
        )


def _decimal_text(number: Decimal) -> str:
    return f"{number:f}"  # without an exponent


def _order_line(row: OrderRow) -> OrderLine:
    return OrderLine(
        row.seq,
        row.index,
        row.symbol,
        row.side,
        _decimal_text(row.quantity),
        _decimal_text(row.price),
        row.status,
        row.reason or "",
        row.decided_us,
        row.kind,
        "" if row.limit_price is None else _decimal_text(row.limit_price),
        "" if row.stop_price is None else _decimal_text(row.stop_price),
        row.time_in_force,
        row.tag,
    )


def _fill_line(row: FillRow) -> FillLine:
    return FillLine(
        row.order_seq,
        row.order_index,
        row.fill_seq,
        row.index,
        row.symbol,
        row.side,
        _decimal_text(row.quantity),
        _decimal_text(row.price),
        row.at_us,
        _decimal_text(row.fee),
    )


def _order_end_line(row: OrderEndRow) -> OrderEndLine:
    return OrderEndLine(row.order_seq, row.order_index, row.seq, row.status, row.reason)


def _metric_line(row: MetricRow) -> MetricLine:
    return MetricLine(row.seq, row.at_us, row.name, row.value)


def _equity_line(row: EquityRow) -> EquityLine:
    return EquityLine(row.seq, row.at_us, _decimal_text(row.equity))
