"""A server that a killed launcher left behind: wait for it, help it to end, clear its lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from ginkgo_site.launcher.errors import StartupError

_LIMIT_S = 60
#: Each signal for an old server, and after how many seconds of waiting it is sent.
_ENDING = ((signal.SIGINT, 0.0), (signal.SIGQUIT, 8.0), (signal.SIGKILL, 13.0))


def wait_out_old_server(data: Path) -> None:
    """Wait for a server that a killed launcher left, helping it to end; clear a stale lock.

    After kill -9 of the launcher, the parent-death signal makes its server shut down. Until that
    has ended, PostgreSQL refuses to start a second server on the data folder.
    """
    lock = data / "postmaster.pid"
    pid = _pid_in(lock)
    if pid is None:
        return
    began = time.monotonic()
    asked: list[signal.Signals] = []
    while _is_server_of(pid, data):
        waited = time.monotonic() - began
        due = [sign for sign, after_s in _ENDING if waited >= after_s and sign not in asked]
        for sign in due:
            asked.append(sign)
            _send(pid, sign)
        if waited > _LIMIT_S:
            raise StartupError(
                f"An old PostgreSQL (process {pid}) still holds {data} after "
                f"{_LIMIT_S} s, although it was killed: it may wait for its disk. Start again once "
                "it has ended."
            )
        time.sleep(0.05)
    # An unrelated process may have this pid by now: PostgreSQL would take it for the server.
    if _pid_in(lock) == pid:
        lock.unlink(missing_ok=True)


def _pid_in(lock: Path) -> int | None:
    try:
        return int(lock.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def _is_server_of(pid: int, data: Path) -> bool:
    """Return whether process `pid` is a PostgreSQL on `data`. A zombie is none: no arguments."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        if sys.platform == "linux":
            return False
        found = subprocess.run(
            ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
        )
        return b"postgres" in found.stdout and str(data).encode() in found.stdout
    except OSError:
        return False
    return str(data).encode() in arguments


def _send(pid: int, sign: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, sign)
