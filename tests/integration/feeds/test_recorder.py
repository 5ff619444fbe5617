"""Recorders store each row of their source once, whichever process or session is killed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError
from django.db import connection

from chaos.harness.installation import SLOW_MACHINE_S
from ginkgo_site.env import CHECKOUT
from portfolios.feeds.log import WriterReplaced
from portfolios.models import FeedRow, FeedWriter
from portfolios.runtime.events import Event, Tick
from scheduling.errors import Refused
from scheduling.models import Event as AuditLine
from scheduling.operations import feed_imports
from scheduling.operations.feed_checks import check_feed
from scheduling.operations.feed_recorders import RecordingPlan, record, release_feed
from scheduling.operations.feeds import NewInstrument, add_instruments, append_rows, create_feed
from scheduling.recorded_feeds import recorder_session
from scheduling.recorded_feeds.postgres_log import PostgresLog
from scheduling.recorded_feeds.recorder import Recorded, Recorder, RowRefused
from scheduling.recorded_feeds.recorder_session import RecorderSession
from scheduling.recorded_feeds.sources.base import FileLayout, Item
from scheduling.recorded_feeds.sources.files import FileSource
from tests.support.commands import said
from tests.support.web_process import database_url, failing_at, site_environment

pytestmark = pytest.mark.django_db(transaction=True)

HEADER = "time,symbol,price,quantity\n"


def lines(*minutes: int, symbol: str = "EURUSD") -> str:
    return "".join(
        f"2026-11-02T{10 + minute // 60}:{minute % 60:02}:00Z,{symbol},1.{minute:05},1\n"
        for minute in minutes
    )


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


@pytest.fixture
def fx(tmp_path: Path) -> Path:
    """Return an empty file for a feed fx."""
    create_feed("fx", [NewInstrument("EURUSD", Decimal("0.00001"))], actor="test")
    path = tmp_path / "fx.csv"
    path.write_text(HEADER)
    return path


def test_an_import_is_checked_outside_of_a_transaction_and_again_after_another_append(
    fx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(fx, lines(1, 3))
    checked, within = feed_imports._checked, []

    def beside_an_append(*given: Any) -> Any:
        within.append(connection.in_atomic_block)
        if len(within) == 1:
            at = "2026-11-02T10:02:00Z"
            append_rows("fx", [{"symbol": "EURUSD", "time": at, "price": 1, "quantity": 1}])
        return checked(*given)

    monkeypatch.setattr(feed_imports, "_checked", beside_an_append)
    done = feed_imports.import_csv(feed_imports.ImportPlan("fx", str(fx), skip_bad=True), actor="t")
    assert within == [False, False]
    assert (done.rows, done.from_seq, [one.row for one in done.skipped]) == (1, 2, [2])


class Running:
    def __init__(self, path: Path, **options: Any) -> None:
        self.session = RecorderSession("fx", FeedRow.objects.get(name="fx").pk)
        self.log = PostgresLog("fx", self.session.connect)
        self.recorder = Recorder(
            self.log, FileSource(path, FileLayout()), options.pop("writer", "test"), **options
        )
        self.task: asyncio.Task[Recorded] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.recorder.run())

    async def has(self, seq: int) -> list[Event]:
        """Return the records once the head is `seq`."""
        reader = RecorderSession("fx", 0, take_over=True)
        log = PostgresLog("fx", reader.connect)
        try:
            async with asyncio.timeout(SLOW_MACHINE_S):
                while (await log.head()).seq < seq:
                    assert self.task is None or not self.task.done(), self.task
                    await asyncio.sleep(0.01)
            return await log.read(1, 1_000_000, 1_000_000)
        finally:
            await reader.close()

    async def end(self) -> Recorded:
        assert self.task is not None
        self.recorder.end()
        async with asyncio.timeout(SLOW_MACHINE_S):
            return await self.task


@asynccontextmanager
async def running(path: Path, **options: Any) -> AsyncIterator[Running]:
    one = await sync_to_async(Running)(path, **options)
    one.start()
    try:
        yield one
    finally:
        if one.task is not None:
            one.task.cancel()
            await asyncio.gather(one.task, return_exceptions=True)
        await one.session.close()


def prices(events: list[Event]) -> list[int]:
    return [event.close_units - 100_000 for event in events if event.has_price]


async def test_recorder_stores_rows_as_they_arrive_and_releases_its_feed_when_ended(
    fx: Path,
) -> None:
    add(fx, lines(1, 2))
    async with running(fx) as one:
        await one.has(2)
        row = {"symbol": "EURUSD", "time": "2026-11-02T12:00Z", "price": 1, "quantity": 1}
        with pytest.raises(Refused, match="is recorded by test"):
            await sync_to_async(append_rows)("fx", [row])
        add(fx, lines(3))
        assert prices(await one.has(3)) == [1, 2, 3]
        done = await one.end()
    assert (done.rows, done.left_out, done.head) == (3, 0, 3)
    assert (await FeedWriter.objects.aget()).writer == ""
    assert (await sync_to_async(append_rows)("fx", [row])).to_seq == 4


async def test_a_wrong_row_ends_the_recorder_after_earlier_rows_are_stored_until_it_is_corrected(
    fx: Path,
) -> None:
    wrong = lines(3).replace("1.00003", "1.000031")
    add(fx, lines(1, 2) + wrong + lines(4))
    async with running(fx) as one:
        assert one.task is not None
        off_tick = r"fx.csv, line 4: EURUSD: price 1.000031 is not a multi"
        with pytest.raises(RowRefused, match=off_tick):
            await one.task
    fx.write_text(HEADER + lines(1, 2, 3, 4))
    async with running(fx) as two:
        assert prices(await two.has(4)) == [1, 2, 3, 4]


async def test_wrong_row_preceded_by_ticks_only_ends_the_recorder_with_an_error_about_that_row(
    fx: Path,
) -> None:
    one = await sync_to_async(Running)(fx)
    one.recorder._waiting += [None, Item("nonsense", "fx.csv, line 2", None)]
    one.start()
    assert one.task is not None
    with pytest.raises(RowRefused, match=r"fx\.csv, line 2: "):
        await one.task
    await one.session.close()
    assert (await FeedWriter.objects.aget()).head == 1  # the tick


async def test_recorder_with_skip_bad_leaves_out_wrong_rows(
    fx: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(fx, lines(1) + "nonsense\n" + lines(0, 2) + lines(3, symbol="GBPUSD") + lines(4))
    async with running(fx, skip_bad=True) as one:
        assert prices(await one.has(3)) == [1, 2, 4]
        assert (await one.end()).left_out == 3
    assert "left out fx.csv, line 4: EURUSD at 2026-11-02T10:00:00Z is earlier than" in caplog.text


async def test_a_symbol_that_is_added_later_is_recorded(fx: Path) -> None:
    async with running(fx) as one:
        add(fx, lines(1))
        await one.has(1)
        added = [NewInstrument("GBPUSD", Decimal("0.00001"))]
        await sync_to_async(add_instruments)("fx", added, actor="test")
        add(fx, lines(2, symbol="GBPUSD"))
        assert (await one.has(2))[-1].symbol == "GBPUSD"


async def test_ticks_are_recorded_while_no_row_arrives(fx: Path) -> None:
    async with running(fx, tick_s=0.1) as one:
        assert {type(event) for event in await one.has(2)} == {Tick}


async def test_a_second_recorder_is_refused_and_one_that_takes_over_ends_the_first(
    fx: Path,
) -> None:
    add(fx, lines(1))
    async with running(fx) as one:
        await one.has(1)
        async with running(fx, writer="second") as two:
            assert two.task is not None
            with pytest.raises(WriterReplaced, match="Another recorder of feed fx is running"):
                await asyncio.wait_for(two.task, SLOW_MACHINE_S)
        two = await sync_to_async(Running)(fx, writer="third")
        two.session._take_over = True
        two.start()
        assert two.task is not None
        await two.has(1)
        async with asyncio.timeout(SLOW_MACHINE_S):
            while (await FeedWriter.objects.aget()).writer != "third":
                await asyncio.sleep(0.01)
        add(fx, lines(2))
        assert one.task is not None
        with pytest.raises(WriterReplaced, match="Feed fx has been recorded by third"):
            await one.task
        assert prices(await two.has(2)) == [1, 2]
        assert (await two.end()).rows == 1
        await two.session.close()


def _terminate_others() -> None:
    with psycopg.connect(database_url(), autocommit=True) as session:
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE"
            " '%portfolios_feedwriter%' AND pid <> pg_backend_pid()"
            " AND datname = current_database()"
        )


async def test_the_session_of_a_frozen_recorder_ends_and_that_of_a_quiet_one_does_not(
    fx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_work() -> Any:
        with psycopg.connect(database_url()) as session:
            return session.execute(
                "SELECT max(state_change) FROM pg_stat_activity WHERE pid = %s", (pid,)
            ).fetchone()

    quiet, second = RecorderSession("fx", 1), RecorderSession("fx", 1)
    async with quiet.connect() as held:
        pid = held.info.backend_pid
    before = await asyncio.to_thread(at_work)
    monkeypatch.setattr(recorder_session, "KEEP_ALIVE_EVERY_S", 0.01)
    staying = asyncio.create_task(quiet.keep_alive())
    async with asyncio.timeout(SLOW_MACHINE_S):
        while await asyncio.to_thread(at_work) == before:
            await asyncio.sleep(0.01)
    with pytest.raises(WriterReplaced):
        async with second.connect():
            pass
    staying.cancel()
    await quiet.close()
    frozen = RecorderSession("fx", 1)
    with monkeypatch.context() as patched:
        patched.setattr(recorder_session, "IDLE_S", 0.1)
        async with frozen.connect():  # and no word from then on
            pass
    async with asyncio.timeout(SLOW_MACHINE_S):
        while second._connection is None:
            with suppress(WriterReplaced):
                async with second.connect():
                    pass
    await second.close()
    await frozen.close()


async def test_no_row_is_lost_or_doubled_while_the_sessions_of_the_recorder_are_terminated(
    fx: Path,
) -> None:
    async with running(fx) as one:
        for begin in range(1, 600, 20):
            add(fx, lines(*range(begin, begin + 20)))
            await asyncio.sleep(0.005)
            if begin % 100 == 1:
                await asyncio.to_thread(_terminate_others)
        found = await one.has(600)
    assert prices(found) == list(range(1, 601))
    assert [event.seq for event in found] == list(range(1, 601))
    assert not (await sync_to_async(check_feed)("fx")).problem


async def start_recording(path: Path, failpoint: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "manage.py", "feed", "record", "fx", "--file", str(path),
        cwd=CHECKOUT,
        env=site_environment(**failing_at(failpoint)),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_a_recorder_that_is_killed_at_an_append_is_continued_and_a_signal_ends_it(
    fx: Path,
) -> None:
    add(fx, lines(*range(1, 51)))
    # Stored, and the recorder does not live to know it.
    process = await start_recording(fx, "feed_records.append:committed=exit")
    assert await process.wait() == -signal.SIGKILL
    add(fx, lines(*range(51, 101)))
    # Stored, and the answer is lost with the connection.
    process = await start_recording(fx, "feed_records.append:committed=error")
    reader = await sync_to_async(Running)(fx)
    assert prices(await reader.has(100)) == list(range(1, 101))
    process.send_signal(signal.SIGTERM)
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert out.decode() == "Ended. 50 rows were recorded; the head is seq 100.\n"


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises((Refused, CommandError)) as error:
        call()
    return str(error.value)


def test_rows_that_cannot_be_recorded_are_reported_in_a_sentence(fx: Path) -> None:
    def command(*arguments: str) -> str:
        return refused(lambda: said("feed", "record", *arguments))

    assert "give either --file or --websocket" in command("fx")
    assert "There is no feed named none" in command("none", "--file", str(fx))
    assert "is not an address such as wss://" in command("fx", "--websocket", "http://x")
    assert "A secret is only sent over wss://" in command(
        "fx", "--websocket", "ws://example.org", "--send", "{secret:key}"
    )
    assert "There is no secret named key" in command(
        "fx", "--websocket", "wss://example.org/", "--header", "X-Key={secret:key}"
    )
    assert "--column names 'prize'; the fields are symbol" in command(
        "fx", "--file", str(fx), "--column", "prize=p"
    )
    # Of a feed that there is not: a recorder that begins would not end.
    assert "--number is for a websocket: leave it out" in command(
        "none", "--file", str(fx), "--number", "t", "--send", "hello"
    )
    assert "--time-zone is for files: leave it out" in command(
        "none", "--websocket", "ws://127.0.0.1:1/", "--time-zone", "UTC"
    )
    assert "--only is 'x'; give it as NAME=VALUE" in command("fx", "--only", "x")
    fx.write_text("a,b\n1,2\n")
    assert "fx.csv has no column for time" in command("fx", "--file", str(fx))
    fx.write_text(HEADER + "x,EURUSD,1,1\n")
    plan = RecordingPlan("fx", files=str(fx))
    assert "line 2: time is 'x'; give ISO 8601" in refused(lambda: record(plan, actor="test"))


def test_a_feed_whose_recorder_was_killed_can_be_released(fx: Path) -> None:
    FeedWriter.objects.update(writer="machine:1 (test)", epoch=4)
    release_feed("fx", actor="test")
    assert FeedWriter.objects.values_list("writer", "epoch").get() == ("", 5)
    assert AuditLine.objects.filter(kind="feed_released").exists()
    assert "no recorder writes it, so any source may append" in refused(
        lambda: release_feed("fx", actor="test")
    )
