"""Tell systemd that this process is ready, alive or stopping, by the protocol of sd_notify(3).

A process that hangs neither ends nor answers; systemd kills it once it has been silent for
`WatchdogSec`. What is told must come from the loop that must not hang. Without systemd, with no
NOTIFY_SOCKET in the environment, nothing is told.

A supervisor that asks, as a probe of Kubernetes, looks at the age of the file GINKGO_ALIVE_FILE,
which is touched each time that systemd would be told that the process is alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import stat
import time
from pathlib import Path

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"
#: The shortest WatchdogSec that does not end a process which works.
INTERVAL_S = 1.0
#: Between two looks whether this process listens: a moment after the application has started.
LISTENING_POLL_S = 0.02


def tell(state: str) -> None:
    """Send `state` to systemd. Never waits and never raises: the work goes on without it."""
    if ALIVE in state:
        _touch()
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            # A leading @ stands for the zero byte of Linux' abstract addresses.
            sender.sendto(state.encode(), re.sub("^@", "\0", address))
    except OSError:
        pass  # it restarts, or its queue is full; the next state is a second away


def _touch() -> None:
    if path := os.environ.get("GINKGO_ALIVE_FILE"):
        with contextlib.suppress(OSError):  # then the probe, which finds no young file, says so
            Path(path).touch()


async def tell_alive() -> None:
    """Tell that the process is ready, then that its event loop turns. Never returns."""
    tell(READY)
    while True:
        tell(ALIVE)
        await asyncio.sleep(INTERVAL_S)


async def tell_alive_once_listening() -> None:
    """The same, from when a socket of this process listens. Never returns.

    A server binds its port only after the start of its application, and tells nobody. Told before,
    a port that is in use would be a process that started well and died.
    """
    while not _listens():
        await asyncio.sleep(LISTENING_POLL_S)
    await tell_alive()


def _listens() -> bool:
    """Return whether a socket of this process listens; True also if that cannot be seen."""
    try:
        descriptors = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        return True
    return any(_is_listening(descriptor) for descriptor in descriptors)


def _is_listening(descriptor: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as same:
            return bool(same.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:  # closed meanwhile, as the one of the listing itself
        return False


class Alive:
    """The same for a loop that is not one of asyncio: `tell` at each turn, sent once a second."""

    def __init__(self) -> None:
        self._next = 0.0

    def tell(self) -> None:
        """Tell that the loop turns; at the first turn, that the process is ready."""
        now = time.monotonic()
        if now >= self._next:
            tell(ALIVE if self._next else f"{READY}\n{ALIVE}")
            self._next = now + INTERVAL_S
