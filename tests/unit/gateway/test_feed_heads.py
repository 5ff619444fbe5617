"""Reads of the heads of recorded feeds: however many ask, they take one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scheduling.gateway import background, feed_reads, node_limits
from scheduling.gateway.auth import NodeIdentity
from scheduling.observe.feed_records import HeadRow


class CountingPool:
    """Counts the connections that are taken at once."""

    def __init__(self) -> None:
        self.taken = self.most = 0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        self.taken += 1
        self.most = max(self.most, self.taken)
        try:
            yield
        finally:
            self.taken -= 1


def test_many_reads_at_once_take_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = CountingPool()

    async def execute(*_: Any) -> list[Any]:
        await asyncio.sleep(0)
        return []

    async def ask() -> None:
        heads = feed_reads.FeedHeads()
        await asyncio.gather(*(heads.read("tape") for _ in range(64)))

    monkeypatch.setattr(feed_reads, "work_pool", lambda: pool)
    monkeypatch.setattr(feed_reads, "aexecute_autocommit", execute)
    asyncio.run(ask())
    assert pool.most == 1


class Installation:
    """Heads over a database that answers when it is told to, and a channel for hints."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hints: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.refusals = 0  #: how often the channel layer is still unreachable
        self.stored = 1
        self.reads = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()
        self.heads = feed_reads.FeedHeads()
        monkeypatch.setattr(feed_reads, "work_pool", CountingPool)
        monkeypatch.setattr(feed_reads, "aexecute_autocommit", self._execute)
        monkeypatch.setattr(feed_reads, "get_channel_layer", lambda: self)

    async def _execute(self, *_: Any) -> list[HeadRow]:
        self.reads += 1
        found = self.stored
        self.asked.set()
        await self.may_answer.wait()
        return [HeadRow(7, "tape", found, 0, 1, False)]

    async def new_channel(self, _: str) -> str:
        return "hints"

    async def group_add(self, *_: str) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionError("redis is away")

    async def group_discard(self, *_: str) -> None:
        pass

    async def receive(self, _: str) -> dict[str, Any]:
        return await self.hints.get()

    def append(self, head: int) -> None:
        """Store a record and send its hint."""
        self.stored = head
        self.hints.put_nowait({"type": "wake", "feed": 7, "head": head})

    async def beyond(self, after: int) -> asyncio.Task[HeadRow]:
        """Begin to wait for a head beyond this one."""
        waiting = asyncio.create_task(self.heads.wait_beyond("tape", after, 20))
        await asyncio.sleep(0)
        return waiting

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Receive hints in the block."""
        watching = asyncio.create_task(self.heads.watch())
        try:
            async with asyncio.timeout(30):
                while self.heads._read_at < 0:  # it begins as if it had read the heads
                    await asyncio.sleep(0)
                yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Installation:
    """Heads that are read again only after a hint."""
    monkeypatch.setattr(feed_reads, "POLL_S", 1000.0)
    return Installation(monkeypatch)


async def test_head_that_comes_with_a_hint_is_not_read_from_the_database(at: Installation) -> None:
    async with at.watched():
        await at.heads.get("tape")
        for head in range(2, 20):
            waiting = await at.beyond(head - 1)
            at.append(head)
            assert (await waiting).seq == head
        assert at.reads == 1


async def test_a_hint_that_comes_while_the_heads_are_read_is_not_lost(at: Installation) -> None:
    async with at.watched():
        at.may_answer.clear()
        waiting = asyncio.create_task(at.heads.wait_beyond("tape", 1, 20))
        await at.asked.wait()  # its answer will be of before the append
        at.append(2)
        while not at.hints.empty():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        at.may_answer.set()
        assert (await waiting).seq == 2


async def test_a_hint_that_comes_between_the_read_and_the_wait_of_a_request_is_not_lost(
    at: Installation,
) -> None:
    async with at.watched():
        at.may_answer.clear()
        asking = asyncio.create_task(at.heads.get("tape"))
        await at.asked.wait()  # its answer will be of before the append
        at.heads._read_at = -1000.0
        at.append(2)
        while at.heads._read_at < 0:  # nobody waits yet
            await asyncio.sleep(0)
        at.may_answer.set()
        await asking
        assert (await at.heads.wait_beyond("tape", 1, 20)).seq == 2


async def test_reading_another_feed_does_not_lose_a_hint(
    at: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await at.heads.get("tape")
    at.heads.take_hint({"feed": 7, "head": 2})
    monkeypatch.setattr(feed_reads, "aexecute_autocommit", _no_rows)
    await at.heads.read("other")
    assert (await at.heads.get("tape")).seq == 2


@pytest.mark.parametrize("refusals", [0, 1])  # 1: the channel layer is away
async def test_heads_are_read_though_no_hint_arrives(
    at: Installation, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    monkeypatch.setattr(feed_reads, "POLL_S", 0.01)
    at.refusals = refusals
    async with at.watched():
        await at.heads.get("tape")
        waiting = await at.beyond(1)
        at.stored = 2
        assert (await waiting).seq == 2


async def test_hints_are_received_once_the_channel_layer_is_there(
    at: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_reads, "LISTEN_RETRY_S", 0.0)
    at.refusals = 3
    async with at.watched():
        await at.heads.get("tape")
        waiting = await at.beyond(1)
        at.append(2)
        assert (await waiting).seq == 2
        assert (at.reads, at.refusals) == (1, 0)


async def test_a_background_loop_that_fails_is_logged_and_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "RESTART_S", 0.0)
    starts = 0
    runs = asyncio.Event()

    async def a_loop() -> None:
        nonlocal starts
        starts += 1
        if starts < 3:
            raise ValueError("no such row")
        runs.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(background.keep_running(a_loop))
    async with asyncio.timeout(30):
        await runs.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert caplog.text.count("a_loop failed, a defect to report; started again") == 2


async def test_a_node_may_read_three_feed_heads_at_once(
    at: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = cast(NodeIdentity, SimpleNamespace(node=1))
    monkeypatch.setattr(feed_reads, "FEED_HEADS", at.heads)
    reading = 0

    async def read(_: str) -> None:
        nonlocal reading
        reading += 1
        await at.may_answer.wait()

    monkeypatch.setattr(at.heads, "read", read)
    at.heads._heads["tape"] = HeadRow(7, "tape", 1, 0, 1, False)
    at.may_answer.clear()
    asked = [asyncio.create_task(feed_reads._head_now(node, "tape")) for _ in range(10)]
    await asyncio.sleep(0)
    assert reading == node_limits.LIMITS["work"].active == 3
    at.may_answer.set()
    await asyncio.gather(*asked)
    assert reading == 10


async def _no_rows(*_: Any) -> list[Any]:
    return []
