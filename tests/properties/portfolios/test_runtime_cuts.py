"""Where a run is interrupted makes no difference to its results: I3 rests on this."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolios.feeds import open_feed
from portfolios.feeds.clock import Segment
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.events import Bar, Event
from portfolios.runtime.money import ZERO
from portfolios.runtime.results import BatchResult
from portfolios.runtime.spec import BrokerSettings, Limits, Spec
from portfolios.runtime.state import encode_state
from portfolios.strategies import registry
from tests.support.drawn_examples import examples
from tests.support.market_factories import spec
from tests.support.python_process import run_python
from tests.support.single_process_run import replay
from tests.support.strategies.every_order import EveryOrder

#: Windows short enough that a few dozen bars make every one of them trade; {} for the others.
QUICK: dict[str, dict[str, Any]] = {
    "sma_cross": {"fast": 1, "slow": 2, "quantity": "3.5"},
    "mean_reversion": {"lookback": 3, "entry_z": 0.5, "exit_z": 0.1, "quantity": "7"},
}

Step = tuple[Event, bool]
#: What a strategy warms up with.
HISTORY = [Bar(-n, "KO", -n, 0, 5, 5, 5, 5, 1) for n in range(9, 0, -1)]


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    """Events of three shares, some of them stale."""
    made: list[Step] = []
    for seq in range(1, draw(st.integers(1, 40)) + 1):
        symbol = draw(st.sampled_from(["KO", "GE", "IBM"]))
        first, last = draw(st.integers(1, 500_000)), draw(st.integers(1, 500_000))
        event = Bar(seq, symbol, seq, seq * 3_000_000, first, first, last, last, 1)
        made.append((event, draw(st.booleans())))
    return made


def specs(name: str) -> st.SearchStrategy[Spec]:
    """This strategy, with limits that bind now and then."""
    some = st.none() | st.integers(1, 20).map(Decimal)
    limits = st.builds(
        Limits, some, some, st.booleans(), st.booleans(),
        st.none() | st.integers(1, 400).map(Decimal), st.none() | st.integers(1, 9),
    )  # fmt: skip
    costs = st.builds(BrokerSettings, some_costs(), some_costs(), some_costs(), some_costs())
    return st.builds(
        lambda chosen, broker: spec(
            name,
            parameters=QUICK.get(name, {}),
            limits=chosen,
            broker=broker,
            strategy_version=registry.get(name).version,
        ),
        limits,
        costs,
    )


def some_costs() -> st.SearchStrategy[Decimal]:
    """Costs of the paper broker, often none."""
    return st.just(ZERO) | st.integers(1, 300).map(lambda cents: Decimal(cents) / 100)


@pytest.fixture(scope="module", autouse=True)
def every_order() -> Iterator[None]:
    """Register the strategy that uses everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.BUILT_IN, EveryOrder.name, EveryOrder)
        yield


def rows(results: Sequence[BatchResult]) -> tuple[list[Any], ...]:
    """Return all orders, fills, ends of orders and equity points."""
    kinds = ("ended", "metrics", "orders", "fills", "equity")
    return tuple([row for result in results for row in getattr(result, kind)] for kind in kinds)


def batches(made: list[Step], ends: set[int]) -> list[tuple[list[Event], bool]]:
    """Return the events as batches that end at `ends`, and wherever staleness changes."""
    out: list[tuple[list[Event], bool]] = []
    for event, stale in made:
        if not out or out[-1][1] != stale or out[-1][0][-1].seq in ends:
            out.append(([], stale))
        out[-1][0].append(event)
    return out


@pytest.mark.parametrize("name", [*registry.versions(), EveryOrder.name])
@settings(deadline=None, max_examples=examples(60))
@given(data=st.data(), made=steps())
def test_an_engine_restored_at_drawn_events_gives_the_results_of_an_uninterrupted_one(
    name: str, data: st.DataObject, made: list[Step]
) -> None:
    chosen = data.draw(specs(name))
    whole, cut = PortfolioEngine.fresh(chosen, HISTORY), PortfolioEngine.fresh(chosen, HISTORY)
    uncut = [
        whole.run(events, events[0].seq - 1, events[-1].seq, stale)
        for events, stale in batches(made, set())
    ]
    pieces = []
    for event, stale in made:
        cut = PortfolioEngine.restore(chosen, encode_state(cut.state), cut.last_seq)
        pieces.append(cut.run([event], event.seq - 1, event.seq, stale))
        account = cut.state.account  # in which no money is lost or made
        costs = sum(position.cost for position in account.positions.values())
        paid = account.fees or 0
        assert account.cash + costs == account.starting_cash + account.realised - paid
    assert rows(pieces) == rows(uncut)
    assert encode_state(cut.state) == encode_state(whole.state)


