"""Results of a batch: the rows that a commit stores. Times are µs since the epoch, feed time."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from portfolios.runtime.money import ZERO

Side = Literal["buy", "sell"]
OrderStatus = Literal["open", "suppressed", "refused"]
OrderKind = Literal["market", "limit", "stop"]
TimeInForce = Literal["gtc", "ioc"]
EndStatus = Literal["cancelled", "expired"]


class OrderRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One decision of the strategy, order "{uid}-{seq}-{index}"; index counts from 0 per seq."""

    seq: int
    index: int
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal  #: reference price at the decision (the close the strategy saw)
    status: OrderStatus
    reason: str | None  #: why it was refused or suppressed
    decided_us: int  #: release time of the event it was decided on
    kind: OrderKind = "market"
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = "gtc"
    tag: str = ""  #: the strategy's own word for it


class OrderEndRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The end of an open order without a fill. An order has at most one end, or one fill."""

    order_seq: int
    order_index: int
    seq: int  #: of the event at which it ended
    status: EndStatus
    reason: str


class FillRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A fill of order (order_seq, order_index); index counts from 0 per fill_seq."""

    order_seq: int
    order_index: int
    fill_seq: int  #: seq of the event at which it filled
    index: int
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    at_us: int  #: release time of that event
    fee: Decimal = ZERO


class EquityRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One point of the equity curve: at the portfolio's first event in each 10 s of feed time."""

    seq: int
    at_us: int
    equity: Decimal


class MetricRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The value of a strategy's metric at an equity point."""

    seq: int
    at_us: int
    name: str
    value: float


class BatchResult(msgspec.Struct):
    """The result of running the events of (from_seq, to_seq]."""

    from_seq: int  #: exclusive: where the last batch ended
    to_seq: int  #: inclusive
    state: bytes | None  #: as of to_seq; None if unchanged since it was last returned
    orders: list[OrderRow]
    fills: list[FillRow]
    equity: list[EquityRow]
    suppress: bool  #: decisions were recorded and not placed
    refused_again: int = 0  #: refusals already recorded with the same reason
    ended: list[OrderEndRow] = []
    metrics: list[MetricRow] = []
    halt: str = ""  #: why a limit stopped the portfolio after `to_seq`, before the end of the batch

    @property
    def is_urgent(self) -> bool:
        """Return whether it must be committed at once: a fill, an order placed or ended, a halt."""
        return bool(
            self.fills
            or self.ended
            or self.halt
            or any(order.status == "open" for order in self.orders)
        )
