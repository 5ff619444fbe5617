"""A feed in JetStream, recorded from a file and traded by a node, while servers are killed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from nats.js import JetStreamContext
from nats.js.errors import APIError

from chaos.harness.installation import SLOW_MACHINE_S
from chaos.harness.nats_server import NatsServer
from ginkgo_site.env import CHECKOUT
from portfolios.feeds.log import HeadMoved, LogUnavailable, SourceId
from portfolios.models import FeedDigest, FeedRecord, FeedRow, FeedWriter, Instrument, Portfolio
from portfolios.runtime.state import decode_state
from scheduling import tasks
from scheduling.db.transaction import execute
from scheduling.enact.feed_records import drop_records
from scheduling.errors import Invalid, Refused
from scheduling.models import Node, Run
from scheduling.operations.feed_checks import Checked, check_feed
from scheduling.operations.feed_imports import ImportPlan, import_csv
from scheduling.operations.feed_recorders import RecordingPlan, record, release_feed
from scheduling.operations.feeds import NewInstrument, append_rows, create_feed, remove_feed
from scheduling.operations.portfolios import NewPortfolio, create_portfolio
from scheduling.permissions import Role
from scheduling.recorded_feeds.jetstream import stream
from scheduling.recorded_feeds.jetstream.block import Block
from scheduling.recorded_feeds.jetstream.jetstream_log import JetStreamLog
from scheduling.recorded_feeds.jetstream.mirrored_log import MirroredLog, database_over
from scheduling.recorded_feeds.jetstream.stream import Stream, connected
from scheduling.recorded_feeds.reads import newest_events
from scheduling.recorded_feeds.recorder import Recorder
from scheduling.recorded_feeds.recorder_session import RecorderSession
from scheduling.recorded_feeds.sources.base import FileLayout
from scheduling.recorded_feeds.sources.files import FileSource
from scheduling.recorded_feeds.stream_appends import MayBeStored
from scheduling.verification.verify import verify_portfolio
from tests.integration.feeds.log_conformance import euros
from tests.integration.feeds.test_recorded_feed_traded import last_seq, running_node, until
from tests.integration.feeds.test_recorder import HEADER, add
from tests.support.api_client import make_api_client
from tests.support.commands import said
from tests.support.factories import tick
from tests.support.web_process import running_web_process, site_environment

pytestmark = pytest.mark.django_db(transaction=True)

EUR = [NewInstrument("EURUSD", Decimal("0.00001"))]


def lines(after: int, count: int) -> str:
    return "".join(
        f"2026-11-02T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z,EURUSD,1.{n:05},1\n"
        for n in range(after + 1, after + count + 1)
    )


@pytest.fixture
def server(tmp_path: Path, settings: Any, transactional_db: None) -> Iterator[NatsServer]:
    one = NatsServer(tmp_path / "nats")
    one.start()
    settings.GINKGO = replace(settings.GINKGO, nats_url=one.url)
    create_feed("fx", EUR, in_stream=True, actor="test")
    yield one
    one.kill()


@contextmanager
def recording(server: NatsServer, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (path.parent / "recorder.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "feed", "record", "fx", "--file", str(path)],
            cwd=CHECKOUT,
            env=site_environment(GINKGO_NATS_URL=server.url),
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        sys.stderr.write((path.parent / "recorder.log").read_text())


@asynccontextmanager
async def open_log(server: NatsServer) -> AsyncIterator[MirroredLog]:
    """Yield the log of feed fx, as a recorder opens it."""
    feed = await FeedRow.objects.aget(name="fx")
    session = RecorderSession("fx", feed.pk)
    async with connected(server.url, is_lasting=True) as client:
        yield MirroredLog(Stream(client, "fx"), database_over("fx", session.connect))
    await session.close()


async def record_to(seq: int, path: Path, server: NatsServer) -> int:
    """Record a file in this process up to `seq`; return how many rows were recorded."""
    async with open_log(server) as log:
        recorder = Recorder(log, FileSource(path, FileLayout()), "test")
        running = asyncio.create_task(recorder.run())
        async with asyncio.timeout(SLOW_MACHINE_S):
            while log.newest[1].to_seq < seq:
                assert not running.done(), running
                await asyncio.sleep(0.01)
        recorder.end()
        done = await running
    return done.rows


def head() -> int:
    return int(FeedWriter.objects.values_list("head", flat=True).get())


def test_records_are_traded_while_server_and_recorder_are_killed_and_verify(
    server: NatsServer, tmp_path: Path
) -> None:
    path = tmp_path / "fx.csv"
    path.write_text(HEADER + lines(0, 9_990))
    with (
        running_web_process(tmp_path, GINKGO_HTTPS="no", GINKGO_NATS_URL=server.url) as address,
        running_node(tmp_path, address),
    ):
        with recording(server, path):
            until(lambda: Node.objects.filter(name="node-1", status="alive").exists())
            given = NewPortfolio("fx-canary", "canary", symbols=[], feed="fx")
            create_portfolio(given, actor="test")
            begun = int(Portfolio.objects.values_list("first_seq", flat=True).get()) - 1
            tick()
            until(lambda: Run.objects.filter(phase="running").count() == 1)
            until(lambda: head() == 9_990)
            add(path, lines(9_990, 5))
            until(lambda: last_seq("fx-canary") == 9_995)
            server.kill()
            add(path, lines(9_995, 20))
            server.start()
            until(lambda: last_seq("fx-canary") == 10_015)
        # The recorder was killed, and the next one goes on.
        add(path, lines(10_015, 5))
        assert asyncio.run(record_to(10_020, path, server)) == 5
        until(lambda: last_seq("fx-canary") == 10_020)
    assert FeedWriter.objects.values_list("writer", flat=True).get() == ""
    assert FeedRecord.objects.count() <= 60  # marks of seconds, not records
    assert FeedDigest.objects.filter(segment=1).exists()
    checked = check_feed("fx")
    assert (checked.problem, checked.records, checked.segments) == ("", 10_020, 1)
    verdict = verify_portfolio("fx-canary")
    assert verdict.identical, verdict.sentence
    digest = bytes(32)
    for seq in range(begun + 1, 10_021):
        digest = hashlib.sha256(digest + f"{seq} EURUSD 1.{seq:05}".encode()).digest()
    account = decode_state(bytes(Portfolio.objects.get(name="fx-canary").checkpoint.state))
    assert account.strategy.data["digest"] == digest
    _read_through_interfaces(server)


def _read_through_interfaces(server: NatsServer) -> None:
    viewer = make_api_client(Role.VIEWER, "vera")
    found = viewer.get("feed/?feed=fx&from=10001&limit=2").json()["results"]
    assert [one["close"] for one in found] == ["1.10001", "1.10002"]
    assert viewer.get("feeds/fx/").json()["in_stream"] is True
    assert [event.seq for event in newest_events("fx", 3)] == [10_020, 10_019, 10_018]
    server.kill()
    away = viewer.get("feed/?feed=fx&from=10001&limit=2")
    assert (away.status_code, away.json()["code"]) == (503, "feed_unavailable")
    with pytest.raises(Refused, match="The NATS server does not answer"):
        verify_portfolio("fx-canary", full=True)


def test_a_stream_that_lost_records_is_reported_and_nothing_is_recorded(
    server: NatsServer, tmp_path: Path
) -> None:
    FeedWriter.objects.update(head=7)
    path = tmp_path / "fx.csv"
    path.write_text(HEADER + lines(0, 1))
    with pytest.raises(Refused, match="ends at seq 0, and seq 7 was recorded: it lost records"):
        record(RecordingPlan("fx", files=str(path)), actor="test")
    assert head() == 7


async def test_records_past_their_retention_are_dropped_from_the_stream(server: NatsServer) -> None:
    feed = await FeedRow.objects.aget(name="fx")
    async with open_log(server) as log:
        epoch = await log.claim("test")
        began = time.monotonic()
        for at in range(0, 50, 5):
            await log.append(epoch, at, euros(at, 5))
        await _followed(50)
        marks = [record.seq async for record in FeedRecord.objects.order_by("seq")]
        assert 1 <= len(marks) <= 2 + time.monotonic() - began  # one a second
        assert await sync_to_async(execute)(drop_records(feed.pk, 23)) is not None
        await log.append(epoch, 50, euros(50, 1))
        await _followed(51)
        assert await sync_to_async(tasks.heartbeat_sweep)() == "lost: none"
        assert await log.first() == 21  # the message that has 23 stays
        await log.release(epoch)
    assert await FeedWriter.objects.values_list("first_seq", "head").aget() == (23, 51)


async def test_the_next_recorder_continues_from_what_a_killed_one_stored(
    server: NatsServer,
) -> None:
    async with open_log(server) as log:
        killed = JetStreamLog(log.stream)  # the database has heard nothing of it
        epoch = await killed.claim("killed")
        for at in range(0, 16_000, 4_000):
            await killed.append(epoch, at, euros(at, 4_000))
        await log.release(await log.claim("next"))
        assert await killed.digest(1) == (await FeedDigest.objects.aget()).digest.hex()
    assert await FeedWriter.objects.values_list("head", "epoch").aget() == (16_000, 3)
    assert (await Instrument.objects.aget()).last_us == 16_000 * 60_000_000
    assert await sync_to_async(check_feed)("fx") == Checked(records=16_000, segments=1)


async def _followed(seq: int) -> None:
    async with asyncio.timeout(SLOW_MACHINE_S):
        while (await FeedWriter.objects.aget()).head < seq:
            await asyncio.sleep(0.01)


def test_records_of_a_killed_recorder_are_released_by_the_worker_and_its_feed_can_be_freed(
    server: NatsServer,
) -> None:

    async def be_killed() -> None:
        async with connected(server.url) as client:
            killed = JetStreamLog(Stream(client, "fx"))  # the database has heard nothing of it
            await killed.append(await killed.claim("recorder-1"), 0, euros(0, 5))

    asyncio.run(be_killed())
    assert head() == 0
    assert tasks.heartbeat_sweep() == "lost: none"
    assert head() == 5
    with pytest.raises(Refused, match=r"recorded by recorder-1 \(epoch 1\) and takes"):
        append_rows("fx", [row(6)])
    release_feed("fx", actor="test")
    with pytest.raises(Refused, match="no recorder writes it"):
        release_feed("fx", actor="test")
    assert append_rows("fx", [row(6)]).to_seq == 6
    assert check_feed("fx") == Checked(records=6)


def row(minute: int) -> dict[str, Any]:
    at = f"2026-11-02T10:{minute:02}:00Z"
    prices = dict.fromkeys(("open", "high", "low", "close"), "1.10000")
    return {"symbol": "EURUSD", "time": at, **prices, "volume": 1}


def test_an_append_without_a_server_or_stream_is_refused_and_its_repeat_is_stored_once(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = SourceId("ib", 1), SourceId("ib", 2)
    assert append_rows("fx", [row(1)], first).to_seq == 1
    server.kill()
    with pytest.raises(Refused, match=r"does not answer .* Nothing was appended") as before:
        append_rows("fx", [row(2)], second)
    assert not isinstance(before.value, MayBeStored)
    server.start()
    publish = Stream.publish

    async def and_then_killed(stream: Stream, block: Block, last: int) -> tuple[int, Block]:
        await publish(stream, block, last)
        server.kill()
        raise LogUnavailable("The NATS server does not answer.")

    monkeypatch.setattr(Stream, "publish", and_then_killed)
    unknown = "Whether the append was stored is not known: repeat"
    with pytest.raises(MayBeStored, match=unknown) as lost:
        append_rows("fx", [row(2)], second)
    assert lost.value.status == 503
    monkeypatch.undo()
    server.start()
    assert head() == 1
    # A row of the same time is refused, though the database has not heard of the first.
    with pytest.raises(Invalid, match="already has a record at"):
        append_rows("fx", [row(2)])
    again = append_rows("fx", [row(2)], second)
    assert (again.from_seq, again.to_seq, again.repeated) == (2, 2, True)
    assert head() == 2
    assert check_feed("fx") == Checked(records=2)
    asyncio.run(_delete(server))
    with pytest.raises(Refused, match="has no stream GINKGO_FEED_fx, in which feed fx is kept"):
        append_rows("fx", [row(3)])
    assert tasks.heartbeat_sweep() == "lost: none; feeds not followed: fx"


def test_an_idempotency_key_may_act_again_after_an_append_that_stored_nothing(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = make_api_client(Role.OPERATOR, "olga")

    def send(key: str, minute: int, **source: Any) -> int:
        body = json.dumps({"rows": [row(minute)], **source}).encode()
        headers = {"Idempotency-Key": key}
        path = "feeds/fx/append/"
        return int(operator.raw("POST", path, body, "application/json", headers).status_code)

    server.kill()
    assert send("plain", 1) == send("numbered", 2, source="ib", number=1) == 503
    server.start()
    for _ in range(2):
        assert send("plain", 1) == send("numbered", 2, source="ib", number=1) == 200
    assert head() == 2

    async def overtaken(*_: Any) -> Any:
        server.kill()
        raise HeadMoved("another append came first")

    monkeypatch.setattr(MirroredLog, "append", overtaken)
    assert send("overtaken", 3) == 503
    monkeypatch.undo()
    server.start()
    assert send("overtaken", 3) == 200

    async def and_then_killed(log: MirroredLog, *given: Any) -> Any:
        await JetStreamLog.append(log, *given)
        raise LogUnavailable("The NATS server does not answer.")

    monkeypatch.setattr(MirroredLog, "append", and_then_killed)
    assert send("lost", 4) == 503
    monkeypatch.undo()
    assert send("lost", 4) == 409  # it may be stored
    append_rows("fx", [row(5)])
    assert head() == 5


async def _delete(server: NatsServer) -> None:
    async with connected(server.url) as client:
        await client.jetstream().delete_stream("GINKGO_FEED_fx")


def test_a_large_import_is_stored_whole_though_a_server_is_killed_and_is_dropped_whole(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEADERS_ROOM", 1024 * 1024 - 30_000)  # pieces of 30 KB
    path = tmp_path / "fx.csv"
    path.write_text(HEADER + lines(0, 2_000))
    plan = ImportPlan("fx", str(path))
    append_rows("fx", [row(1) | {"time": "2026-11-01T00:00:00Z"}])
    publish = Stream._publish_after

    async def killed_before(one: Stream, body: bytes, last: int) -> int:
        server.kill()
        return await publish(one, body, last)

    with monkeypatch.context() as killed:
        killed.setattr(stream, "ANSWER_S", 0.5)
        killed.setattr(Stream, "_publish_after", killed_before)
        with pytest.raises(Refused, match="does not answer"):
            import_csv(plan, actor="test")
    server.start()
    assert (head(), asyncio.run(_pieces(server))) == (1, 3)
    monkeypatch.setattr(stream, "ORPHANED_AFTER", timedelta())
    done = import_csv(plan, actor="test")
    assert (done.rows, done.from_seq, done.to_seq, head()) == (2_000, 2, 2_001, 2_001)
    assert asyncio.run(_pieces(server)) == 3  # those of the killed one are gone
    assert check_feed("fx") == Checked(records=2_001)
    assert [event.time for event in newest_events("fx", 2)] == [
        1_793_577_600_000_000 + second * 1_000_000 for second in (2_000, 1_999)
    ]
    append_rows("fx", [row(59)])
    with pytest.raises(Invalid, match=r"already has a record|is earlier than"):
        import_csv(plan, actor="test")
    FeedWriter.objects.update(first_seq=2_002)
    purge = JetStreamContext.purge_stream

    async def but_no_pieces(js: JetStreamContext, name: str, **options: Any) -> bool:
        if name.endswith("_pieces"):
            raise APIError(code=503, description="busy")
        return await purge(js, name, **options)

    monkeypatch.setattr(JetStreamContext, "purge_stream", but_no_pieces)
    assert tasks.heartbeat_sweep() == "lost: none; feeds not followed: fx"
    assert asyncio.run(_pieces(server)) == 3
    monkeypatch.setattr(JetStreamContext, "purge_stream", purge)
    assert tasks.heartbeat_sweep() == "lost: none"
    assert asyncio.run(_pieces(server)) == 0
    assert [event.seq for event in newest_events("fx", 5)] == [2_002]


async def _pieces(server: NatsServer) -> int:
    async with connected(server.url) as client:
        info = await client.jetstream().stream_info("GINKGO_FEED_fx_pieces")
        return int(info.state.messages)


def test_a_feed_is_neither_created_nor_removed_without_its_server(
    server: NatsServer, settings: Any
) -> None:
    server.kill()
    with pytest.raises(Refused, match="The NATS server does not answer"):
        create_feed("other", EUR, in_stream=True, actor="test")
    with pytest.raises(Refused, match="The NATS server does not answer"):
        remove_feed("fx", actor="test")
    assert FeedWriter.objects.count() == 1
    server.start()
    remove_feed("fx", actor="test")
    create_feed("fx", EUR, in_stream=True, actor="test")
    settings.GINKGO = replace(settings.GINKGO, nats_url=None)
    with pytest.raises(Refused, match="GINKGO_NATS_URL is not set"):
        create_feed("third", EUR, in_stream=True, actor="test")
    line = "fx: recorded, head 0, 0/s, 1 instrument, 0 portfolios, in JetStream"
    assert line in said("feed", "list")
