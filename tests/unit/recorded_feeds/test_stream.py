"""Reads of a stream whose server answers with wrong messages; the cache of messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from portfolios.runtime.events import encode_event, join_events
from scheduling.recorded_feeds.jetstream import stream as stream_module
from scheduling.recorded_feeds.jetstream.block import EMPTY, Block, encode_block
from scheduling.recorded_feeds.jetstream.block_cache import BlockCache
from scheduling.recorded_feeds.jetstream.stream import Stream, StreamMissing
from tests.integration.feeds.log_conformance import euros


def records_of(after: int, count: int) -> Block:
    events = join_events([encode_event(event) for event in euros(after, count)])
    return replace(EMPTY, from_seq=after + 1, to_seq=after + count, events=events)


def claim_of(head: int) -> Block:
    return replace(EMPTY, from_seq=head + 1, to_seq=head)


class Server:
    """A NATS server with one stream, which answers with the message `shift` after the asked."""

    stats = {"reconnects": 0}
    max_payload = 1_000_000

    def __init__(self, *blocks: Block, shift: int = 0) -> None:
        self.bodies, self.shift = [encode_block(block) for block in blocks], shift
        self.asked: list[int] = []

    def jetstream(self, timeout: float) -> Any:
        return self

    async def stream_info(self, name: str) -> Any:
        return SimpleNamespace(state=SimpleNamespace(first_seq=1))

    async def get_last_msg(self, name: str, subject: str) -> Any:
        return await self.get_msg(name, len(self.bodies))

    async def get_msg(self, name: str, number: int, direct: bool = False) -> Any:
        self.asked.append(number)
        if number > len(self.bodies):
            raise NotFoundError
        seq = number + self.shift
        return SimpleNamespace(seq=seq, data=self.bodies[min(seq, len(self.bodies)) - 1])


def stream_of(*blocks: Block, shift: int = 0) -> Stream:
    return Stream(cast(Client, Server(*blocks, shift=shift)), "fx")


async def read(stream: Stream, first: int, last: int) -> list[int]:
    return [seq for seq, _, _ in await stream.read(first, last, last - first + 1)]


async def test_records_are_read_across_claims_of_writers() -> None:
    blocks = (claim_of(0), records_of(0, 3), claim_of(3), claim_of(3), records_of(3, 2))
    assert await read(stream_of(*blocks), 1, 5) == [1, 2, 3, 4, 5]
    assert await read(stream_of(*blocks), 3, 4) == [3, 4]


async def test_a_message_other_than_the_requested_one_is_refused() -> None:
    stream = stream_of(claim_of(0), records_of(0, 3), records_of(3, 3), shift=1)
    with pytest.raises(StreamMissing, match=r"Asked for message 1 of .* answers with message 2"):
        await stream.block(1)


@pytest.mark.parametrize(
    "blocks",
    [
        (records_of(0, 3), records_of(4, 3)),
        (records_of(0, 3), claim_of(0), records_of(3, 3)),
        (records_of(0, 3), replace(claim_of(3), to_seq=1), records_of(3, 3)),
    ],
)
async def test_a_message_that_does_not_follow_the_one_before_is_refused(
    blocks: tuple[Block, ...],
) -> None:
    with pytest.raises(StreamMissing, match="records are missing or out of order; restore"):
        await read(stream_of(*blocks), 1, 6)


async def test_a_message_without_all_its_records_is_refused() -> None:
    with pytest.raises(StreamMissing, match="has 3 records for seq 1 to 4"):
        await read(stream_of(replace(records_of(0, 3), to_seq=4)), 1, 4)


async def test_cache_of_all_streams_is_bounded_in_bytes() -> None:
    kept = BlockCache(20_000)
    blocks = [records_of(100 * n, 100) for n in range(20)]  # about 3,000 bytes each
    streams = [Stream(cast(Client, Server(*blocks)), "fx", kept) for _ in range(3)]
    for stream in streams:
        assert await read(stream, 1, 2_000) == list(range(1, 2_001))
        assert 10_000 < kept.bytes <= 20_000
    server = cast(Server, streams[2]._client)
    asked = len(server.asked)
    await streams[2].block(20)  # the newest is kept
    assert len(server.asked) == asked


async def test_large_messages_are_read_a_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [records_of(100 * n, 100) for n in range(20)]
    monkeypatch.setattr(stream_module, "READ_AT_ONCE_BYTES", 3 * len(blocks[0].events))
    server = Server(*blocks)
    await read(Stream(cast(Client, server), "fx", BlockCache(0)), 1, 150)
    found = max(server.asked[-4:])
    assert found == 4  # 1, then 2 to 4; without a bound 2 to 5