@pytest.mark.parametrize("name", [*registry.versions(), EveryOrder.name])
@settings(deadline=None, max_examples=examples(40))
@given(data=st.data(), made=steps(), ends=st.sets(st.integers(1, 40)))
def test_batches_of_any_size_give_the_same_rows_and_the_last_state(
    name: str, data: st.DataObject, made: list[Step], ends: set[int]
) -> None:
    chosen = data.draw(specs(name))
    one, other = PortfolioEngine.fresh(chosen, HISTORY), PortfolioEngine.fresh(chosen, HISTORY)
    large = [one.run(e, e[0].seq - 1, e[-1].seq, s) for e, s in batches(made, set())]
    small = [other.run(e, e[0].seq - 1, e[-1].seq, s) for e, s in batches(made, ends)]
    assert rows(small) == rows(large)
    for results in (large, small):
        given_last = [result.state for result in results if result.state is not None][-1]
        assert given_last == encode_state(one.state)
        assert [result.from_seq for result in results[1:]] == [r.to_seq for r in results[:-1]]


def results_of_built_in_strategies() -> str:
    """Return a digest of the rows and the state of each strategy after 2,000 events."""
    found = hashlib.sha256()
    for name in sorted({*registry.BUILT_IN} - {EveryOrder.name}):
        chosen = spec(name, parameters=QUICK.get(name, {}))
        seen = replay([(1, chosen)], open_feed(), [Segment(1, 0, 100.0)], 2000, [(900, 1500)])
        found.update(encode_state(seen.state) + repr(seen[1:]).encode())
    return found.hexdigest()


def test_results_of_strategies_do_not_depend_on_the_hash_seed() -> None:
    program = f"from {__name__} import *; print(results_of_built_in_strategies())"
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    told = run_python("-c", program, PYTHONHASHSEED=seed)
    assert told.stdout.strip() == results_of_built_in_strategies(), told.stderr


@st.composite
def narrowed(draw: st.DrawFn) -> tuple[Spec, Spec, int]:
    """A spec of three shares, a later one that lacks some of them, and the seq it begins at."""
    wide = draw(specs(draw(st.sampled_from(["buy_and_hold", "mean_reversion", "sma_cross"]))))
    kept = draw(st.sets(st.sampled_from(["KO", "GE", "IBM"]), min_size=1, max_size=2))
    narrow = msgspec.structs.replace(wide, revision=2, symbols=sorted(kept))
    return wide, narrow, draw(st.integers(2, 40))


def events_for(made: Sequence[Step], symbols: frozenset[str] | None) -> list[Event]:
    """Return the events that a feed would give to a portfolio of these symbols."""
    return [event for event, _ in made if symbols is None or event.symbol in symbols]


@settings(deadline=None, max_examples=examples(200))
@given(chosen=narrowed(), made=steps(), ends=st.sets(st.integers(1, 40)))
def test_restores_change_no_result_while_a_symbol_outside_the_spec_is_held(
    chosen: tuple[Spec, Spec, int], made: list[Step], ends: set[int]
) -> None:
    # An engine that is asked for its symbols once, as a node does, beside one that is made anew at
    # each cut and asked for what it holds then.
    wide, narrow, begins = chosen
    before = [step for step in made if step[0].seq < begins]
    after = [step for step in made if step[0].seq >= begins]
    whole = PortfolioEngine.fresh(wide)
    for event, stale in before:
        whole.run([event], event.seq - 1, event.seq, stale)
    whole = PortfolioEngine.restore(narrow, encode_state(whole.state), whole.last_seq)
    cut = PortfolioEngine.restore(narrow, encode_state(whole.state), whole.last_seq)
    asked = whole.symbols
    uncut, pieces = [], []
    for events, stale in batches(after, set()):
        steps_of = [(event, stale) for event in events]
        uncut.append(whole.run(events_for(steps_of, asked), whole.last_seq, events[-1].seq, stale))
    for events, stale in batches(after, ends):
        cut = PortfolioEngine.restore(narrow, encode_state(cut.state), cut.last_seq)
        steps_of = [(event, stale) for event in events]
        pieces.append(
            cut.run(events_for(steps_of, cut.symbols), cut.last_seq, events[-1].seq, stale)
        )
    assert rows(pieces) == rows(uncut)
    assert encode_state(cut.state) == encode_state(whole.state)
    last_price = {event.symbol: event.close_e4 for event, _ in made}
    account = whole.state.account
    for symbol, position in account.positions.items():
        assert position.mark_units == last_price[symbol]
    for order in account.open_orders:  # it waits for an event that has not come yet
        assert all(e.symbol != order.symbol or e.seq <= order.seq for e, _ in made)
