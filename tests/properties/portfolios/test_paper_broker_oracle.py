"""Fills of the paper broker equal those of backtrader, over drawn symbols, windows and orders."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import backtrader
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolios.feeds import open_feed
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.events import Event
from portfolios.runtime.spec import Limits
from portfolios.strategies import registry
from portfolios.strategies.base import CancelIntent, Intent, OrderIntent, Strategy
from tests.support.drawn_examples import examples
from tests.support.market_factories import spec

BARS = 30
KINDS = {
    "market": backtrader.Order.Market,
    "limit": backtrader.Order.Limit,
    "stop": backtrader.Order.Stop,
}


class Wanted(NamedTuple):
    """An order decided at bar `at`, cancelled at bar `until` if it is still open."""

    at: int
    side: str
    kind: str
    price_e4: int
    until: int


class Fill(NamedTuple):
    order: int  #: number of the wanted order
    bar: int
    price_e4: int


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Event], list[Wanted]]:
    """Bars of one symbol in a drawn window, and orders around their prices."""
    feed = open_feed()
    symbol = draw(st.sampled_from(feed.symbols))
    first = draw(st.integers(1, feed.length))
    bars = feed.read_for(frozenset({symbol}), first, first + 10**6, (), BARS)
    wanted = []
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, BARS - 2))
        seen = bars[at]
        near = draw(st.sampled_from([seen.open_e4, seen.high_e4, seen.low_e4, seen.close_e4]))
        price = max(near + draw(st.integers(-near // 20, near // 20)), 100)
        side, kind = draw(st.sampled_from(["buy", "sell"])), draw(st.sampled_from(sorted(KINDS)))
        wanted.append(Wanted(at, side, kind, price, draw(st.integers(at + 1, BARS + 5))))
    return bars, sorted(wanted)


class Orders(Strategy):
    """Places and cancels the wanted orders."""

    name = "wanted_orders"
    bars: dict[int, int] = {}
    wanted: list[Wanted] = []

    def on_event(self, ctx, state, event):  # type: ignore[no-untyped-def]
        now = self.bars[event.seq]
        intents: list[Intent] = [
            CancelIntent(order)
            for order in ctx.open_orders
            if self.wanted[int(order.tag)].until == now
        ]
        for number, order in enumerate(self.wanted):
            if order.at == now:
                price = Decimal(order.price_e4).scaleb(-4)
                intents.append(
                    OrderIntent(
                        event.symbol,
                        order.side,  # type: ignore[arg-type]
                        Decimal(1),
                        order.kind,  # type: ignore[arg-type]
                        price if order.kind == "limit" else None,
                        price if order.kind == "stop" else None,
                        tag=str(number),
                    )
                )
        return intents


def our_fills(bars: list[Event], wanted: list[Wanted], patch: pytest.MonkeyPatch) -> list[Fill]:
    """Return what the engine fills."""
    numbers = {bar.seq: number for number, bar in enumerate(bars)}
    patch.setitem(registry.BUILT_IN, Orders.name, Orders)
    patch.setattr(Orders, "bars", numbers)
    patch.setattr(Orders, "wanted", wanted)
    limits = Limits(allow_short=True, allow_negative_cash=True)
    result = PortfolioEngine.fresh(spec(Orders.name, limits=limits)).run(bars, 0, bars[-1].seq)
    number_of = {(order.seq, order.index): int(order.tag) for order in result.orders}
    return [
        Fill(
            number_of[fill.order_seq, fill.order_index],
            numbers[fill.fill_seq],
            int(fill.price.scaleb(4)),
        )
        for fill in result.fills
    ]


class _Feed(backtrader.feed.DataBase):  # type: ignore[misc]
    """The same bars for backtrader, a day apart."""

    params = (("bars", ()),)

    def start(self) -> None:
        super().start()
        self._left = list(enumerate(self.p.bars))

    def _load(self) -> bool:
        if not self._left:
            return False
        number, bar = self._left.pop(0)
        self.lines.datetime[0] = backtrader.date2num(datetime(2020, 1, 1) + timedelta(days=number))
        self.lines.open[0], self.lines.high[0] = bar.open_e4 / 1e4, bar.high_e4 / 1e4
        self.lines.low[0], self.lines.close[0] = bar.low_e4 / 1e4, bar.close_e4 / 1e4
        self.lines.volume[0] = self.lines.openinterest[0] = 0
        return True


class _Orders(backtrader.Strategy):  # type: ignore[misc]
    """The same orders for backtrader."""

    params = (("wanted", ()), ("fills", None))

    def __init__(self) -> None:
        self.placed: dict[int, Any] = {}

    def next(self) -> None:
        now = len(self) - 1
        for number, order in enumerate(self.p.wanted):
            if order.until == now and number in self.placed:
                self.cancel(self.placed[number])
        for number, order in enumerate(self.p.wanted):
            if order.at == now:
                place = self.buy if order.side == "buy" else self.sell
                price = None if order.kind == "market" else order.price_e4 / 1e4
                self.placed[number] = place(
                    size=1, exectype=KINDS[order.kind], price=price, number=number
                )

    def notify_order(self, order: Any) -> None:
        if order.status == order.Completed:
            price_e4 = round(order.executed.price * 1e4)
            self.p.fills.append(Fill(order.info.number, len(self) - 1, price_e4))


def their_fills(bars: list[Event], wanted: list[Wanted]) -> list[Fill]:
    """Return what backtrader fills."""
    fills: list[Fill] = []
    cerebro = backtrader.Cerebro(stdstats=False)
    cerebro.broker.set_cash(1e12)
    cerebro.broker.set_checksubmit(False)
    cerebro.adddata(_Feed(bars=bars))
    cerebro.addstrategy(_Orders, wanted=wanted, fills=fills)
    cerebro.run()
    return fills


@settings(deadline=None, max_examples=examples(150))
@given(case=cases())
def test_fills_equal_those_of_backtrader(case: tuple[list[Event], list[Wanted]]) -> None:
    bars, wanted = case
    with pytest.MonkeyPatch.context() as patch:
        ours = our_fills(bars, wanted, patch)
    assert sorted(ours) == sorted(their_fills(bars, wanted))
