"""A feed over bars that a test gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

from portfolios.feeds.repeated_bars import RepeatedBars, whole_weeks


class BarRow(NamedTuple):
    """One row of the table: time in µs since the epoch, prices in units of 0.0001."""

    symbol: str
    time: int
    open_units: int
    high_units: int
    low_units: int
    close_units: int
    volume: int


class BarLog(RepeatedBars):
    """The bars in the order given, at least one."""

    def __init__(self, name: str, bars: Iterable[BarRow]) -> None:
        self.name = name
        self._rows = list(bars)
        self._indices: dict[str, list[int]] = {}
        for index, bar in enumerate(self._rows, start=1):
            self._indices.setdefault(bar.symbol, []).append(index)
        lines = ("%s,%d,%d,%d,%d,%d,%d\n" % bar for bar in self._rows)  # noqa: UP031
        self.sha256 = sha256("".join(lines).encode()).hexdigest()
        self.length = len(self._rows)
        self.symbols = tuple(sorted(self._indices))
        self.lap_us = whole_weeks(self._rows[0].time, self._rows[-1].time)

    def _indices_of(self, symbol: str) -> Sequence[int]:
        return self._indices.get(symbol, ())

    def _values(self, row: int) -> BarRow:
        return self._rows[row]
