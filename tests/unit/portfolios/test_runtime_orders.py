"""Limit and stop orders, cancel and replace, reports, fees, figures and limits of a portfolio."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.errors import StateUnreadable, StrategyFailed
from portfolios.runtime.events import Event, make_bar, to_units
from portfolios.runtime.results import BatchResult
from portfolios.runtime.spec import BrokerSettings, Limits
from portfolios.runtime.state import COUNTING_FORMAT, HOOKS_FORMAT, account_view, decode_state
from portfolios.strategies import registry
from portfolios.strategies.base import CancelIntent, OrderIntent, ReplaceIntent
from tests.support.market_factories import Scripted, buy, run, scripted, sell, spec


def prices(seq: int, *values: str, symbol: str = "KO", released_s: int | None = None) -> Event:
    """Return a bar of open, high, low and close."""
    at = (seq if released_s is None else released_s) * 1_000_000
    return make_bar(seq, symbol, at, at, [to_units(value, 4) for value in values], 100)


def limit(side: Any, price: str, quantity: str = "1", **more: Any) -> OrderIntent:
    return OrderIntent("KO", side, Decimal(quantity), "limit", Decimal(price), **more)


def stop(side: Any, price: str, quantity: str = "1", **more: Any) -> OrderIntent:
    return OrderIntent("KO", side, Decimal(quantity), "stop", stop_price=Decimal(price), **more)


FLAT = ("10", "10", "10", "10")


def fills_of(result: BatchResult) -> list[tuple[int, int, str]]:
    return [(fill.order_seq, fill.fill_seq, f"{fill.price:f}") for fill in result.fills]


def ends_of(result: BatchResult) -> list[tuple[int, int, int, str, str]]:
    return [(e.order_seq, e.order_index, e.seq, e.status, e.reason) for e in result.ended]


def test_a_limit_order_waits_until_its_price_is_reached(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [limit("buy", "9.5", tag="dip")]})
    events = [prices(seq, *FLAT) for seq in (1, 2, 3)] + [prices(4, "10", "10", "9", "9.2")]
    result = run(engine, events)
    (order,) = result.orders
    assert (order.kind, order.limit_price, order.stop_price) == ("limit", Decimal("9.5"), None)
    assert (order.tag, order.price, order.status) == ("dip", Decimal(10), "open")
    assert fills_of(result) == [(1, 4, "9.5000")]


def test_an_immediate_order_expires_at_its_first_bar(monkeypatch: Any) -> None:
    orders = [limit("buy", "9.5", time_in_force="ioc"), limit("buy", "10", time_in_force="ioc")]
    engine = scripted(monkeypatch, {1: orders})
    other = prices(2, *FLAT, symbol="GE")
    result = run(engine, [prices(1, *FLAT), other, prices(3, *FLAT), prices(4, *FLAT)])
    assert fills_of(result) == [(1, 3, "10.0000")]
    assert ends_of(result) == [
        (1, 0, 3, "expired", "not filled at the first bar after its decision")
    ]
    assert engine.state.account.open_orders == []


def test_an_open_order_can_be_cancelled_once(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [limit("buy", "9")]})
    run(engine, [prices(1, *FLAT)])
    (order,) = engine._context.open_orders
    Scripted.script[2] = [CancelIntent(order), CancelIntent(order)]
    result = run(engine, [prices(2, *FLAT), prices(3, "8", "8", "8", "8")])
    assert ends_of(result) == [(1, 0, 2, "cancelled", "")]
    assert result.fills == []


def test_a_cancel_on_a_stale_event_has_no_effect(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [limit("buy", "9")]})
    run(engine, [prices(1, *FLAT)])
    (order,) = engine._context.open_orders
    Scripted.script[2] = [CancelIntent(order), ReplaceIntent(order, Decimal(2))]
    result = run(engine, [prices(2, *FLAT)], suppress=True)
    assert (ends_of(result), [o.status for o in result.orders]) == ([], ["suppressed"])
    assert engine._context.open_orders == (order,)


def test_a_replaced_order_gets_another_id_and_keeps_what_is_not_named(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [limit("buy", "9", tag="dip")]})
    run(engine, [prices(1, *FLAT)])
    (order,) = engine._context.open_orders
    Scripted.script[2] = [ReplaceIntent(order, limit_price=Decimal("8"))]
    result = run(engine, [prices(2, *FLAT), prices(3, "9", "9", "8", "8")])
    assert ends_of(result) == [(1, 0, 2, "cancelled", "replaced by order 0 of seq 2")]
    (new,) = result.orders
    assert (new.quantity, new.limit_price, new.tag) == (Decimal(1), Decimal(8), "dip")
    assert fills_of(result) == [(2, 3, "8.0000")]


def test_a_refused_replacement_leaves_the_order_open(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [limit("buy", "9", "100")]})  # 900 of 1,000
    run(engine, [prices(1, *FLAT)])
    (order,) = engine._context.open_orders
    Scripted.script |= {
        2: [ReplaceIntent(order, limit_price=Decimal("11"))],  # 1,100
        3: [ReplaceIntent(order, limit_price=Decimal("10"))],  # 1,000: the old one does not count
    }
    refused = run(engine, [prices(2, *FLAT)])
    assert [o.status for o in refused.orders] == ["refused"]
    assert (ends_of(refused), engine._context.open_orders) == ([], (order,))
    assert [o.status for o in run(engine, [prices(3, *FLAT)]).orders] == ["open"]


@pytest.mark.parametrize(
    "wrong",
    [
        OrderIntent("KO", "buy", Decimal(1), "limit"),
        OrderIntent("KO", "buy", Decimal(1), "market", Decimal(3)),
        OrderIntent("KO", "buy", Decimal(1), "stop", Decimal(3)),
        OrderIntent("KO", "buy", Decimal(1), "iceberg"),  # type: ignore[arg-type]
        limit("buy", "-1"),
        limit("buy", "NaN"),
        limit("buy", "1.123456789"),
        limit("buy", "1", time_in_force="day"),
        limit("buy", "1", tag="x" * 33),
        limit("buy", "1", tag="a\nb"),
        CancelIntent("1-0"),  # type: ignore[arg-type]
    ],
)
def test_an_invalid_order_is_the_strategys_failure(monkeypatch: Any, wrong: Any) -> None:
    with pytest.raises(StrategyFailed, match=r"in scripted at seq 1$"):
        run(scripted(monkeypatch, {1: [wrong]}), [prices(1, *FLAT)])


def test_the_number_of_resting_orders_is_limited(monkeypatch: Any) -> None:
    monkeypatch.setattr("portfolios.runtime.order_book.MAX_RESTING", 10)
    many = [limit("buy", "0.01") for _ in range(11)]
    result = run(scripted(monkeypatch, {1: many}), [prices(1, *FLAT)])
    assert result.orders[-1].reason == "10 limit and stop orders are open, the most there may be"
    assert [o.status for o in result.orders].count("open") == 10


class Reported(Scripted):
    """Keeps its reports, and answers the scripted ones."""

    name = "reported"
    answers: dict[tuple[str, int, int], Any] = {}

    def on_report(self, ctx, state, report):  # type: ignore[no-untyped-def]
        held = str(ctx.held(report.symbol))
        state["seen"].append([report.kind, report.seq, report.index, held, report.reason])
        return self.answers.get((report.kind, report.seq, report.index))


def reporting(monkeypatch: Any, script: Any, answers: Any, **changes: Any) -> PortfolioEngine:
    for strategy in (Scripted, Reported):
        monkeypatch.setitem(registry.BUILT_IN, strategy.name, strategy)
    monkeypatch.setattr(Reported, "script", script)
    monkeypatch.setattr(Reported, "answers", answers)
    return PortfolioEngine.fresh(spec("reported", **changes))


def test_order_hook_is_called_with_the_fill_refusal_or_end_of_each_order(monkeypatch: Any) -> None:
    engine = reporting(
        monkeypatch,
        {1: [buy("KO", "1"), sell("KO", "5"), limit("buy", "9", time_in_force="ioc")]},
        {("filled", 1, 0): [stop("sell", "9")]},
    )
    result = run(engine, [prices(1, *FLAT), prices(2, *FLAT), prices(3, "9", "9", "9", "9")])
    short = "would be short by 4, and short positions are not allowed"
    late = "not filled at the first bar after its decision"
    assert engine.state.strategy.data["seen"] == [
        1,
        ["accepted", 1, 0, "0.0000", ""],
        ["rejected", 1, 1, "0.0000", short],
        ["accepted", 1, 2, "0.0000", ""],
        ["filled", 1, 0, "1.0000", ""],  # before on_event of the bar, with the position booked
        ["expired", 1, 2, "1.0000", late],
        ["accepted", 2, 0, "1.0000", ""],
        2,
        ["filled", 2, 0, "0.0000", ""],
        3,
    ]
    assert fills_of(result) == [(1, 2, "10.0000"), (2, 3, "9.0000")]


def test_order_hook_that_causes_endless_reports_is_a_failure(monkeypatch: Any) -> None:
    monkeypatch.setattr("portfolios.runtime.engine.MAX_REPORTS", 50)
    monkeypatch.setattr(Reported, "on_report", lambda *_: [sell("KO", "1")])
    engine = reporting(monkeypatch, {1: [sell("KO", "1")]}, {})
    with pytest.raises(StrategyFailed, match="on_report caused 50 further reports at one event"):
        run(engine, [prices(1, *FLAT)])


def test_fees_are_taken_from_cash_and_profit(monkeypatch: Any) -> None:
    broker = BrokerSettings(fee_per_order=Decimal("1.25"))
    engine = scripted(monkeypatch, {1: [buy("KO", "10")], 2: [sell("KO", "10")]}, broker=broker)
    result = run(engine, [prices(1, *FLAT), prices(2, *FLAT), prices(3, "11", "11", "11", "11")])
    assert [fill.fee for fill in result.fills] == [Decimal("1.2500")] * 2
    view = account_view(engine.state)
    # bought 10 for 100, sold for 110, paid 2.50; turnover 100 + 110
    figures = ("cash", "realised", "fees", "pnl", "turnover")
    found = [view[name] for name in figures]
    assert found == ["1007.5000", "10.0000", "2.5000", "7.5000", "210.0000"]


def test_open_orders_are_shown_with_all_places_of_their_prices(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [limit("buy", "0.00012345"), stop("buy", "12.5")]})
    run(engine, [prices(1, *FLAT)])
    shown = account_view(engine.state)["open_orders"]
    found = [(order["limit_price"], order["stop_price"]) for order in shown]
    assert found == [("0.00012345", None), (None, "12.5000")]


def test_drawdown_is_measured_from_the_highest_point(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [buy("KO", "10")]})
    closes = [(1, "10"), (10, "10"), (20, "30"), (30, "18"), (40, "24")]
    run(engine, [prices(s, "10", c, c, c, released_s=s) for s, c in closes])
    view = account_view(engine.state)
    # 1000, 1000, 1200, 1080, 1140 at the points
    assert (view["drawdown"], view["largest_drawdown"]) == ("60.0000", "120.0000")
    assert view["drawdown_pct"] == "5.0000"
    assert (view["exposure"], view["unrealised"]) == ("240.0000", "140.0000")


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (buy("KO", "51"), "order of 510.0000 in value is over the largest, 500.0000"),
        (limit("buy", "20", "26"), "order of 520.0000 in value is over the largest, 500.0000"),
        (limit("buy", "9", "51"), None),
    ],
)
def test_order_of_too_large_value_is_refused(monkeypatch: Any, wanted: Any, reason: Any) -> None:
    limits = Limits(largest_notional=Decimal(500))
    result = run(scripted(monkeypatch, {1: [wanted]}, limits=limits), [prices(1, *FLAT)])
    assert result.orders[0].reason == reason


def test_limit_of_orders_per_minute_counts_in_feed_time(monkeypatch: Any) -> None:
    script = {seq: [buy("KO", "1")] for seq in (1, 2, 3, 4)}
    engine = scripted(monkeypatch, script, limits=Limits(orders_per_minute=2))
    times = [(1, 0), (2, 30), (3, 59), (4, 60)]
    states = [run(engine, [prices(s, *FLAT, released_s=at)]) for s, at in times]
    assert [result.orders[0].status for result in states] == ["open", "open", "refused", "open"]
    assert states[2].orders[0].reason == (
        "2 orders were placed in this minute of feed time, the most is 2"
    )
    state = states[2].state
    assert state is not None
    again = PortfolioEngine.restore(engine.spec, state, 3)
    assert run(again, [prices(4, *FLAT, released_s=59)]).orders == []  # still the same minute


def test_a_drawdown_over_the_limit_ends_the_batch_and_refuses_orders(monkeypatch: Any) -> None:
    limits = Limits(largest_drawdown_pct=Decimal(10))
    script = {1: [buy("KO", "50")], 30: [buy("KO", "1")], 40: [buy("KO", "1")]}
    engine = scripted(monkeypatch, script, limits=limits)
    # equity 1000, 1000, 900 (10 %), 850 (15 %)
    closes = [(1, "10"), (10, "10"), (20, "8"), (30, "7"), (40, "7"), (41, "7")]
    events = [prices(s, "10", c, c, c, released_s=s) for s, c in closes]
    result = run(engine, events)
    why = "the equity is 150.0000 or 15 % below its peak of 1000.0000, limit 10 %"
    assert (result.to_seq, engine.last_seq, result.halt) == (30, 30, why)
    assert result.orders[-1].reason == f"the portfolio halts: {why}"
    assert result.state is not None
    processed = decode_state(result.state).account.processed
    assert processed is not None and processed.events == 4
    again = PortfolioEngine.restore(engine.spec, result.state, 30)  # an operator starts it
    assert again.state.account.halted == why
    rest = run(again, events[4:])
    assert (rest.to_seq, rest.halt) == (41, "")  # measured anew from 850
    assert [o.status for o in rest.orders] == ["open"]


def test_state_without_features_of_the_newer_format_is_written_in_the_older_format(
    monkeypatch: Any,
) -> None:
    state = run(scripted(monkeypatch, {1: [buy("KO", "1")]}), [prices(1, *FLAT)]).state
    assert state is not None and decode_state(state).format == COUNTING_FORMAT


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        ({1: [limit("buy", "9")]}, {}),
        ({}, {"broker": BrokerSettings(fee_bps=Decimal(1))}),
        ({}, {"limits": Limits(largest_drawdown_pct=Decimal(5))}),
    ],
)
def test_older_ginkgo_version_refuses_a_state_with_features_of_the_newer_format(
    monkeypatch: Any, script: Any, changes: Any
) -> None:
    engine = scripted(monkeypatch, script, **changes)
    state = run(engine, [prices(1, *FLAT)]).state
    assert state is not None and decode_state(state).format == HOOKS_FORMAT
    monkeypatch.setattr("portfolios.runtime.state.FORMAT", COUNTING_FORMAT)
    with pytest.raises(StateUnreadable, match="upgrade this node"):
        PortfolioEngine.restore(engine.spec, state, 1)
