"""`on_bars`: a decision once every symbol of a portfolio has the bar of one time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from portfolios.artifacts.inspection import _inspect
from portfolios.backtest.testing import bars as days
from portfolios.backtest.testing import run_bars
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.errors import ArtifactUnusable, StrategyFailed
from portfolios.runtime.events import Event, Gap, Quote
from portfolios.runtime.state import (
    BARS_FORMAT,
    COUNTING_FORMAT,
    HOOKS_FORMAT,
    decode_state,
    encode_state,
)
from portfolios.strategies import registry
from tests.support.market_factories import Scripted, bar, buy, run, spec
from tests.support.strategies.cheapest_of_all import CheapestOfAll


class Gathering(Scripted):
    """Keeps the seqs of each set of bars, and returns the scripted intents of its last one."""

    name = "gathering"

    def initial(self) -> dict[str, Any]:
        return {"seen": [], "sets": []}

    def on_event(self, ctx: Any, state: Any, event: Any) -> None:
        state["seen"].append(event.seq)

    def on_bars(self, ctx: Any, state: Any, bars: Any) -> Any:
        state["sets"].append([bar.seq for bar in bars.values()])
        answer = self.script.get(ctx.seq)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for strategy in (Gathering, CheapestOfAll):
        monkeypatch.setitem(registry.BUILT_IN, strategy.name, strategy)
    monkeypatch.setattr(Gathering, "script", {})


def gathering(*symbols: str, script: dict[int, Any] | None = None) -> PortfolioEngine:
    Gathering.script = script or {}
    return PortfolioEngine.fresh(spec("gathering", symbols=list(symbols)))


def at(seq: int, symbol: str, time: int) -> Event:
    return msgspec.structs.replace(bar(seq, symbol, "10", "11"), time=time)


def sets(engine: PortfolioEngine) -> list[list[Any]]:
    found: list[list[Any]] = engine.state.strategy.data["sets"]
    return found


def test_complete_bars_are_given_in_the_order_of_symbols_once_every_symbol_has_one() -> None:
    engine = gathering("KO", "GE")
    run(engine, [at(1, "KO", 5), at(2, "IBM", 5), at(3, "GE", 5), at(4, "GE", 6), at(5, "KO", 6)])
    assert sets(engine) == [[3, 1], [4, 5]]
    assert engine.state.bar_set is not None and engine.state.bar_set.bars == {}


def test_at_most_one_bar_of_each_symbol_is_kept() -> None:
    engine = gathering("KO", "GE", "IBM")
    run(engine, [at(seq, ("KO", "GE")[seq % 2], seq // 2) for seq in range(1, 400)])
    kept = engine.state.bar_set
    assert kept is not None and len(kept.bars) == 2


def test_gaps_and_quotes_do_not_complete_bars() -> None:
    engine = gathering("KO", "GE")
    run(engine, [at(1, "KO", 5), Gap(2, "GE", 5, 2, 4, 5), Quote(3, "GE", 5, 3, 9, 11)])
    assert sets(engine) == []


def test_orders_for_all_symbols_are_decided_at_the_close_of_their_own_bars() -> None:
    engine = gathering("KO", "GE", script={2: [buy("KO", "1"), buy("GE", "2")]})
    result = run(engine, [bar(1, "KO", "1", "3", 7), bar(2, "GE", "1", "5", 7)])
    orders = [(o.symbol, o.price, o.status) for o in result.orders]
    assert orders == [("KO", Decimal(3), "open"), ("GE", Decimal(5), "open")]
    Gathering.script = {}
    result = run(engine, [bar(3, "KO", "4", "4", 8), bar(4, "GE", "6", "6", 8)])
    assert [(f.fill_seq, f.price) for f in result.fills] == [(3, Decimal(4)), (4, Decimal(6))]


def test_prices_of_complete_bars_are_not_used_at_later_events() -> None:
    class OneLater(Gathering):
        name = "one_later"

        def on_event(self, ctx: Any, state: Any, event: Any) -> Any:
            return [buy("KO", "1")] if event.seq == 3 else None

    with registry.under_test(OneLater):
        engine = PortfolioEngine.fresh(spec("one_later", symbols=["KO", "GE"]))
        OneLater.script = {2: [buy("GE", "1")]}
        result = run(engine, [at(1, "KO", 5), at(2, "GE", 5), at(3, "GE", 6)])
    assert [o.reason for o in result.orders] == [None, "no price of KO is known at this event"]


def test_decision_on_stale_complete_bars_is_suppressed() -> None:
    engine = gathering("KO", "GE", script={2: [buy("KO", "1")]})
    result = run(engine, [at(1, "KO", 5), at(2, "GE", 5)], suppress=True)
    assert [order.status for order in result.orders] == ["suppressed"]


def test_a_failure_names_the_event_that_completed_the_bars() -> None:
    engine = gathering("KO", "GE", script={2: RuntimeError("boom")})
    with pytest.raises(StrategyFailed, match=r"RuntimeError: boom in gathering at seq 2$"):
        run(engine, [at(1, "KO", 5), at(2, "GE", 5)])


@pytest.mark.parametrize(
    ("symbols", "events", "complete"),
    [
        (["GE", "XOM"], [at(3, "XOM", 5)], [[2, 3]]),  # without the bar of KO
        (["KO", "GE"], [at(3, "KO", 6), at(4, "GE", 6)], [[4, 3]]),  # nothing was missing but IBM
    ],
)
def test_a_revision_drops_waiting_bars_that_are_not_of_its_symbols(
    symbols: list[str], events: list[Event], complete: list[list[int]]
) -> None:
    engine = gathering("KO", "GE", "IBM")
    run(engine, [at(1, "KO", 5), at(2, "GE", 5)])
    fewer = spec("gathering", symbols=symbols, revision=2)
    again = PortfolioEngine.restore(fewer, encode_state(engine.state), 2)
    run(again, events)
    assert sets(again) == complete


def test_revision_with_an_empty_state_waits_for_new_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = gathering("KO", "GE")
    run(engine, [at(1, "KO", 5)])
    monkeypatch.setattr(Gathering, "adapt", lambda self, old: None)
    monkeypatch.setattr(Gathering, "state_version", 2)
    again = PortfolioEngine.restore(engine.spec, encode_state(engine.state), 1)
    run(again, [at(2, "GE", 5)])
    assert sets(again) == []


def test_only_a_strategy_that_acts_on_bars_has_a_state_that_older_nodes_refuse() -> None:
    plain = PortfolioEngine.fresh(spec("buy_and_hold", symbols=["KO"]))
    formats = [decode_state(encode_state(e.state)).format for e in (plain, gathering("KO"))]
    assert formats == [COUNTING_FORMAT, BARS_FORMAT]
    engine = gathering("KO", "GE")
    run(engine, [at(1, "KO", 5)])
    without = spec("buy_and_hold", symbols=["KO", "GE"])
    restored = PortfolioEngine.restore(without, encode_state(engine.state), 1).state
    assert (restored.bar_set, restored.format) == (None, HOOKS_FORMAT)


@pytest.mark.parametrize("symbols", [[], ["*"]])
def test_strategy_that_acts_on_complete_bars_must_name_its_symbols(symbols: list[str]) -> None:
    (error,) = CheapestOfAll.validate({}, symbols)
    assert (error.field, str(error.message)) == (
        "symbols",
        "cheapest_of_all acts once all its symbols have a bar: list the symbols.",
    )
    with pytest.raises(StrategyFailed, match="on_bars needs a list of symbols"):
        PortfolioEngine.fresh(spec("cheapest_of_all", symbols=symbols), ())
    assert CheapestOfAll.validate({}, ["KO", "GE"]) == []


def test_inspection_refuses_a_strategy_that_acts_on_bars_and_sees_every_symbol() -> None:
    class Contradicting(CheapestOfAll):
        sees_every_symbol = True

    assert _inspect("cheapest_of_all", CheapestOfAll).checks
    with pytest.raises(ArtifactUnusable, match="leave one of them out"):
        _inspect("contradicting", Contradicting)


def test_run_bars_tests_a_strategy_that_acts_on_complete_bars() -> None:
    result = run_bars(
        CheapestOfAll, [*days("KO", 1, 2, 3), *days("GE", 3, 1, 9)], symbols=["KO", "GE"]
    )
    assert [order.symbol for order in result.orders[:2]] == ["KO", "GE"]
    assert len(result.state["sets"]) == 3
