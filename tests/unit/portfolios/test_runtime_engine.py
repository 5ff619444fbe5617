"""What one portfolio does with events: decide, fill, refuse, suppress, point, fail."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.errors import SeqMismatch, StateUnreadable, StrategyFailed, VersionDiffers
from portfolios.runtime.results import OrderRow
from portfolios.runtime.spec import Limits
from portfolios.runtime.state import encode_state, strategy_view
from portfolios.strategies import registry
from portfolios.strategies.base import OrderIntent, Strategy
from scheduling.node_daemon.commit_builder import CommitBuilder
from tests.support.market_factories import Scripted, bar, buy, run, scripted, sell, spec

KO_1, GE_2, KO_3 = bar(1, "KO", "10", "11"), bar(2, "GE", "5", "5"), bar(3, "KO", "12", "13")


def statuses(orders: list[OrderRow]) -> list[tuple[int, int, str, str | None]]:
    return [(order.seq, order.index, order.status, order.reason) for order in orders]


def test_an_order_fills_at_the_next_open_of_its_symbol(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [buy("KO", "10")]})
    result = run(engine, [KO_1, GE_2, KO_3])
    (order,), (fill,) = result.orders, result.fills
    assert (order.seq, order.index, order.price, order.status) == (1, 0, Decimal("11"), "open")
    assert (fill.order_seq, fill.order_index, fill.fill_seq, fill.index) == (1, 0, 3, 0)
    assert (fill.price, fill.quantity, fill.at_us) == (Decimal("12"), Decimal("10"), 3_000_000)
    assert engine.state.account.cash == Decimal("880.0000")  # 1000 - 10 * 12
    assert engine.state.account.equity == Decimal("1010.0000")  # 880 + 10 * 13


def test_several_orders_of_one_event_are_numbered_and_fill_in_their_order(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [buy("KO", "10"), sell("KO", "4"), buy("KO", "1")]})
    result = run(engine, [KO_1, KO_3])
    assert [(o.seq, o.index) for o in result.orders] == [(1, 0), (1, 1), (1, 2)]
    fills = [(f.order_index, f.fill_seq, f.index) for f in result.fills]
    assert fills == [(0, 3, 0), (1, 3, 1), (2, 3, 2)]
    assert engine.state.account.positions["KO"].quantity == 7


def test_a_suppressed_decision_is_recorded_and_never_fills(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [buy("KO", "10")]})
    result = run(engine, [KO_1], suppress=True)
    assert statuses(result.orders) == [(1, 0, "suppressed", "decided on a stale event")]
    assert result.suppress
    assert run(engine, [KO_3]).fills == []
    assert engine.state.account.cash == 1000


def test_suppression_does_not_stop_the_fill_of_an_open_order(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [buy("KO", "10")]})
    run(engine, [KO_1])
    assert [fill.fill_seq for fill in run(engine, [KO_3], suppress=True).fills] == [3]


@pytest.mark.parametrize(
    ("given", "wanted", "reason"),
    [
        ({"limits": Limits(largest_order=Decimal(9))}, buy("KO", "10"),
         "order of 10 is over the largest, 9"),
        ({"limits": Limits(largest_position=Decimal("7.5"))}, buy("KO", "8"),
         "position of 8 would be over the largest, 7.5"),
        ({}, sell("KO", "0.5"), "would be short by 0.5, and short positions are not allowed"),
        # 91 * 11 = 1001
        ({}, buy("KO", "91"), "needs 1001.0000 of cash, 1000.0000 is free"),
        ({}, buy("GE", "1"), "no price of GE is known at this event"),
        ({"symbols": ["KO"]}, buy("GE", "1"), "GE is not one of the portfolio's symbols"),
    ],
)  # fmt: skip
def test_an_order_over_a_limit_is_refused(
    monkeypatch: Any, given: dict[str, Any], wanted: OrderIntent, reason: str
) -> None:
    result = run(scripted(monkeypatch, {1: [wanted]}, **given), [KO_1, GE_2, KO_3])
    assert statuses(result.orders) == [(1, 0, "refused", reason)]
    assert result.fills == []


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        (Limits(largest_order=Decimal(10), largest_position=Decimal(10)), buy("KO", "10")),
        (Limits(allow_short=True), sell("KO", "10")),
        (Limits(allow_negative_cash=True), buy("KO", "1000")),
        (Limits(), buy("KO", "90.9090")),  # 90.909 * 11 = 999.999
    ],
)
def test_an_order_at_its_limit_is_placed(
    monkeypatch: Any, limits: Limits, wanted: OrderIntent
) -> None:
    engine = scripted(monkeypatch, {1: [wanted]}, limits=limits)
    assert statuses(run(engine, [KO_1]).orders) == [(1, 0, "open", None)]


def test_orders_from_a_generator_may_spend_all_the_cash(monkeypatch: Any) -> None:
    orders = (buy("KO", quantity) for quantity in ("60", "40"))  # 100 * 11
    engine = scripted(monkeypatch, {1: orders}, starting_cash=Decimal(1100))
    assert statuses(run(engine, [KO_1]).orders) == [(1, 0, "open", None), (1, 1, "open", None)]


def test_open_orders_count_for_every_limit(monkeypatch: Any) -> None:
    orders = [buy("KO", "60"), buy("KO", "40"), sell("KO", "61"), sell("KO", "60")]
    engine = scripted(monkeypatch, {1: orders})
    assert [order.status for order in run(engine, [KO_1]).orders] == [
        "open",  # 660 of 1000
        "refused",  # 440 more, 340 free
        "refused",  # 61 of 60
        "open",
    ]


def test_a_position_over_a_new_limit_may_be_made_smaller(monkeypatch: Any) -> None:
    limits = Limits(largest_position=Decimal(5))
    state = run(scripted(monkeypatch, {1: [buy("KO", "10")], 3: [sell("KO", "2")]}), [KO_1]).state
    assert state is not None
    tightened = PortfolioEngine.restore(spec(limits=limits), state, 1)
    assert statuses(run(tightened, [KO_3]).orders) == [(3, 0, "open", None)]


def test_held_symbol_can_be_ordered_at_an_event_of_another_symbol(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [buy("KO", "10")], 4: [sell("KO", "10")]})
    result = run(engine, [KO_1, KO_3, bar(4, "GE", "5", "5")])
    assert (result.orders[1].status, result.orders[1].price) == ("open", Decimal("13"))


def test_equity_has_a_point_at_the_first_event_of_each_ten_seconds(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [buy("KO", "10")]})
    times = [(1, 3), (2, 9), (3, 10), (4, 19), (5, 40)]
    events = [bar(seq, "KO", "12", str(12 + seq), released_s) for seq, released_s in times]
    points = [(p.seq, p.at_us, str(p.equity)) for p in run(engine, events).equity]
    assert points == [
        (1, 3_000_000, "1000.0000"),
        (3, 10_000_000, "1030.0000"),  # 880 + 10 * 15
        (5, 40_000_000, "1050.0000"),  # 880 + 10 * 17
    ]


def test_a_batch_without_events_advances_the_seq_and_repeats_no_state(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {}, first_seq=8)
    assert engine.last_seq == 7
    first = engine.run([], 7, 50)
    assert (first.from_seq, first.to_seq, first.state is None) == (7, 50, False)
    assert engine.run([], 50, 60).state is None
    assert engine.last_seq == 60


@pytest.mark.parametrize(("from_seq", "to_seq"), [(0, 5), (2, 5), (1, 0)])
def test_a_batch_that_does_not_start_at_the_engines_seq_is_refused(
    monkeypatch: Any, from_seq: int, to_seq: int
) -> None:
    engine = scripted(monkeypatch, {})
    run(engine, [KO_1])
    with pytest.raises(SeqMismatch, match="alpha is at seq 1 and was given seq "):
        engine.run([], from_seq, to_seq)


@pytest.mark.parametrize(
    "wrong",
    [
        [OrderIntent("KO", "hold", Decimal(1))],  # type: ignore[arg-type]
        ["KO"],
        7,
        SystemExit(3),
    ],
)
def test_an_answer_that_is_not_an_order_is_a_failure(monkeypatch: Any, wrong: Any) -> None:
    with pytest.raises(StrategyFailed, match=r"in scripted at seq 1$"):
        run(scripted(monkeypatch, {1: wrong}), [KO_1])


@pytest.mark.parametrize(
    "quantity", [float("nan"), Decimal("Infinity"), "abc", None, -1, 0, 1e30, Decimal("0.00001")]
)
def test_an_order_without_a_possible_quantity_is_named_with_what_is_wanted(
    monkeypatch: Any, quantity: Any
) -> None:
    with pytest.raises(StrategyFailed, match=r"'KO'.* its quantity must be a number"):
        run(scripted(monkeypatch, {1: [OrderIntent("KO", "buy", quantity)]}), [KO_1])


def test_a_state_that_cannot_be_encoded_is_the_strategys_failure(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {})
    engine.state.strategy.data["thing"] = object()
    with pytest.raises(StrategyFailed, match=r"in scripted at seq 1$"):
        run(engine, [KO_1])


def test_a_state_that_is_not_a_dict_is_the_strategys_failure(monkeypatch: Any) -> None:
    monkeypatch.setattr(Scripted, "initial", lambda self: None)
    sentence = (
        "TypeError: a state from initial or adapt must be a dict, not NoneType"
        " in scripted while loading"
    )
    with pytest.raises(StrategyFailed, match=sentence):
        scripted(monkeypatch, {})


def test_a_strategy_version_that_is_not_installed_is_refused() -> None:
    with pytest.raises(
        VersionDiffers, match=r"canary is installed in version 1; revision 1 of alpha"
    ):
        PortfolioEngine.fresh(spec("canary", strategy_version=2))


def test_bytes_that_are_not_a_state_are_refused() -> None:
    for data in (b"", b"nonsense", encode_state(PortfolioEngine.fresh(spec("canary")).state)[:-3]):
        with pytest.raises(StateUnreadable):
            PortfolioEngine.restore(spec("canary"), data, 1)


class Renamed(Scripted):
    """The same script under another name and shape."""

    name = "renamed"

    def adapt(self, old):  # type: ignore[no-untyped-def]
        return {"seen": [], "before": old.data["seen"]} if old.strategy == "scripted" else None


def restored_as(monkeypatch: Any, strategy: type[Strategy], **changes: Any) -> dict[str, Any]:
    """Return the strategy's part after a restore of a portfolio that had seen KO_1."""
    state = run(scripted(monkeypatch, {}), [KO_1]).state
    assert state is not None
    monkeypatch.setitem(registry.BUILT_IN, strategy.name, strategy)
    engine = PortfolioEngine.restore(spec(strategy.name, **changes), state, 1)
    assert engine.run([], 1, 1).state is not None  # what changed is given
    return strategy_view(engine.state)


