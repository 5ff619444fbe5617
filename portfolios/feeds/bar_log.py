"""A finite table of bars, repeated as an endless log. Columns are arrays: 5 MB for a year."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from heapq import merge
from itertools import chain, islice, repeat
from typing import NamedTuple

from portfolios.feeds.clock import Segment, release_clock
from portfolios.runtime.events import Bar, Event

WEEK_US = 7 * 24 * 3600 * 1_000_000


class BarRow(NamedTuple):
    """One row of the table: time in µs since the epoch, prices in units of 0.0001."""

    symbol: str
    time: int
    open_units: int
    high_units: int
    low_units: int
    close_units: int
    volume: int


class BarsAt(NamedTuple):
    """The bars of one time: a column for each value, which is faster to read than rows."""

    time: int
    symbols: Sequence[str]
    opened: Sequence[int]
    high: Sequence[int]
    low: Sequence[int]
    close: Sequence[int]
    volumes: Sequence[int]


class BarLog:
    """A `Feed` over bars given in log order: seq = lap * length + index, index from 1, lap from 0.

    In lap n, times are shifted by n times the span of the table, rounded up to full weeks: time
    never goes back, and a Monday's bar stays on a Monday. Prices repeat.
    """

    def __init__(self, name: str, bars: Iterable[BarRow | BarsAt]) -> None:
        """Read the bars in log order, without building a list.

        Raise ValueError if there are none or if time goes back.
        """
        self.name = name
        self._names: list[str] = []  # by symbol number, in the order of their first bar
        self._symbol = array("H")
        self._time = array("q")
        self._prices = array("q")  # open, high, low, close, open, …
        self._volume = array("q")
        self._indices: dict[str, array[int]] = {}  # indices of each symbol's bars, from 1
        self.sha256 = self._fill_columns(bars)
        self.length = len(self._time)
        if not self.length:
            raise ValueError(f"feed {name} has no bars")
        self.symbols = tuple(sorted(self._names))
        self.lap_us = -(-(self._time[-1] - self._time[0] + 1) // WEEK_US) * WEEK_US

    def _fill_columns(self, bars: Iterable[BarRow | BarsAt]) -> str:
        """Fill the columns. Return the sha256 of the bars as lines of text, integers throughout:
        "SYMBOL,time,open,high,low,close,volume"."""
        digest = hashlib.sha256()
        numbers: dict[str, int] = {}
        for given in bars:
            some = _alone(given) if isinstance(given, BarRow) else given
            time, symbols, opened, high, low, close, volumes = some
            first = len(self._time) + 1
            if self._time and time < self._time[-1]:
                raise ValueError(f"feed {self.name}: time goes back at bar {first}")
            for index, symbol in enumerate(symbols, start=first):
                if symbol not in numbers:
                    numbers[symbol] = len(self._names)
                    self._names.append(symbol)
                    self._indices[symbol] = array("L")
                self._indices[symbol].append(index)
            self._symbol.extend(map(numbers.__getitem__, symbols))
            self._time.extend(repeat(time, len(symbols)))
            self._prices.extend(chain.from_iterable(zip(opened, high, low, close, strict=True)))
            self._volume.extend(volumes)
            rows = zip(symbols, repeat(time), opened, high, low, close, volumes)
            digest.update("".join(map("%s,%d,%d,%d,%d,%d,%d\n".__mod__, rows)).encode())
        return digest.hexdigest()

    def read(self, from_seq: int, limit: int, segments: Sequence[Segment] = ()) -> list[Event]:
        """See `Feed.read`."""
        first = max(from_seq, 1)
        return self.read_for(None, first, first + limit - 1, segments)

    def read_for(
        self,
        symbols: frozenset[str] | None,
        from_seq: int,
        to_seq: int,
        segments: Sequence[Segment] = (),
        limit: int | None = None,
    ) -> list[Event]:
        """See `Feed.read_for`. Unknown symbols have no events."""
        release = release_clock(segments) if segments else None
        seqs: Iterable[int]
        if symbols is None:
            seqs = range(max(from_seq, 1), to_seq + 1)
        else:
            seqs = merge(*(self._seqs_of(symbol, from_seq, to_seq) for symbol in sorted(symbols)))
        return [self._event(seq, release) for seq in islice(seqs, limit)]

    def _seqs_of(self, symbol: str, from_seq: int, to_seq: int) -> Iterable[int]:
        """Yield the seqs of one symbol in the range, in order. The first one costs a bisection."""
        indices = self._indices.get(symbol)
        if not indices:
            return
        lap, rest = divmod(max(from_seq, 1) - 1, self.length)
        at = bisect_left(indices, rest + 1)
        while True:
            for index in indices[at:]:
                seq = lap * self.length + index
                if seq > to_seq:
                    return
                yield seq
            lap, at = lap + 1, 0

    def _event(self, seq: int, release: Callable[[int], int] | None) -> Event:
        lap, row = divmod(seq - 1, self.length)
        prices = self._prices
        return Bar(
            seq,
            self._names[self._symbol[row]],
            self._time[row] + lap * self.lap_us,
            release(seq) if release else 0,
            prices[4 * row],
            prices[4 * row + 1],
            prices[4 * row + 2],
            prices[4 * row + 3],
            self._volume[row],
        )


def _alone(row: BarRow) -> BarsAt:
    symbol, time, *values = row
    opened, high, low, close, volume = ([value] for value in values)
    return BarsAt(time, [symbol], opened, high, low, close, volume)
