"""The uninterrupted run over tenures and stale ranges."""

from __future__ import annotations

from portfolios.feeds.bar_log import Bar, BarLog
from portfolios.feeds.clock import Segment
from portfolios.runtime import replay as module
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.replay import replay
from portfolios.runtime.state import encode_state, strategy_view
from tests.support.market_factories import spec

FEED = BarLog("one share", [Bar("KO", day, 10_000, 10_000, 10_000, 10_000, 1) for day in range(9)])
SEGMENTS = [Segment(1, 0, 1.0)]


def test_each_spec_runs_from_its_first_seq() -> None:
    epochs = [(1, spec("canary")), (6, spec("buy_and_hold")), (8, spec("canary", revision=3))]
    seen = replay(epochs, FEED, SEGMENTS, 12)
    assert [(order.seq, order.side) for order in seen.orders] == [(6, "buy")]
    assert [fill.fill_seq for fill in seen.fills] == [7]
    # its part began empty at 8, since buy_and_hold came between
    assert strategy_view(seen.state)["first_seq"] == 8
    assert strategy_view(seen.state)["last_seq"] == 12


def test_stale_ranges_hold_at_both_ends() -> None:
    for stale, bought in (
        ([(1, 1)], 2),
        ([(1, 3)], 4),
        ([(2, 3)], 1),
        ([(1, 3), (4, 5)], 6),
        ([(1, 99)], None),
    ):
        seen = replay([(1, spec("buy_and_hold"))], FEED, SEGMENTS, 9, stale)
        opened = [order.seq for order in seen.orders if order.status == "open"]
        assert opened == ([bought] if bought else [])
        suppressed = [order.seq for order in seen.orders if order.status == "suppressed"]
        assert suppressed == list(range(1, bought or 10))


def test_it_equals_a_run_that_moved(monkeypatch) -> None:
    chosen = spec("sma_cross", parameters={"fast": 1, "slow": 2}, first_seq=3)
    engine = PortfolioEngine.fresh(chosen)
    for first, last in ((3, 4), (5, 11), (12, 20)):
        engine = PortfolioEngine.restore(chosen, encode_state(engine.state), engine.last_seq)
        events = FEED.read_for(chosen.symbol_set(), first, last, SEGMENTS)
        engine.run(events, first - 1, last)
    whole = replay([(3, chosen)], FEED, SEGMENTS, 20)
    monkeypatch.setattr(module, "LARGEST_SPAN", 4)
    pieces = replay([(3, chosen)], FEED, SEGMENTS, 20)
    assert encode_state(pieces.state) == encode_state(whole.state) == encode_state(engine.state)
    assert pieces[1:] == whole[1:]