@pytest.mark.parametrize(
    ("strategy", "changes", "part"),
    [
        (Scripted, {"parameters": {"x": 1}}, {"seen": [1]}),
        (type("Newer", (Scripted,), {"state_version": 2}), {}, {"seen": []}),
        (Renamed, {}, {"seen": [], "before": [1]}),
    ],
    ids=["other parameters: kept", "another shape: empty", "another strategy: adapted"],
)
def test_changed_strategy_keeps_adapts_or_begins_anew_its_part_of_the_state(
    monkeypatch: Any, strategy: type[Strategy], changes: dict[str, Any], part: dict[str, Any]
) -> None:
    assert restored_as(monkeypatch, strategy, **changes) == part


def test_positions_and_open_orders_survive_another_strategy(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [buy("KO", "10")], 3: [buy("KO", "1")]})
    state = run(engine, [KO_1, KO_3]).state
    assert state is not None
    other = PortfolioEngine.restore(spec("canary"), state, 3)
    assert other.state.account == engine.state.account
    assert len(other.state.account.open_orders) == 1


def test_random_numbers_depend_on_seq_and_portfolio_only() -> None:
    engine = PortfolioEngine.fresh(spec("canary"))
    twin = PortfolioEngine.fresh(spec("canary"))
    other = PortfolioEngine.fresh(spec("canary", uid="another"))
    contexts = [e._context for e in (engine, twin, other)]
    for context in contexts:
        context.seq = 7
    first = [context.random.random() for context in contexts]
    second = [context.random.random() for context in contexts]
    assert first[0] == first[1] != first[2]
    assert second[0] == second[1] != first[0]


