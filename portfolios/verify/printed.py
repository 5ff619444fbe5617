"""What a strategy prints while it is replayed, line by line with the event it was printed at.

On a node the output of a process may be lost, since printing must not hold up trading. A replay is
in no hurry: its process waits until every line is read.
"""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MAX_WAITING_BYTES = 16 << 20  #: of lines that were not taken; a batch that prints more loses some
MAX_LINE = 4_000  #: characters; a longer line is divided
LOADING = 0  #: the seq of lines that were printed before the first event


@dataclass(frozen=True, slots=True)
class PrintedLine:
    """One line, and the event at which it was printed."""

    seq: int  #: LOADING while the strategy was loaded
    text: str


class PrintStream(io.TextIOBase):
    """The stdout and stderr of a replayed strategy: writes lines as SEQ, a tab and the text."""

    def __init__(self, fd: int, at_seq: Callable[[], int]) -> None:
        """Write to `fd`; `at_seq` returns the event that is handled now."""
        self._fd, self._at_seq = fd, at_seq
        self._seq = LOADING  # the event of the newest print
        self._begun = ""  # a line of it that has no end yet

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write the complete lines, each with the seq of the event, and keep the rest."""
        seq = self._at_seq()
        if seq != self._seq:
            self.flush()
            self._seq = seq
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._write_line(line)
        while len(self._begun) > MAX_LINE:
            self._write_line(self._begun[:MAX_LINE])
            self._begun = self._begun[MAX_LINE:]
        return len(text)

    def flush(self) -> None:
        """Write a line that was begun and not ended."""
        if self._begun:
            self._write_line(self._begun)
            self._begun = ""

    def _write_line(self, line: str) -> None:
        """Write one line, divided if it is over MAX_LINE, and wait until it is taken."""
        for at in range(0, max(len(line), 1), MAX_LINE):
            part = line[at : at + MAX_LINE]
            data = f"{self._seq}\t{part}\n".encode(errors="backslashreplace")
            while data:
                data = data[os.write(self._fd, data) :]


class PrintedOutput:
    """Reads what processes print through a pipe, in a thread, and keeps it until it is taken."""

    def __init__(self) -> None:
        """Open the pipe. Give `write_end` to each process, and call `begin_reading`."""
        self._read_end, self.write_end = os.pipe()
        self._lines: deque[PrintedLine] = deque()
        self._lock = threading.Lock()
        self._waiting_bytes = self._lost = 0
        self._thread = threading.Thread(target=self._read, name="printed", daemon=True)

    def begin_reading(self) -> None:
        """Read what the processes print, until `take_rest`."""
        if not self._thread.is_alive():
            self._thread.start()

    def take(self) -> list[PrintedLine]:
        """Return the lines that have arrived since the last call, oldest first.

        If lines were lost, a last one says how many.
        """
        with self._lock:
            taken, lost = list(self._lines), self._lost
            self._lines.clear()
            self._waiting_bytes = self._lost = 0
        if lost:
            at = taken[-1].seq if taken else LOADING
            taken.append(PrintedLine(at, f"({lost:,} lines are left out: too much at once)"))
        return taken

    def take_rest(self) -> list[PrintedLine]:
        """Return the last lines, after the last process has ended."""
        os.close(self.write_end)
        self._thread.join()
        return self.take()

    def _read(self) -> None:
        with open(self._read_end, "rb") as lines:
            for line in lines:
                self._add(line)

    def _add(self, line: bytes) -> None:
        """Keep a line that was read; over MAX_WAITING_BYTES, lose each until the next `take`."""
        seq, tab, text = line.rstrip(b"\n").decode(errors="replace").partition("\t")
        # Written to the pipe itself, not through PrintStream: its event is unknown.
        if not (tab and seq.isascii() and seq.isdigit()):
            seq, text = str(LOADING), line.rstrip(b"\n").decode(errors="replace")
        with self._lock:
            self._waiting_bytes += len(line)
            if self._waiting_bytes > MAX_WAITING_BYTES:
                self._lost += 1
            else:
                self._lines.append(PrintedLine(int(seq), text))
