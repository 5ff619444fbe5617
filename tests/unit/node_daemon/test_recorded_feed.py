"""A recorded feed on a node: the ring, pages of older records, and a database that went back."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from portfolios.feeds import history
from portfolios.feeds.history import newest_events
from portfolios.runtime.events import Event, Tick, decode_events, encode_event, make_bar
from scheduling.node_daemon import recorded_feed
from scheduling.node_daemon.clock import boottime_us
from scheduling.node_daemon.control_plane_client import ControlPlaneClient
from scheduling.node_daemon.errors import RecordsMissing, RegistrationRefused, ServerUnavailable
from scheduling.node_daemon.feed_reader import Listener
from scheduling.node_daemon.feed_time import FeedTime
from scheduling.node_daemon.recorded_feed import RecordedFeedReader
from scheduling.wire.messages import FeedAnswer, FeedRequest

RING, PAGE = 20, 10


def record(seq: int, *, released: int = 0, symbol: str = "") -> Event:
    if seq % 7 == 0:
        return Tick(seq, "", seq, released or seq)
    name = symbol or ("KO" if seq % 2 else "GE")
    return make_bar(seq, name, seq, released or seq, (seq, seq, seq, seq), 1)


class Gateway:
    """Answers as the real one; `head` is set by the test."""

    def __init__(self, head: int = 0) -> None:
        self.head, self.first_seq = head, 1
        self.error: Exception | None = None
        self.released_at = 0  #: of every record; 0: its seq
        self.asked: list[FeedRequest] = []
        self.lacks: set[int] = set()

    async def feed(self, request: FeedRequest) -> FeedAnswer:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        if request.after > self.head:
            return FeedAnswer(head=self.head, first_seq=self.first_seq, changed=True)
        if request.after < 0 or request.after + 1 < self.first_seq:
            return FeedAnswer(head=self.head, first_seq=self.first_seq)
        last = min(self.head, request.after + request.limit)
        events = [
            encode_event(record(seq, released=self.released_at))
            for seq in range(request.after + 1, last + 1)
            if seq not in self.lacks
        ]
        return FeedAnswer(head=self.head, first_seq=self.first_seq, events=events)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    monkeypatch.setattr(recorded_feed, "RING", RING)
    monkeypatch.setattr(recorded_feed, "PAGE", PAGE)
    monkeypatch.setattr(recorded_feed, "PAGES", 2)
    return Gateway(head=100)


async def following(gateway: Gateway, to: int) -> RecordedFeedReader:
    """Return a reader that began at the gateway's head and has followed up to `to`."""
    client = cast("ControlPlaneClient", gateway)
    reader = RecordedFeedReader("fx", client, FeedTime(), "incarnation")
    await reader._follow_once()
    gateway.head = to
    while reader.head() < to:
        await reader._follow_once()
    return reader


async def read_all(reader: RecordedFeedReader, cursor: int, symbols: Any) -> list[int]:
    found: list[int] = []
    while cursor < reader.head():
        assert await reader.load(cursor)
        data, to_seq = reader.batch(cursor, symbols, reader.head(), 4, 7)
        assert cursor < to_seq <= cursor + 7
        found += [event.seq for event in decode_events(data)]
        cursor = to_seq
    return found


async def test_records_that_arrive_are_read_from_the_ring_without_a_request(
    gateway: Gateway,
) -> None:
    reader = await following(gateway, 115)
    asked = len(gateway.asked)
    assert await read_all(reader, 100, None) == list(range(101, 116))
    assert len(gateway.asked) == asked


@pytest.mark.parametrize("start", [0, 1, 9, 10, 11, 57, 94, 95, 96, 99])
async def test_a_portfolio_behind_the_ring_reads_every_record_once(
    gateway: Gateway, start: int
) -> None:
    assert await read_all(await following(gateway, 115), start, None) == list(range(start + 1, 116))


async def test_a_portfolio_gets_events_of_its_symbols_and_events_without_a_symbol(
    gateway: Gateway,
) -> None:
    reader = await following(gateway, 115)
    wanted = [seq for seq in range(1, 116) if seq % 7 == 0 or seq % 2]
    assert await read_all(reader, 0, frozenset({"KO"})) == wanted
    history = await reader.history(frozenset({"KO"}), 60, 9)
    bars = [seq for seq in wanted if seq % 7]  # ticks would take the place of what it warms up with
    assert [event.seq for event in history] == [seq for seq in bars if seq <= 60][-9:]


@pytest.mark.parametrize("first_seq", [1, 60])
async def test_warm_up_of_a_node_and_of_a_verification_search_the_same_newest_records(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, first_seq: int
) -> None:
    for module in (recorded_feed, history):
        monkeypatch.setattr(module, "WARM_UP_SPAN", 35)
    gateway.first_seq = first_seq
    reader = await following(gateway, 115)
    gateway.asked.clear()
    found = await reader.history(frozenset({"KO"}), 90, 1_000)
    wanted = [seq for seq in range(max(56, first_seq), 91) if seq % 7 and seq % 2]
    assert [event.seq for event in found] == wanted
    assert len(gateway.asked) <= 5
    assert newest_events(Records(first_seq), frozenset({"KO"}), 90, 1_000) == found


