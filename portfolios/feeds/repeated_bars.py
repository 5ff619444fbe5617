"""A finite table of bars, repeated as an endless log."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from heapq import merge
from itertools import islice

from portfolios.feeds.clock import Segment, release_clock
from portfolios.runtime.events import Bar, Event

WEEK_US = 7 * 24 * 3600 * 1_000_000


class RepeatedBars(ABC):
    """A `Feed` over a table in log order: seq = lap * length + index, index from 1, lap from 0.

    In lap n, times are shifted by n times the span of the table, rounded up to full weeks: time
    never goes back, and a Monday's bar stays on a Monday. Prices repeat. Subclasses have the table.
    """

    name: str
    sha256: str
    length: int
    symbols: tuple[str, ...]
    lap_us: int  #: from `whole_weeks`

    @abstractmethod
    def _indices_of(self, symbol: str) -> Sequence[int]:
        """Return the indices of one symbol's bars, ascending; of an unknown symbol none."""

    @abstractmethod
    def _values(self, row: int) -> tuple[str, int, int, int, int, int, int]:
        """Return symbol, time, open, high, low, close and volume of index row + 1."""

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
        indices = self._indices_of(symbol)
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
        """Return the event of a seq. Without `release` its release time is 0."""
        lap, row = divmod(seq - 1, self.length)
        symbol, time, *values = self._values(row)
        return Bar(seq, symbol, time + lap * self.lap_us, release(seq) if release else 0, *values)


def whole_weeks(first_us: int, last_us: int) -> int:
    """Return the span from the first to the last time, rounded up to whole weeks, in µs."""
    return -(-(last_us - first_us + 1) // WEEK_US) * WEEK_US
