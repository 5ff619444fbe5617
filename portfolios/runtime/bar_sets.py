"""Gather the bars of one time until every symbol of a portfolio has one, for `on_bars`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from portfolios.runtime.events import Bar, decode_events, encode_event, join_events
from portfolios.runtime.state import BarSet, State


class BarGatherer:
    """Gathers the bars of the newest time in the state, so that a restart between them loses none.

    Only one time is kept, with at most one bar for each symbol. A bar of a later time drops the
    gathered ones, since some symbol has no bar of their time; a bar of an earlier time is not
    gathered.
    """

    def __init__(self, state: State, symbols: frozenset[str]) -> None:
        """Continue with the bars of `state`, without those of symbols that a revision dropped.

        If it dropped the only symbol that was still missing, no further bar completes the set:
        `on_bars` is not called for that time.
        """
        self._state, self._symbols = state, symbols
        if state.bar_set is not None:
            bars = state.bar_set.bars
            state.bar_set.bars = {symbol: bars[symbol] for symbol in bars if symbol in symbols}

    def add(self, bar: Bar) -> Mapping[str, Bar] | None:
        """Return the bars of all symbols, sorted by symbol, if `bar` completes them; else None."""
        gathered = self._state.bar_set
        if gathered is None or bar.time > gathered.time:
            gathered = self._state.bar_set = BarSet(bar.time)
        elif bar.time < gathered.time:
            return None
        gathered.bars[bar.symbol] = encode_event(bar)
        if len(gathered.bars) < len(self._symbols):
            return None
        ordered = [gathered.bars[symbol] for symbol in sorted(self._symbols)]
        gathered.bars = {}
        return {bar.symbol: cast(Bar, bar) for bar in decode_events(join_events(ordered))}
