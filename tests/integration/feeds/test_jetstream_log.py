"""Recorded feeds in JetStream: the conformance suite with a real server, which is killed too."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from asgiref.sync import sync_to_async
from msgspec.structs import replace as replace_block
from nats.aio.client import Client

from chaos.harness.installation import SLOW_MACHINE_S
from chaos.harness.nats_server import NatsServer
from ginkgo_site.env import CHECKOUT
from portfolios.feeds.log import (
    CHAIN_START,
    HeadMoved,
    LogUnavailable,
    RecordedLog,
    SourceId,
    next_link,
)
from portfolios.models import FeedRow, FeedWriter
from portfolios.runtime.events import decode_event, encode_event, join_events
from scheduling.db.transaction import Transaction
from scheduling.gateway.stream_reads import StreamReads
from scheduling.observe.feed_records import HeadRow
from scheduling.operations.feeds import NewInstrument, create_feed
from scheduling.recorded_feeds.jetstream import mirrored_log, stream
from scheduling.recorded_feeds.jetstream.block import Block
from scheduling.recorded_feeds.jetstream.jetstream_log import JetStreamLog, ReleasedAhead
from scheduling.recorded_feeds.jetstream.mirrored_log import MirroredLog, database_over
from scheduling.recorded_feeds.jetstream.stream import Stream, StreamMissing, WrongLast, connect
from scheduling.recorded_feeds.recorder_session import RecorderSession
from tests.integration.feeds.append_and_die import connect as connect_database
from tests.integration.feeds.log_conformance import *  # noqa: F403
from tests.integration.feeds.log_conformance import euros, read_all
from tests.support.web_process import failing_at, site_environment

pytestmark = pytest.mark.django_db(transaction=True)

T = TypeVar("T")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    one = NatsServer(tmp_path_factory.mktemp("nats"))
    one.start()
    yield one
    one.kill()


@pytest.fixture
async def client(server: NatsServer) -> AsyncIterator[Client]:
    one = await connect(server.url)
    yield one
    await one.close()


class JetStreamSubstrate:
    """Logs in streams of one server."""

    kill_points = ("before it is sent", "before it is answered", "feed_records.mirror:begin")

    def __init__(self, server: NatsServer, client: Client) -> None:
        self._server, self._client = server, client
        self.made: list[MirroredLog] = []

    async def make(self, name: str, symbols: Sequence[str]) -> MirroredLog:
        made = [NewInstrument(symbol, Decimal("0.00001")) for symbol in symbols]
        await sync_to_async(create_feed)(name, made, in_stream=True, actor="test")
        log = MirroredLog(Stream(self._client, name), database_over(name, connect_database))
        self.made.append(log)
        return log

    async def append_and_die(
        self, log: RecordedLog, point: str, epoch: int, expected: int, source: SourceId
    ) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.feeds.append_to_stream_and_die",
            self._server.url, point, log.name, str(epoch), str(expected), source.source,
            str(source.number), source.sha256,
            cwd=CHECKOUT,
            env=site_environment(**failing_at(*([f"{point}=exit"] if ":" in point else []))),
        )  # fmt: skip
        assert await process.wait() == -signal.SIGKILL, point


@pytest.fixture
async def substrate(
    server: NatsServer, client: Client, settings: Any
) -> AsyncIterator[JetStreamSubstrate]:
    settings.GINKGO = replace(settings.GINKGO, nats_url=server.url)
    one = JetStreamSubstrate(server, client)
    yield one
    for log in one.made:
        await log.close()


async def test_appends_while_the_server_is_killed_are_stored_once_and_in_order(
    server: NatsServer, substrate: JetStreamSubstrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await substrate.make("killed", ["EURUSD"])
    epoch, head, answered = await log.claim("writer"), 0, 0
    answer_s = stream.ANSWER_S
    monkeypatch.setattr(stream, "ANSWER_S", 0.5)

    async def kill() -> None:
        for _ in range(2):
            begun = answered
            while answered < begun + 20:
                await asyncio.sleep(0)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

    async def stored_head() -> int:
        while True:
            with suppress(LogUnavailable):  # killed again, or slow
                return (await log.head()).seq

    killing = asyncio.create_task(kill())
    refused = 0
    while not killing.done() or answered < 100:
        try:
            done = await log.append(epoch, head, euros(head, 100))
            assert (done.from_seq, done.to_seq) == (head + 1, head + 100)
            answered += 1
        except LogUnavailable:
            refused += 1
            continue
        except HeadMoved:  # as the recorder does: the answer of the last one was lost
            assert await stored_head() == head + 100
        head += 100
    await killing
    monkeypatch.setattr(stream, "ANSWER_S", answer_s)
    assert refused
    found = await read_all(log)
    assert [event.seq for event in found] == list(range(1, head + 1))
    assert [event.time for event in found] == [event.time for event in euros(0, head)]
    chain = CHAIN_START
    for event in found:
        chain = next_link(chain, encode_event(event))
    assert log.newest[1].chain == chain


async def test_a_log_whose_first_messages_were_dropped_is_read_and_appended_to(
    substrate: JetStreamSubstrate, client: Client
) -> None:
    log = await substrate.make("dropped", ["EURUSD"])
    epoch = await log.claim("writer")
    for head in range(0, 50, 5):
        await log.append(epoch, head, euros(head, 5))
    reader = JetStreamLog(Stream(client, "dropped"))
    await reader.stream.drop_before(23)
    assert await reader.first() == 21  # the message that has 23 stays
    assert [e.seq for e in await reader.read(23, 99, 4)] == [23, 24, 25, 26]
    # Another process, which has read less of the log, appends to it as well.
    assert (await reader.append(epoch, 50, euros(50, 1))).to_seq == 51
    assert (await log.append(epoch, 51, euros(51, 1))).to_seq == 52


async def test_records_are_released_by_the_clock_of_the_database(
    substrate: JetStreamSubstrate, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, host_ns = await substrate.make("clocks", ["EURUSD"]), time.time_ns
    epoch = await log.claim("writer")
    for head, hours in enumerate((1, -2)):  # the clock of the host is ahead, then behind
        monkeypatch.setattr(time, "time_ns", lambda h=hours: host_ns() + h * 3_600_000_000_000)
        await log.append(epoch, head, euros(head, 1))
        assert abs((await log.head()).released_us - host_ns() // 1_000) < 600_000_000
    monkeypatch.setattr(time, "time_ns", lambda: host_ns() + 3_600_000_000_000)
    await JetStreamLog(Stream(client, "clocks")).append(epoch, 2, euros(2, 1))
    ahead = r"clocks, seq 3, .* at most 60 s are allowed\. Correct"
    with pytest.raises(ReleasedAhead, match=ahead):
        await log.append(epoch, 3, euros(3, 1))
    assert (await log.head()).seq == 3
    await log.release(epoch)  # also then


async def test_a_writer_that_releases_its_feed_late_does_not_release_the_next_writer(
    substrate: JetStreamSubstrate, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await substrate.make("late", ["EURUSD"])
    epoch = await log.claim("first")
    following = JetStreamLog(Stream(client, "late"))
    publish = log.stream.publish

    async def after_the_next_claim(block: Block, last: int) -> tuple[int, Block]:
        monkeypatch.undo()
        await following.claim("second")
        return await publish(block, last)

    monkeypatch.setattr(log.stream, "publish", after_the_next_claim)
    await log.release(epoch)
    await following.refresh()
    assert (following.newest[1].writer, following.newest[1].epoch) == ("second", epoch + 1)
    await following.release(epoch)
    assert following.newest[1].writer == "second"


async def test_records_that_the_database_missed_are_released_in_parts_that_survive_an_outage(
    substrate: JetStreamSubstrate, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrored_log, "NOTED_AT_ONCE", 10)
    await substrate.make("missed", ["EURUSD"])
    killed = JetStreamLog(Stream(client, "missed"))
    epoch = await killed.claim("killed")
    for head in range(95):
        await killed.append(epoch, head, euros(head, 1))
    database, asked = database_over("missed", connect_database), 0

    async def away_soon(steps: Transaction[T]) -> T:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise LogUnavailable("The database does not answer.")
        return await database(steps)

    log = MirroredLog(Stream(client, "missed"), away_soon)
    with pytest.raises(LogUnavailable):
        await log.begin()
    assert (await FeedWriter.objects.aget(feed__name="missed")).head == 20  # two pieces
    read: list[int] = []
    block = Stream.block

    async def counted(one: Stream, number: int) -> Block:
        read.append(number)
        return await block(one, number)

    monkeypatch.setattr(Stream, "block", counted)
    log = MirroredLog(Stream(client, "missed"), away_soon)
    await log.begin()
    assert len(read) < 90  # 75 new ones, and some to find the first of them
    await log.follow_now()
    assert (await FeedWriter.objects.aget(feed__name="missed")).head == 95


async def test_statement_refused_by_a_read_only_database_is_repeated_over_a_new_connection(
    substrate: JetStreamSubstrate, client: Client
) -> None:
    await substrate.make("standby", ["EURUSD"])
    feed = await FeedRow.objects.aget(name="standby")
    session = RecorderSession("standby", feed.pk)
    log = MirroredLog(Stream(client, "standby"), database_over("standby", session.connect))
    epoch = await log.claim("writer")
    async with session.connect() as connection:
        await connection.execute("SET default_transaction_read_only = on")
    await log.append(epoch, 0, euros(0, 1))
    await log.release(epoch)  # waits for the row to follow
    await session.close()
    assert await FeedWriter.objects.values_list("head", "writer").aget(feed=feed) == (1, "")


async def test_cached_records_are_dropped_when_the_server_may_have_been_restored(
    server: NatsServer, substrate: JetStreamSubstrate, client: Client
) -> None:
    log = await substrate.make("restored", ["EURUSD"])
    await log.append(await log.claim("writer"), 0, euros(0, 3))
    reader = Stream(client, "restored")
    assert [decode_event(event).time for _, _, event in await reader.read(1, 3, 3)] == [
        event.time for event in euros(0, 3)
    ]
    gateway, head = StreamReads(), HeadRow(1, "restored", 3, 0, 1, True)
    old = await gateway.read(1, head, 2, 2)
    again = Stream(client, "restored")
    await again.delete()
    await again.create()
    other = JetStreamLog(again)
    await other.append(await other.claim("writer"), 0, euros(7, 3))
    assert await gateway.read(1, head, 2, 2) == old  # kept, while the head does not go back
    (row,) = await gateway.read(1, head._replace(seq=2), 2, 2)
    assert decode_event(row.event).time == euros(7, 3)[1].time
    await gateway.close()
    reconnects = client.stats["reconnects"]
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(SLOW_MACHINE_S):
        while client.stats["reconnects"] == reconnects:
            await asyncio.sleep(0.01)
    assert [decode_event(event).time for _, _, event in await reader.read(1, 3, 3)] == [
        event.time for event in euros(7, 3)
    ]


async def test_message_parts_of_an_accepted_append_survive_a_rejected_late_append(
    substrate: JetStreamSubstrate, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEADERS_ROOM", 1024 * 1024 - 30_000)  # pieces of 30 KB
    monkeypatch.setattr(stream, "ORPHANED_AFTER", timedelta())
    late = await substrate.make("pieces", ["EURUSD"])
    epoch = await late.claim("writer")
    number, known = late.newest
    await JetStreamLog(Stream(client, "pieces")).append(epoch, 0, euros(0, 1_000))
    events = join_events([encode_event(one) for one in euros(0, 1_000)])
    block = replace_block(known, from_seq=1, to_seq=1_000, events=events)
    with pytest.raises(WrongLast):
        await late.stream.publish(block, number)
    assert len(await read_all(JetStreamLog(Stream(client, "pieces")))) == 1_000


async def test_failures_of_the_server_are_reported_in_a_sentence(
    substrate: JetStreamSubstrate, client: Client
) -> None:
    with pytest.raises(StreamMissing, match="has no stream GINKGO_FEED_none, in which feed none"):
        await JetStreamLog(Stream(client, "none")).head()
    log = await substrate.make("full", ["EURUSD"])
    epoch = await log.claim("writer")
    with pytest.raises(StreamMissing, match="has a stream GINKGO_FEED_full already"):
        await Stream(client, "full").create()
    info = await client.jetstream().stream_info("GINKGO_FEED_full")
    info.config.max_bytes = 2_000
    await client.jetstream().update_stream(info.config)
    with pytest.raises(LogUnavailable, match="nothing of feed full now: maximum bytes"):
        await log.append(epoch, 0, euros(0, 500))
    assert (await log.head()).seq == 0
    await client.jetstream().publish("ginkgo.feed.full", b"\xff")
    with pytest.raises(StreamMissing, match="not written by Ginkgo, or is damaged: restore"):
        await log.head()


async def test_an_unreachable_server_is_reported_without_its_password() -> None:
    with pytest.raises(LogUnavailable, match="does not answer") as away:
        await connect("nats://user:password@127.0.0.1:1", is_lasting=False)
    assert "password" not in str(away.value)
