"""Tell systemd that this process is ready, alive or stopping, by the protocol of sd_notify(3).

A process that hangs neither ends nor answers; systemd kills it once it has been silent for
`WatchdogSec`. So call `tell` from the loop that must not hang. Without systemd there is no
NOTIFY_SOCKET in the environment, and nothing is told.

Other supervisors, such as a probe of Kubernetes, look at the age of the file GINKGO_ALIVE_FILE. It
is touched whenever systemd would be told that the process is alive.
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
#: Seconds between two reports that a process is alive. WatchdogSec must be longer.
INTERVAL_S = 1.0
#: Seconds between two checks whether the server of this process listens already.
LISTENING_POLL_S = 0.02


def tell(state: str) -> None:
    """Send `state` to systemd. Never waits and never raises: the work goes on without systemd."""
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
        pass  # systemd restarts, or its queue is full; the next report follows in a second


def _touch() -> None:
    if path := os.environ.get("GINKGO_ALIVE_FILE"):
        with contextlib.suppress(OSError):  # the probe then finds an old file, and reports that
            Path(path).touch()


async def tell_alive() -> None:
    """Report once that the process is ready, then each second that it is alive. Never returns."""
    tell(READY)
    while True:
        tell(ALIVE)
        await asyncio.sleep(INTERVAL_S)


async def tell_alive_once_listening() -> None:
    """Do as `tell_alive`, but only once a socket of this process listens. Never returns.

    A server binds its port after its application has started, and does not notify the application.
    Without the wait, a process whose port is in use would report that it is ready, and then end.
    """
    while not _listens():
        await asyncio.sleep(LISTENING_POLL_S)
    await tell_alive()


def _listens() -> bool:
    """Return whether a socket of this process listens; True also if that cannot be found out."""
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
    except OSError:  # closed meanwhile, as is the one that listed /dev/fd
        return False


class Alive:
    """Reports of a process without asyncio, whose main loop calls `tell` at each turn."""

    def __init__(self) -> None:
        self._next = 0.0  #: when to report next; 0: nothing was reported

    def tell(self) -> None:
        """Report that the process is alive, at most once a second; first also that it is ready."""
        now = time.monotonic()
        if now >= self._next:
            tell(ALIVE if self._next else f"{READY}\n{ALIVE}")
            self._next = now + INTERVAL_S