# --- the state is returned when a commit needs it ------------------------------------------------


def test_state_of_a_batch_run_without_want_state_is_returned_with_the_next_batch(
    monkeypatch: Any,
) -> None:
    engine, twin = scripted(monkeypatch, {}), scripted(monkeypatch, {})
    assert engine.run([KO_1], 0, 1, want_state=False).state is None
    assert engine.run([GE_2], 1, 2, want_state=False).state is None
    assert engine.run([], 2, 5).state == run(twin, [KO_1, GE_2]).state
    assert engine.run([], 5, 6).state is None  # it has been returned


def test_a_result_that_is_committed_at_once_includes_its_state(monkeypatch: Any) -> None:
    engine = scripted(monkeypatch, {1: [buy("KO", "1")], 2: [buy("KO", "900")]})
    placed = engine.run([KO_1], 0, 1, want_state=False)
    assert placed.is_urgent and placed.state is not None
    refused = engine.run([bar(2, "GE", "5", "5")], 1, 2, want_state=False)
    assert not refused.is_urgent and refused.state is None
    filled = engine.run([KO_3], 2, 3, want_state=False)
    assert filled.is_urgent and filled.state == encode_state(engine.state)


def test_commit_builder_refuses_a_state_older_than_its_results(monkeypatch: Any) -> None:
    engine, builder = scripted(monkeypatch, {}), CommitBuilder(0)
    builder.add(engine.run([KO_1], 0, 1))
    builder.add(engine.run([GE_2], 1, 2, want_state=False), asked_for_state=False)
    assert builder.lacks_state
    with pytest.raises(AssertionError):
        builder.build(1, 1)
    builder.add(engine.run([], 2, 2))
    assert builder.build(1, 1).state == encode_state(engine.state)
