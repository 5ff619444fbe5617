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


class Printing:
    """A process that prints what the test says, and the daemon's end of its output."""

    def __init__(self, name: str, sink: Sink | None = None) -> None:
        self._read_end, self._write_end = os.pipe()
        self.heard = process_output.ProcessOutput(self._read_end, name, sink)

    def print(self, data: bytes) -> None:
        os.write(self._write_end, data)

    def print_as_much_as_fits(self) -> int:
        """Fill the pipe and return the number of bytes."""
        os.set_blocking(self._write_end, False)
        written = 0
        try:
            while True:
                written += os.write(self._write_end, b"x" * 1024)
        except BlockingIOError:
            return written

    def unread(self) -> int:
        """Return the number of unread bytes in the pipe."""
        (waiting,) = struct.unpack("i", fcntl.ioctl(self._read_end, termios.FIONREAD, bytes(4)))
        return int(waiting)

    async def end(self) -> None:
        os.close(self._write_end)
        while not self.heard._closed:
            await asyncio.sleep(0.001)


class Sink:
    """Keeps what it is passed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.missing = 0

    def take_line(self, text: str) -> None:
        self.lines.append(text)

    def count_lost(self, lines: int) -> None:
        self.missing += lines


async def many_turns() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


async def test_full_pipe_is_read_one_chunk_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_output, "READ_PAUSE_S", 3600.0)
    process = Printing("loud")
    written = process.print_as_much_as_fits()
    await many_turns()
    assert process.unread() == written - process_output.CHUNK_BYTES
    process.heard._resume_reading()
    await many_turns()
    assert process.unread() == written - 2 * process_output.CHUNK_BYTES
    process.heard.last_output()  # reads whatever is there: its process has ended
    assert process.unread() == 0
    process.heard._resume_reading()
    await process.end()


async def test_reading_of_a_full_pipe_resumes_after_the_pause() -> None:
    process = Printing("loud")
    process.print_as_much_as_fits()
    async with asyncio.timeout(30):
        while process.unread():
            await asyncio.sleep(0.01)
        await process.end()


async def test_endless_line_is_logged_in_parts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    process = Printing("endless")
    for _ in range(50):
        process.print(b"y" * 1000)
        process.heard._on_readable()
    assert len(process.heard._line) <= 4000
    assert len(process.heard._tail) == process_output.TAIL_BYTES
    assert caplog.records
    assert max(len(record.getMessage()) for record in caplog.records) < 600
    await process.end()


async def test_log_lines_are_rate_limited_and_suppressed_ones_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    said = RateLimitedLog(lines=20, window_s=10.0)
    for n in range(500):
        said.info(100.0 + n / 100, "line %d", n)
    assert [record.getMessage() for record in caplog.records] == [f"line {n}" for n in range(20)]
    said.info(110.0, "and on")
    then = [record.getMessage() for record in caplog.records[20:]]
    assert then == ["480 more lines were suppressed", "and on"]


async def test_last_output_is_a_few_short_lines_without_control_characters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    process = Printing("ends")
    process.print(b"one\ntwo\n\n\x1b[2J  three \xff\t3\nfour\n")
    assert process.heard.last_output() == "two / ?[2J three \ufffd 3 / four"
    assert all(record.getMessage().isprintable() for record in caplog.records)
    process.print(b"z" * 1000)
    words = process.heard.last_output()
    assert (len(words), words[0], words[-1]) == (process_output.LAST_CHARACTERS + 1, "…", "z")
    await process.end()
    assert process.heard.last_output() == words


async def test_unterminated_line_is_logged_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    process = Printing("ends")
    process.print(b"farewell")
    await process.end()
    assert [record.getMessage() for record in caplog.records] == ["ends printed: farewell"]


async def printed(data: bytes) -> tuple[Sink, process_output.ProcessOutput]:
    """Return what was passed on of a process that printed this and ended."""
    sink = Sink()
    process = Printing("tells", sink)
    process.print(data)
    await process.end()
    return sink, process.heard


async def test_printed_lines_are_passed_on_with_their_indentation() -> None:
    sink, heard = await printed(b"Traceback:\n  File x\n\n\tdeep \xff\nunfinished")
    assert sink.lines == ["Traceback:", "  File x", "        deep \ufffd", "unfinished"]
    heard.note("one\n  two")
    assert sink.lines[-2:] == ["one", "  two"]


async def test_many_short_lines_are_counted_instead_of_passed_on() -> None:
    sink, _ = await printed(b"y\n" * 1_000)
    assert (len(sink.lines), sink.missing) == (100, 900)


async def test_a_long_line_is_passed_on_in_parts() -> None:
    sink, _ = await printed(b"z" * 2_500 + b"\n" + b"y" * 4_500)
    assert [len(line) for line in sink.lines] == [1_000, 1_000, 500] + [1_000] * 4 + [500]
    assert "".join(sink.lines) == "z" * 2_500 + "y" * 4_500
