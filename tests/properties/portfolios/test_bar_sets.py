"""Bars of all symbols are complete at the same events wherever a run is cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.events import Bar, Event, ScaledBar, Trade
from portfolios.runtime.state import encode_state
from portfolios.strategies import registry
from tests.properties.portfolios.test_runtime_cuts import rows
from tests.support.drawn_examples import examples
from tests.support.market_factories import spec
from tests.support.strategies.cheapest_of_all import CheapestOfAll

TRADED = ("GE", "IBM", "KO")
HISTORY = 6  #: events before the first one of the portfolio


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.BUILT_IN, CheapestOfAll.name, CheapestOfAll)
        yield


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    """Return bars whose times grow for each symbol, some late or missing, among trades and bars of
    a symbol that is not traded."""
    made: list[Event] = []
    times = dict.fromkeys((*TRADED, "XOM"), 0)
    for seq in range(1, draw(st.integers(1, 60)) + 1):
        symbol = draw(st.sampled_from(sorted(times)))
        times[symbol] += draw(st.sampled_from([1, 1, 1, 1, 2, 3]))
        at, price = times[symbol], draw(st.integers(1, 500_000))
        released = seq * 3_000_000
        kind = draw(st.sampled_from(["bar", "bar", "bar", "bar", "scaled", "trade"]))
        if kind == "trade":
            made.append(Trade(seq, symbol, at, released, price, 1))
        elif kind == "scaled":
            made.append(ScaledBar(seq, symbol, at, released, price, price, price, price, 1, 6))
        else:
            made.append(Bar(seq, symbol, at, released, price, price, price, price, 1))
    return made


def complete_sets(made: list[Event]) -> list[list[list[object]]]:
    """Return the sets of bars by their definition: all of the newest time, one of each symbol."""
    sets = []
    bars = [e for e in made if isinstance(e, Bar) and e.symbol in TRADED]
    for number, newest in enumerate(bars, start=1):
        same = {e.symbol: e for e in bars[:number] if e.time == newest.time}
        if newest.time == max(e.time for e in bars[:number]) and len(same) == len(TRADED):
            sets.append([[symbol, same[symbol].seq, same[symbol].close_units] for symbol in TRADED])
    return sets


@settings(deadline=None, max_examples=examples(80))
@given(made=events(), ends=st.sets(st.integers(1, 60)), stale=st.booleans())
def test_sets_of_bars_are_complete_at_the_same_events_wherever_a_run_is_cut(
    made: list[Event], ends: set[int], stale: bool
) -> None:
    chosen = spec(CheapestOfAll.name, symbols=list(TRADED), first_seq=HISTORY + 1)
    history, live = [e for e in made[:HISTORY] if e.symbol in TRADED][-5:], made[HISTORY:]
    whole = PortfolioEngine.fresh(chosen, history)
    uncut = [whole.run(live, HISTORY, live[-1].seq, stale)] if live else []
    cut, pieces, batch = PortfolioEngine.fresh(chosen, history), [], list[Event]()
    for event in live:
        batch.append(event)
        if event.seq in ends or event is live[-1]:
            pieces.append(cut.run(batch, cut.last_seq, event.seq, stale))
            cut, batch = PortfolioEngine.restore(chosen, encode_state(cut.state), event.seq), []
    assert rows(pieces) == rows(uncut)
    assert encode_state(cut.state) == encode_state(whole.state)
    assert whole.state.strategy.data["sets"] == complete_sets([*history, *live])
