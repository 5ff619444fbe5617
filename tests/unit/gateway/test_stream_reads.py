"""Reads of streams: nodes share them, and one node does not keep the others waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from scheduling.gateway import node_limits
from scheduling.gateway.http import RequestRejected
from scheduling.gateway.stream_reads import OLDER_READS, StreamReads
from scheduling.observe.feed_records import HeadRow, RecordRow
from scheduling.wire.messages import Problem, encode

HEAD = HeadRow(7, "tape", 100_000, 0, 1, True)


class HeldStream:
    """A stream that does not answer before it may."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.may_answer = asyncio.Event()

    async def read(self, first: int, last: int, limit: int) -> list[tuple[int, int, bytes]]:
        self.asked.append(first)
        await self.may_answer.wait()
        return [(first, 1, b"event")]


async def test_a_node_that_reads_a_stream_much_does_not_keep_others_from_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads, stream = StreamReads(), HeldStream()

    async def of(_: Any) -> HeldStream:
        return stream

    monkeypatch.setattr(reads, "_stream", of)
    asked: list[asyncio.Task[list[RecordRow]]] = []

    async def ask(node: int, first: int) -> None:
        asked.append(asyncio.create_task(reads.read(node, HEAD, first, first + 99)))
        for _ in range(5):
            await asyncio.sleep(0)

    assert node_limits.LIMITS["stream"].active == 2 < OLDER_READS == 4
    for first in range(100, 2_000, 100):
        await ask(1, first)
    await ask(2, 50_000)
    await ask(3, 50_000)  # the same: read once
    assert stream.asked == [100, 200, 50_000]
    await ask(4, 60_000)
    await ask(5, 70_000)  # four are read
    await ask(6, 99_900)  # the newest do not wait for them
    assert stream.asked == [100, 200, 50_000, 60_000, 99_900]
    asked[0].cancel()  # by its node, and another may wait for the same
    stream.may_answer.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1] == [RecordRow(200, "", 1, b"event")]
    assert len(stream.asked) == len(asked) - 1
    assert not reads._reading
    assert not node_limits._queues


async def test_a_stream_that_cannot_be_reached_is_answered_with_its_sentence() -> None:
    with pytest.raises(RequestRejected) as rejected:
        await StreamReads().read(1, HEAD, 1, 100)
    answer = msgspec.msgpack.decode(encode(rejected.value.problem), type=Problem)
    assert (rejected.value.status, answer.code) == (503, "unavailable")
    assert "GINKGO_NATS_URL is not set for this process" in answer.message
