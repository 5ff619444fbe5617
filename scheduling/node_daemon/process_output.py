"""Output of a portfolio process: read at a limited rate, its newest lines passed on."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

from scheduling.node_daemon.clock import boottime_s
from scheduling.node_daemon.logs import RateLimitedLog
from scheduling.wire.messages import MAX_LOG_LINE

CHUNK_BYTES = 16_384
CHUNKS_PER_PIPE = 5  #: four fill a pipe, and one more read finds its end
READ_PAUSE_S = 0.05  #: from a full pipe, the daemon reads at most one chunk in this time
LINES_PER_CHUNK = 100  #: any further lines of one chunk are counted and lost
MAX_LINE = 500  #: characters of a line in the daemon's own log
UNENDED_LINE = 4_000  #: bytes after which a line without an end is passed on
TAB_WIDTH = 8
TAIL_BYTES = 2_000  #: of the output, kept for `last_output`
LAST_LINES, LAST_CHARACTERS = 3, 300  #: what `last_output` returns at most


class LineSink(Protocol):
    """Takes what a process printed."""

    def take_line(self, text: str) -> None:
        """Take one line that the process printed, or a piece of a long one."""

    def count_lost(self, lines: int) -> None:
        """Count lines that were lost."""


class ProcessOutput:
    """The daemon's end of stdout and stderr of one process.

    A process that prints faster than it is read waits or loses output; the daemon and other
    processes are not affected.
    """

    def __init__(self, read_end: int, name: str, sink: LineSink | None = None) -> None:
        """Start reading `read_end`, and close it when the other end is closed."""
        self._sink = sink
        self._read_end = read_end
        self._name = name
        self._log = RateLimitedLog()
        self._tail = b""  #: the newest output
        self._line = b""  #: the output since the last line break
        self._closed = False
        os.set_blocking(read_end, False)
        asyncio.get_running_loop().add_reader(read_end, self._on_readable)

    def last_output(self) -> str:
        """Read the rest of the pipe. Return its last lines as one line, for an error message."""
        for _ in range(CHUNKS_PER_PIPE):
            if not self._closed:
                self._on_readable()
        lines = [" ".join(line.split()) for line in self._tail.decode(errors="replace").split("\n")]
        text = _printable(" / ".join([line for line in lines if line][-LAST_LINES:]))
        return text if len(text) <= LAST_CHARACTERS else "…" + text[-LAST_CHARACTERS:]

    def _on_readable(self) -> None:
        """Read one chunk, and pause after a full one. At the end of the pipe, close it."""
        loop = asyncio.get_running_loop()
        try:
            data = os.read(self._read_end, CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            loop.remove_reader(self._read_end)
            os.close(self._read_end)
            self._closed = True
            self._pass_on([self._line])
            return
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        *lines, self._line = (self._line + data).split(b"\n")
        while len(self._line) > UNENDED_LINE:  # perhaps an endless line
            lines.append(self._line[:UNENDED_LINE])
            self._line = self._line[UNENDED_LINE:]
        self._pass_on(lines)
        if len(data) == CHUNK_BYTES:
            loop.remove_reader(self._read_end)
            loop.call_later(READ_PAUSE_S, self._resume_reading)

    def _resume_reading(self) -> None:
        if not self._closed:
            asyncio.get_running_loop().add_reader(self._read_end, self._on_readable)

    def note(self, text: str) -> None:
        """Pass on a text about the process, such as a traceback, as if it had printed it."""
        if self._sink is not None:
            for line in text.splitlines()[-LINES_PER_CHUNK:]:
                self._sink.take_line(line)

    def _pass_on(self, lines: list[bytes]) -> None:
        """Log the lines, at a limited rate, and give them to the sink."""
        for line in lines[:LINES_PER_CHUNK]:
            text = line.decode(errors="replace").rstrip()
            if not text:
                continue
            self._log.info(
                boottime_s(), "%s printed: %s", self._name, _printable(text[:MAX_LINE].strip())
            )
            if self._sink is not None:
                text = text.expandtabs(TAB_WIDTH)
                for start in range(0, len(text), MAX_LOG_LINE):
                    self._sink.take_line(text[start : start + MAX_LOG_LINE])
        if len(lines) > LINES_PER_CHUNK and self._sink is not None:
            self._sink.count_lost(len(lines) - LINES_PER_CHUNK)


def _printable(text: str) -> str:
    """Return `text` with "?" for characters that would move the cursor of a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
