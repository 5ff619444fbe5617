"""Tests that each kind of recorded log must pass, with a real server.

A test module of one kind defines the fixture `substrate` and imports every test of this module:

    from tests.integration.feeds.log_conformance import *  # noqa: F403
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol
from uuid import uuid4

import pytest

from chaos.harness.installation import SLOW_MACHINE_S
from portfolios.feeds.log import (
    CHAIN_START,
    SEGMENT_SEQS,
    HeadMoved,
    RecordedLog,
    SourceConflict,
    SourceId,
    WriterReplaced,
    next_link,
)
from portfolios.runtime.events import Event, Quote, Tick, encode_event, make_bar

FIRST = SourceId("source-a", 1, "a" * 64)


class Substrate(Protocol):
    """One kind of storage under test."""

    #: Where a writer is killed with -9 during an append, in order.
    kill_points: Sequence[str]

    async def make(self, name: str, symbols: Sequence[str]) -> RecordedLog: ...

    async def append_and_die(
        self, log: RecordedLog, point: str, epoch: int, expected: int, source: SourceId
    ) -> None:
        """Append `euro(expected + 1)` to `euro(expected + 3)` in a process killed at `point`."""
        ...


def euro(number: int) -> Event:
    """Return the bar of minute `number`, with five places."""
    price = 107_000 + number % 997
    prices = (price, price + 9, price - 9, price + 1)
    return make_bar(0, "EURUSD", number * 60_000_000, 0, prices, 0, scale=5)


def euros(after: int, count: int) -> list[Event]:
    return [euro(number) for number in range(after + 1, after + count + 1)]


@pytest.fixture
async def log(substrate: Substrate) -> RecordedLog:
    return await substrate.make(f"log-{uuid4().hex[:8]}", ["EURUSD", "KO"])


async def read_all(log: RecordedLog) -> list[Event]:
    return await log.read(1, 1_000_000, 1_000_000)


async def test_an_empty_log_has_no_head(log: RecordedLog) -> None:
    assert (await log.head()).seq == 0
    assert await read_all(log) == []
    assert await log.first() == 1
    assert await log.digest(0) == CHAIN_START.hex()
    assert await log.digest(1) is None


async def test_events_are_read_back_in_order_with_seq_and_release_time(log: RecordedLog) -> None:
    epoch = await log.claim("writer")
    quote = Quote(0, "KO", 9, 0, 500_000, 500_100, 1, 2)
    given: list[Event] = [*euros(0, 3), quote, Tick(0, "", 10, 0)]
    done = await log.append(epoch, 0, given[:2], cursor="page 1")
    assert (done.from_seq, done.to_seq, done.repeated) == (1, 2, False)
    await log.append(epoch, 2, given[2:], cursor="page 2")
    head, found = await log.head(), await read_all(log)
    assert [event.seq for event in found] == [1, 2, 3, 4, 5]
    assert [type(event) for event in found] == [type(event) for event in given]
    assert [str(event.close) for event in found[:3]] == ["1.07002", "1.07003", "1.07004"]
    assert head.seq == 5
    assert head.released_us == found[-1].released >= found[0].released > 1_600_000_000_000_000
    assert await log.cursor() == "page 2"


async def test_reads_are_bounded_by_seq_and_count_and_filtered_by_symbol(log: RecordedLog) -> None:
    epoch = await log.claim("writer")
    await log.append(epoch, 0, [euro(1), Quote(0, "KO", 1, 0, 5, 6), Tick(0, "", 2, 0), euro(3)])
    assert [e.seq for e in await log.read(2, 4, 2)] == [2, 3]
    assert [e.seq for e in await log.read(1, 4, 10, frozenset({"KO"}))] == [2, 3]
    assert [e.seq for e in await log.read(4, 9, 10)] == [4]


async def test_an_append_that_expects_another_head_writes_nothing(log: RecordedLog) -> None:
    epoch = await log.claim("writer")
    await log.append(epoch, 0, euros(0, 2))
    for expected in (0, 1, 3):
        with pytest.raises(HeadMoved):
            await log.append(epoch, expected, euros(2, 1))
    assert (await log.head()).seq == 2


async def test_a_writer_that_was_replaced_writes_nothing(log: RecordedLog) -> None:
    old = await log.claim("first")
    await log.append(old, 0, euros(0, 1))
    new = await log.claim("second")
    assert new > old
    with pytest.raises(WriterReplaced):
        await log.append(old, 1, euros(1, 1))
    assert (await log.append(new, 1, euros(1, 1))).to_seq == 2


async def test_of_concurrent_appends_at_one_head_only_one_is_stored(log: RecordedLog) -> None:
    epoch = await log.claim("writer")
    appends = (log.append(epoch, 0, euros(0, 5)) for _ in range(6))
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, HeadMoved)]
    assert len(refused) == 5, outcomes
    assert len(await read_all(log)) == 5


async def test_a_repeated_append_of_a_source_is_answered_as_before_and_writes_nothing(
    log: RecordedLog,
) -> None:
    epoch = await log.claim("writer")
    first = await log.append(epoch, 0, euros(0, 2), FIRST)
    await log.append(epoch, 2, euros(2, 1), SourceId("source-a", 2, "b" * 64))
    again = await log.append(epoch, 3, euros(0, 2), FIRST)
    assert (again.from_seq, again.to_seq, again.repeated) == (first.from_seq, first.to_seq, True)
    assert (await log.head()).seq == 3


async def test_a_source_with_other_content_under_one_number_is_refused(log: RecordedLog) -> None:
    epoch = await log.claim("writer")
    await log.append(epoch, 0, euros(0, 2), FIRST)
    with pytest.raises(SourceConflict):
        await log.append(epoch, 2, euros(2, 1), SourceId("source-a", 1, "c" * 64))
    assert (await log.head()).seq == 2


async def test_missing_numbers_of_a_source_are_named_and_a_late_one_is_refused(
    log: RecordedLog,
) -> None:
    epoch = await log.claim("writer")
    await log.append(epoch, 0, euros(0, 1), FIRST)
    done = await log.append(epoch, 1, euros(1, 1), SourceId("source-a", 4, "d" * 64))
    assert done.missing == (2, 3)
    with pytest.raises(SourceConflict):
        await log.append(epoch, 2, euros(2, 1), SourceId("source-a", 3, "e" * 64))
    assert (await log.head()).seq == 2


async def test_a_follower_gets_every_event_once_and_in_order(log: RecordedLog) -> None:
    epoch = await log.claim("writer")
    await log.append(epoch, 0, euros(0, 3))
    seen: list[int] = []

    async def follow() -> None:
        async for events in log.follow(1):
            seen.extend(event.seq for event in events)
            if seen[-1] == 40:
                return

    following = asyncio.create_task(follow())
    for at in range(3, 40):
        await log.append(epoch, at, euros(at, 1))
    async with asyncio.timeout(SLOW_MACHINE_S):
        await following
    assert seen == list(range(2, 41))


async def test_hash_of_a_chain_segment_covers_each_byte_of_its_records_and_never_changes(
    log: RecordedLog,
) -> None:
    epoch, at = await log.claim("writer"), 0
    while at < SEGMENT_SEQS + 500:
        await log.append(epoch, at, euros(at, 3_500))
        at += 3_500
    first = await log.digest(1)
    chain = CHAIN_START
    for event in await log.read(1, SEGMENT_SEQS, SEGMENT_SEQS):
        chain = next_link(chain, encode_event(event))
    assert first == chain.hex()
    await log.append(epoch, at, euros(at, 10))
    assert await log.digest(1) == first
    assert await log.digest(2) is None


async def test_writer_killed_at_any_point_leaves_its_append_stored_whole_or_not_at_all(
    substrate: Substrate, log: RecordedLog
) -> None:
    epoch, head = await log.claim("writer"), 0
    stored = []
    for number, point in enumerate(substrate.kill_points, start=1):
        source = SourceId("source-a", number, f"{number:064}")
        await substrate.append_and_die(log, point, epoch, head, source)
        after = (await log.head()).seq
        assert after in (head, head + 3), point
        stored.append(after > head)
        # Its successor repeats the append, and it is there once.
        successor = await log.claim("successor")
        done = await log.append(successor, after, euros(head, 3), source)
        assert done.repeated is (after > head), point
        assert (done.from_seq, done.to_seq) == (head + 1, head + 3), point
        head, epoch = head + 3, successor
    found = await read_all(log)
    assert [event.seq for event in found] == list(range(1, head + 1))
    assert [event.time for event in found] == [euro(n).time for n in range(1, head + 1)]
    assert set(stored) == {False, True}  # some points are before the append is durable, some after
