"""The decisions of the three built-in traders on a few closes, with the arithmetic beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.state import encode_state
from tests.support.market_factories import bar, run, spec


def decisions(
    strategy: str, closes: Sequence[str], **parameters: Any
) -> list[tuple[int, str, str]]:
    """Return (seq, side, quantity) of what it decided on KO's closes, one bar a second from 1."""
    engine = PortfolioEngine.fresh(spec(strategy, parameters=parameters))
    events = [bar(seq, "KO", close, close) for seq, close in enumerate(closes, start=1)]
    return [(o.seq, o.side, str(o.quantity)) for o in run(engine, events).orders]


def test_buy_and_hold_buys_once() -> None:
    assert decisions("buy_and_hold", ["10", "11", "12", "9"], quantity="2.5") == [
        (1, "buy", "2.5000")
    ]


def test_buy_and_hold_buys_each_of_its_symbols() -> None:
    engine = PortfolioEngine.fresh(spec("buy_and_hold"))
    bars = [bar(1, "KO", "10", "10"), bar(2, "GE", "5", "5"), bar(3, "KO", "10", "10")]
    assert [(o.seq, o.symbol) for o in run(engine, bars).orders] == [(1, "KO"), (2, "GE")]


def test_sma_cross_buys_when_fast_is_above_slow_and_sells_otherwise() -> None:
    # fast 2, slow 3. At 3: (10+10)/2 = (10+10+10)/3, not above. At 4: 11 > 10.67, buy.
    # At 5 the order fills; (12+8)/2 = 10 < (10+12+8)/3 is 10, not above: sell.
    traded = decisions("sma_cross", ["10", "10", "10", "12", "8", "8"], fast=2, slow=3)
    assert traded == [(4, "buy", "10.0000"), (5, "sell", "10.0000")]


def test_sma_cross_waits_for_its_slow_window() -> None:
    assert decisions("sma_cross", ["1", "2", "3"], fast=1, slow=4) == []
    assert decisions("sma_cross", ["1", "2", "3", "4"], fast=1, slow=4) == [(4, "buy", "10.0000")]


def test_mean_reversion_buys_far_below_and_sells_when_back() -> None:
    # lookback 4. At 5: 10 10 10 6, mean 9, deviation sqrt(3) = 1.73, z = -3 / 1.73 = -1.73: buy.
    # At 6 it fills; 10 10 6 7, mean 8.25, deviation 1.79, z = -0.70: still under -0.5, keep.
    # At 7: 10 6 7 8, mean 7.75, z = +0.17: sell.
    closes = ["10", "10", "10", "10", "6", "7", "8"]
    traded = decisions("mean_reversion", closes, lookback=4, entry_z=1.7, exit_z=0.5)
    assert traded == [(5, "buy", "10.0000"), (7, "sell", "10.0000")]
    assert decisions("mean_reversion", closes, lookback=4, entry_z=1.74, exit_z=0.5) == []


def test_mean_reversion_does_nothing_while_prices_stand_still() -> None:
    assert decisions("mean_reversion", ["10"] * 6, lookback=3) == []


def test_strategy_revised_to_a_shorter_window_keeps_the_newest_closes() -> None:
    for name, wide, narrow in (
        ("sma_cross", {"fast": 2, "slow": 4}, {"fast": 1, "slow": 2}),
        ("mean_reversion", {"lookback": 4}, {"lookback": 2}),
    ):
        engine = PortfolioEngine.fresh(spec(name, parameters=wide))
        run(engine, [bar(seq, "KO", "1", str(seq)) for seq in (1, 2, 3, 4)])
        state = encode_state(engine.state)
        changed = PortfolioEngine.restore(spec(name, parameters=narrow), state, 4)
        assert changed.state.strategy.data == {"closes": {"KO": [30_000, 40_000]}}
