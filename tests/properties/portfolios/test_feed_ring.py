"""The feed ring gives the events of the feed, whatever is requested in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolios.feeds.clock import Segment
from portfolios.feeds.ring import Ring
from portfolios.runtime.events import Event, decode_events
from tests.support.bar_log import BarLog, BarRow

#: Eleven bars; C has one, and A none in the second half.
BARS = [
    BarRow(symbol, day * 86_400_000_000, 10 + day, 12 + day, 9, 11 + day, 5)
    for day, symbols in enumerate(["AB", "AB", "ABC", "B", "BB", "B"])
    for symbol in symbols
]
FEED = BarLog("eleven", BARS)
SEGMENTS = (Segment(1, 0, 100.0),)
SYMBOLS = st.none() | st.frozensets(st.sampled_from(["A", "B", "C", "Z"]))


def everything(symbols: frozenset[str] | None, first: int, last: int) -> list[Event]:
    """Return what `read_for` should, the slow way: all events, then only those."""
    events = FEED.read(first, last - first + 1, SEGMENTS)
    return [event for event in events if symbols is None or event.symbol in symbols]


@given(SYMBOLS, st.integers(1, 60), st.integers(0, 80), st.none() | st.integers(0, 9))
def test_reading_for_symbols_equals_filtering_all_events(
    symbols: frozenset[str] | None, first: int, last: int, limit: int | None
) -> None:
    found = FEED.read_for(symbols, first, last, SEGMENTS, limit)
    assert found == everything(symbols, first, last)[:limit]


@given(
    symbols=SYMBOLS,
    capacity=st.integers(1, 20),
    start=st.integers(0, 30),
    heads=st.lists(st.integers(0, 90), min_size=1),
    max_events=st.integers(1, 9),
    max_span=st.integers(1, 40),
)
def test_batches_follow_each_other_without_a_gap_and_have_every_event_once(
    symbols: frozenset[str] | None,
    capacity: int,
    start: int,
    heads: list[int],
    max_events: int,
    max_span: int,
) -> None:
    ring = Ring(FEED, SEGMENTS, capacity)
    cursor = start
    seen: list[Event] = []
    for head in sorted(heads):
        while cursor < head:
            data, to_seq = ring.batch(cursor, symbols, head, max_events, max_span)
            events = decode_events(data)
            assert cursor < to_seq <= min(head, cursor + max_span)
            assert len(events) <= max_events
            assert all(cursor < event.seq <= to_seq for event in events)
            seen += events
            cursor = to_seq
    assert seen == everything(symbols, start + 1, cursor)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), SYMBOLS), min_size=1))
def test_feed_ring_gives_the_events_after_any_cursor_in_any_order_of_requests(
    questions: list[tuple[int, int, frozenset[str] | None]],
) -> None:
    ring = Ring(FEED, SEGMENTS, 8)
    for cursor, head, symbols in questions:
        data, to_seq = ring.batch(cursor, symbols, head, max_events=5)
        assert decode_events(data) == everything(symbols, cursor + 1, to_seq)
        assert cursor <= to_seq


def test_batch_of_the_ring_is_empty_at_the_head() -> None:
    ring = Ring(FEED, SEGMENTS, 8)
    assert ring.batch(30, None, 30) == (b"\x90", 30)
    assert ring.batch(31, None, 30) == (b"\x90", 31)


def test_an_empty_ring_reads_only_the_events_of_its_first_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    monkeypatch.setattr(
        FEED,
        "read_for",
        lambda *given: [read.append(e.seq) or e for e in BarLog.read_for(FEED, *given)],
    )
    assert Ring(FEED, SEGMENTS, 20).batch(47, None, 50)[1] == 50
    assert read == [48, 49, 50]


def test_events_in_the_ring_get_new_release_times_when_the_rate_changes() -> None:
    ring = Ring(FEED, SEGMENTS, 8)
    ring.batch(0, None, 6)
    ring.set_segments((Segment(1, 0, 100.0), Segment(3, 20_000, 1.0)))
    released = [event.released for event in decode_events(ring.batch(0, None, 5)[0])]
    assert released == [0, 10_000, 20_000, 1_020_000, 2_020_000]
