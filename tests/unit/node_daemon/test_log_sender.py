"""Log lines of portfolios wait for the gateway within limits and delay nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scheduling.node_daemon import log_sender
from scheduling.node_daemon.errors import RequestRefused, ServerUnavailable
from scheduling.node_daemon.log_sender import (
    LINES_PER_BATCH,
    WAITING_LINES,
    LogBuffer,
    LogSender,
    PrintingProcess,
)
from scheduling.wire import messages as wire


def of(portfolio: int, epoch: int = 1) -> PrintingProcess:
    return PrintingProcess(portfolio, epoch, None)


def take(buffer: LogBuffer) -> dict[int, list[tuple[str, int]]]:
    """Take a batch; return portfolio → (text, lost)."""
    taken = buffer.take("i")
    streams = taken[0].streams if taken else []
    return {s.portfolio: [(line.text, line.lost) for line in s.lines] for s in streams}


def test_an_empty_buffer_has_no_batch() -> None:
    assert LogBuffer().take("i") is None


def test_oldest_log_lines_are_dropped_and_counted_if_too_many_wait() -> None:
    buffer = LogBuffer()
    for n in range(WAITING_LINES + 30):
        buffer.add(of(1), f"line {n}")
    lines = take(buffer)[1]
    assert lines[:2] == [("", 30), ("line 30", 0)]
    assert len(lines) == LINES_PER_BATCH
    assert take(buffer)[1][0] == (f"line {30 + LINES_PER_BATCH - 1}", 0)


def test_number_of_lost_lines_is_sent_even_if_no_line_follows() -> None:
    buffer = LogBuffer()
    buffer.lose(of(1), 5)
    assert buffer.filled.is_set()
    assert take(buffer) == {1: [("", 5)]}
    assert not buffer.filled.is_set()


def test_lines_of_a_quiet_portfolio_are_sent_before_the_rest_of_loud_ones() -> None:
    buffer = LogBuffer()
    loud = range(1, 10)
    for portfolio in loud:
        for n in range(WAITING_LINES):
            buffer.add(of(portfolio), f"{n}")
    buffer.add(of(99), "quiet")
    first, second = take(buffer), take(buffer)
    assert sum(map(len, first.values())) == wire.MAX_LOG_LINES
    assert set(first) == {1, 2, 3, 4, 5}
    assert {6, 7, 8, 9, 99} <= set(second)
    assert second[99] == [("quiet", 0)]


def test_a_batch_of_log_lines_has_a_bound_in_bytes() -> None:
    buffer = LogBuffer()
    for portfolio in range(1, 10):
        for _ in range(LINES_PER_BATCH):
            buffer.add(of(portfolio), "\u4e2d" * wire.MAX_LOG_LINE)
    taken = take(buffer)
    size = sum(len(text.encode()) for lines in taken.values() for text, _ in lines)
    assert 0 < size <= wire.MAX_LOG_BYTES


def test_log_lines_keep_the_process_that_printed_them() -> None:
    buffer = LogBuffer()
    buffer.add(of(1, epoch=1), "before")
    buffer.add(of(1, epoch=2), "after")
    taken = buffer.take("i")
    assert taken is not None
    assert [(s.epoch, s.lines[0].text) for s in taken[0].streams] == [(1, "before"), (2, "after")]


class FakeClient:
    """Fails with the given errors, then answers. Records what it was sent."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.sent = list(errors), asyncio.Queue[wire.LogRequest]()

    async def log(self, request: wire.LogRequest) -> wire.LogAnswer:
        self.sent.put_nowait(request)
        if self.errors:
            raise self.errors.pop(0)
        return wire.LogAnswer(written=1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sender, "INTERVAL_S", 0.01)


async def sent_by(client: Any, buffer: LogBuffer, requests: int) -> list[wire.LogRequest]:
    running = asyncio.create_task(LogSender(client, "i", buffer).run())
    try:
        async with asyncio.timeout(20):
            return [await client.sent.get() for _ in range(requests)]
    finally:
        running.cancel()


@pytest.mark.usefixtures("quick")
async def test_an_unanswered_batch_of_log_lines_is_sent_again_under_the_same_id() -> None:
    client, buffer = FakeClient(ServerUnavailable("away")), LogBuffer()
    buffer.add(of(1), "kept")
    first, second = await sent_by(client, buffer, 2)
    assert first.batch == second.batch
    assert second.streams[0].lines[0].text == "kept"
    assert second.streams[0].lines[0].age_ms >= first.streams[0].lines[0].age_ms


@pytest.mark.usefixtures("quick")
async def test_a_refused_batch_of_log_lines_is_lost_and_counted() -> None:
    client, buffer = FakeClient(RequestRefused(413, "payload_too_large", "no")), LogBuffer()
    buffer.add(of(1), "refused")
    first, second = await sent_by(client, buffer, 2)
    assert first.batch != second.batch
    assert [(line.text, line.lost) for line in second.streams[0].lines] == [("", 1)]


async def test_flush_sends_all_waiting_lines() -> None:
    client, buffer = FakeClient(), LogBuffer()
    buffer.add(of(1), "last words")
    await LogSender(client, "i", buffer).flush()  # type: ignore[arg-type]
    assert client.sent.get_nowait().streams[0].lines[0].text == "last words"
