"""Output of a portfolio process costs the daemon little, whatever its volume."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import struct
import termios

import pytest

from scheduling.node_daemon import process_output
from scheduling.node_daemon.logs import RateLimitedLog
from scheduling.node_daemon.process_output import (
    CHUNK_BYTES,
    LAST_CHARACTERS,
    TAIL_BYTES,
    ProcessOutput,
)


@pytest.fixture
def pipe() -> tuple[int, int]:
    """Both ends of a pipe; `ProcessOutput` closes the first when the test has closed the second."""
    return os.pipe()


def print_as_much_as_fits(write_end: int) -> int:
    """Fill the pipe and return the number of bytes."""
    os.set_blocking(write_end, False)
    written = 0
    try:
        while True:
            written += os.write(write_end, b"x" * 1024)
    except BlockingIOError:
        return written


def unread(read_end: int) -> int:
    """Return the number of unread bytes in the pipe."""
    (waiting,) = struct.unpack("i", fcntl.ioctl(read_end, termios.FIONREAD, bytes(4)))
    return int(waiting)


async def many_turns() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


async def close(heard: ProcessOutput, write_end: int) -> None:
    os.close(write_end)
    while not heard._closed:
        await asyncio.sleep(0.001)


async def test_full_pipe_is_read_one_chunk_at_a_time(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_end, write_end = pipe
    monkeypatch.setattr(process_output, "READ_PAUSE_S", 3600.0)
    heard = ProcessOutput(read_end, "loud")
    written = print_as_much_as_fits(write_end)
    await many_turns()
    assert unread(read_end) == written - CHUNK_BYTES
    heard._resume_reading()
    await many_turns()
    assert unread(read_end) == written - 2 * CHUNK_BYTES
    heard.last_output()  # reads whatever is there: its process has ended
    assert unread(read_end) == 0
    heard._resume_reading()
    await close(heard, write_end)


async def test_reading_resumes_after_the_pause(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    heard = ProcessOutput(read_end, "loud")
    print_as_much_as_fits(write_end)
    async with asyncio.timeout(30):
        while unread(read_end):
            await asyncio.sleep(0.01)
        await close(heard, write_end)


async def test_endless_line_is_logged_in_parts(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    read_end, write_end = pipe
    caplog.set_level(logging.INFO)
    heard = ProcessOutput(read_end, "endless")
    for _ in range(50):
        os.write(write_end, b"y" * 1000)
        heard._on_readable()
    assert len(heard._line) <= 4000
    assert len(heard._tail) == TAIL_BYTES
    assert caplog.records
    assert max(len(record.getMessage()) for record in caplog.records) < 600
    await close(heard, write_end)


async def test_log_lines_are_rate_limited_and_suppressed_ones_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    said = RateLimitedLog(lines=20, per_s=10.0)
    for n in range(500):
        said.info(100.0 + n / 100, "line %d", n)
    assert [record.getMessage() for record in caplog.records] == [f"line {n}" for n in range(20)]
    said.info(110.0, "and on")
    assert [record.getMessage() for record in caplog.records[20:]] == [
        "480 more lines were suppressed",
        "and on",
    ]


async def test_last_output_is_a_few_short_lines_without_control_characters(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    read_end, write_end = pipe
    caplog.set_level(logging.INFO)
    heard = ProcessOutput(read_end, "ends")
    os.write(write_end, b"one\ntwo\n\n\x1b[2J  three \xff\t3\nfour\n")
    assert heard.last_output() == "two / ?[2J three \ufffd 3 / four"
    assert all(record.getMessage().isprintable() for record in caplog.records)
    os.write(write_end, b"z" * 1000)
    words = heard.last_output()
    assert (len(words), words[0], words[-1]) == (LAST_CHARACTERS + 1, "…", "z")
    await close(heard, write_end)
    assert heard.last_output() == words


async def test_unterminated_line_is_logged_at_the_end(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    read_end, write_end = pipe
    caplog.set_level(logging.INFO)
    heard = ProcessOutput(read_end, "ends")
    os.write(write_end, b"farewell")
    await close(heard, write_end)
    assert [record.getMessage() for record in caplog.records] == ["ends printed: farewell"]


class Sink:
    """Keeps what it is passed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.missing = 0

    def take_line(self, text: str) -> None:
        self.lines.append(text)

    def count_lost(self, lines: int) -> None:
        self.missing += lines


async def test_lines_are_passed_on_with_their_indentation(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    sink = Sink()
    heard = ProcessOutput(read_end, "tells", sink)
    os.write(write_end, b"Traceback:\n  File x\n\n\tdeep \xff\nunfinished")
    await close(heard, write_end)
    assert sink.lines == ["Traceback:", "  File x", "        deep \ufffd", "unfinished"]
    heard.note("one\n  two")
    assert sink.lines[-2:] == ["one", "  two"]


async def test_many_short_lines_are_counted_instead_of_passed_on(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    sink = Sink()
    heard = ProcessOutput(read_end, "loud", sink)
    os.write(write_end, b"y\n" * 1_000)
    await close(heard, write_end)
    assert (len(sink.lines), sink.missing) == (100, 900)


async def test_a_long_line_is_passed_on_in_parts(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    sink = Sink()
    heard = ProcessOutput(read_end, "long", sink)
    os.write(write_end, b"z" * 2_500 + b"\n" + b"y" * 4_500)
    await close(heard, write_end)
    assert [len(line) for line in sink.lines] == [1_000, 1_000, 500] + [1_000] * 4 + [500]
    assert "".join(sink.lines) == "z" * 2_500 + "y" * 4_500
