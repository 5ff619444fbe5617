"""What a command does when nobody reads its output any more, as after the last line of `head`."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_STATUS = 128 + signal.SIGPIPE  #: what a shell shows for a process that SIGPIPE ended


@contextmanager
def exits_on_closed_output() -> Iterator[None]:
    """End the process without a traceback, with status 141, once nobody reads its output.

    SIGPIPE itself stays ignored: it would also end a command whose socket is closed by the other
    side. For the same reason only a closed stdout counts here. Output to a stdout or stderr that
    was closed from the start, as by `>&-`, is dropped.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _is_closed(sys.stdout.fileno()):
            raise
        # The interpreter flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_STATUS)


def _is_closed(fd: int) -> bool:
    """Return whether the pipe that `fd` writes to has lost its reader."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
