"""Output of a portfolio process: read at a limited rate, logged in part, its end kept."""

from __future__ import annotations

import asyncio
import os

from scheduling.node_daemon.clock import boottime_s
from scheduling.node_daemon.logs import RateLimitedLog

CHUNK_BYTES = 16_384
CHUNKS_PER_PIPE = 5  #: chunks in a full pipe, and one more to see its end
READ_PAUSE_S = 0.05  #: from a full pipe, the daemon reads at most one chunk in this time
MAX_LINE = 500
TAIL_BYTES = 2_000
LAST_LINES, LAST_CHARACTERS = 3, 300


class ProcessOutput:
    """The daemon's end of stdout and stderr of one process.

    A process that prints faster than it is read waits or loses output; the daemon and other
    processes are not affected.
    """

    def __init__(self, read_end: int, name: str) -> None:
        """Start reading `read_end`, and close it when the other end is closed."""
        self._read_end = read_end
        self._name = name
        self._log = RateLimitedLog()
        self._tail = b""
        self._line = b""
        self._closed = False
        os.set_blocking(read_end, False)
        asyncio.get_running_loop().add_reader(read_end, self._on_readable)

    def last_output(self) -> str:
        """Return the last lines as one, short enough for a reason, after reading the rest."""
        for _ in range(CHUNKS_PER_PIPE):
            if not self._closed:
                self._on_readable()
        lines = [" ".join(line.split()) for line in self._tail.decode(errors="replace").split("\n")]
        text = " / ".join([line for line in lines if line][-LAST_LINES:])
        text = _printable(text)
        return text if len(text) <= LAST_CHARACTERS else "…" + text[-LAST_CHARACTERS:]

    def _on_readable(self) -> None:
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
            self._log_line(self._line)
            return
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._log_line(line)
        if len(self._line) > MAX_LINE:  # perhaps an endless line
            self._log_line(self._line)
            self._line = b""
        if len(data) == CHUNK_BYTES:
            loop.remove_reader(self._read_end)
            loop.call_later(READ_PAUSE_S, self._resume_reading)

    def _resume_reading(self) -> None:
        if not self._closed:
            asyncio.get_running_loop().add_reader(self._read_end, self._on_readable)

    def _log_line(self, line: bytes) -> None:
        text = line[:MAX_LINE].decode(errors="replace").strip()
        if text:
            self._log.info(boottime_s(), "%s printed: %s", self._name, _printable(text))


def _printable(text: str) -> str:
    """Return `text` without characters that would move the cursor of a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