class Records:
    """The same records as a verification reads them."""

    name, sha256, length = "fx", "", 1_000
    symbols: tuple[str, ...] = ("GE", "KO")

    def __init__(self, first_seq: int) -> None:
        self.first_seq = first_seq

    def read(self, from_seq: int, limit: int, segments: Any = ()) -> list[Event]:
        return [record(seq) for seq in range(from_seq, from_seq + limit)]

    def read_for(
        self, symbols: Any, from_seq: int, to_seq: int, segments: Any = (), limit: Any = None
    ) -> list[Event]:
        assert from_seq >= self.first_seq
        events = self.read(from_seq, to_seq - from_seq + 1)
        return [event for event in events if event.symbol in symbols or not event.symbol]


async def test_records_and_pages_kept_by_a_feed_reader_are_bounded(gateway: Gateway) -> None:
    reader = await following(gateway, 160)
    await read_all(reader, 0, None)
    assert len(reader._records) == RING
    assert len(reader._pages) == 2


async def test_stale_head_is_the_last_record_older_than_the_given_age(gateway: Gateway) -> None:
    now = FeedTime().at(boottime_us())
    gateway.released_at = now - 3_000_000
    reader = await following(gateway, 105)
    gateway.released_at = now
    gateway.head = 110
    await reader._follow_once()
    assert reader.stale_head(100, 2_000_000) == 105
    assert reader.stale_head(100, 60_000_000) == 100
    assert 2.9 < reader.age_s(101) < 60


@pytest.mark.parametrize(
    "error", [ServerUnavailable("away"), RegistrationRefused("unknown")], ids=["away", "token"]
)
async def test_records_are_read_as_soon_as_the_gateway_answers_again(
    gateway: Gateway, error: Exception
) -> None:
    reader = await following(gateway, 101)
    gateway.error = error
    assert not await reader.load(10)
    history = asyncio.create_task(reader.history(None, 50, 2))
    await asyncio.sleep(0)
    gateway.error = None
    assert await reader.load(10)
    assert [event.seq for event in await history] == [48, 50]


async def test_reading_a_dropped_record_raises_an_error_that_names_the_first_kept(
    gateway: Gateway,
) -> None:
    gateway.first_seq = 35
    reader = await following(gateway, 101)
    with pytest.raises(RecordsMissing, match="keeps its records from seq 35 on, and seq 11 is"):
        await reader.load(10)
    assert await read_all(reader, 34, None) == list(range(35, 102))
    assert [e.seq for e in await reader.history(None, 40, 50)] == list(range(36, 41))


async def test_gateway_that_goes_away_within_a_page_of_dropped_records_is_asked_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.first_seq = 35
    reader = await following(gateway, 101)
    ask, answers = gateway.feed, [ServerUnavailable("away")]

    async def away_once(request: FeedRequest) -> FeedAnswer:
        if request.after == 34 and answers:
            raise answers.pop()
        return await ask(request)

    monkeypatch.setattr(gateway, "feed", away_once)
    assert not await reader.load(34)
    assert await reader.load(34)


async def test_node_forgets_records_beyond_a_head_that_went_back(gateway: Gateway) -> None:
    reader = await following(gateway, 110)
    woken: list[int] = []
    reader.listen(Listener(frozenset({"KO"}), lambda: woken.append(1)))
    gateway.head = 103
    await reader._follow_once()
    assert (reader.head(), woken) == (103, [1])
    gateway.head = 105
    await reader._follow_once()
    assert await read_all(reader, 102, None) == [103, 104, 105]


async def test_a_missing_record_is_reported_and_not_skipped(gateway: Gateway) -> None:
    reader = await following(gateway, 101)
    gateway.lacks = {44, 103}
    with pytest.raises(RecordsMissing, match="record 44 of feed fx is missing: the database has"):
        await reader.load(45)
    with pytest.raises(RecordsMissing, match="record 44"):
        await reader.history(None, 50, 9)
    gateway.head = 105
    with pytest.raises(RecordsMissing, match="record 103"):
        await reader._follow_once()
    assert reader.head() == 101
    gateway.lacks = set()
    assert await reader.load(45)
    await reader._follow_once()
    assert reader.head() == 105


async def test_reader_of_a_record_that_the_gateway_lacks_loads_nothing(gateway: Gateway) -> None:
    reader = await following(gateway, 101)
    gateway.lacks = set(range(1, 60))
    assert not await reader.load(10)


async def test_refused_results_make_the_node_read_every_record_again(gateway: Gateway) -> None:
    reader = await following(gateway, 110)
    assert await reader.load(10)
    before = reader.record_hash(105), reader.record_hash(11)
    gateway.released_at = 7  # others were stored under the same numbers
    reader.read_again()
    assert not await reader.load(101)  # the head is not known
    await reader._follow_once()
    assert await reader.load(101) and await reader.load(10)
    assert reader.record_hash(105) != before[0]
    assert reader.record_hash(11) != before[1]


async def test_page_that_arrives_after_the_reader_was_told_to_read_anew_is_not_kept(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await following(gateway, 110)
    feed = gateway.feed

    async def late(request: FeedRequest) -> FeedAnswer:
        answer = await feed(request)
        reader.read_again()
        return answer

    monkeypatch.setattr(gateway, "feed", late)
    assert not await reader.load(10)
    assert not reader._pages


async def test_listeners_are_woken_for_records_of_their_symbols_and_of_none(
    gateway: Gateway,
) -> None:
    reader = await following(gateway, 101)
    woken: list[str] = []
    for name in ("KO", "GE"):
        reader.listen(Listener(frozenset({name}), lambda name=name: woken.append(name)))  # type: ignore[misc]
    gateway.head = 102
    await reader._follow_once()
    assert woken == ["GE"]
    gateway.head = 105  # 105 is a tick
    await reader._follow_once()
    assert sorted(woken) == ["GE", "GE", "KO"]
