"""One launcher at a time for each GINKGO_HOME, and the processes that a killed launcher left."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from ginkgo_site.launcher.errors import StartupError

#: Set in every child process, so that the next start finds those that outlived a killed launcher.
OWNER_ENV = "GINKGO_STARTED_BY_HOME"


class InstanceLock:
    """The file lock `lock` in GINKGO_HOME, held until this process ends.

    The kernel releases the lock with the process, so it is never stale.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file: Any = None
        self.is_held = False

    def acquire(self) -> None:
        """Take the lock. Raise `StartupError` if it is taken, or the home cannot be written."""
        try:
            self._home.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._file = open(self._home / "lock", "a+", encoding="utf-8")  # noqa: SIM115
            (self._home / "lock").chmod(0o600)
        except OSError as error:
            raise StartupError(
                f"GINKGO_HOME {self._home} cannot be written ({error.strerror}): "
                "make it writable, or name another folder."
            ) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(self._in_use_message()) from None
        self.is_held = True
        self.note(url=None)

    def note(self, url: str | None) -> None:
        """Record pid and address of the holder for the message that a second launcher prints."""
        self._file.seek(0)
        self._file.truncate()
        json.dump({"pid": os.getpid(), "url": url}, self._file)
        self._file.flush()

    def _in_use_message(self) -> str:
        self._file.seek(0)
        try:
            held = json.loads(self._file.read())
            where = f"at {held['url']}" if held["url"] else "still starting"
            who = f"process {held['pid']}, {where}"
        except (ValueError, KeyError):
            who = "another process"
        return (
            f"GINKGO_HOME {self._home} is in use by {who}: stop that one, "
            "or choose another folder with GINKGO_HOME."
        )


def kill_orphans(home: Path) -> int:
    """Kill the processes that an earlier launcher of this home left running. Return their number.

    Raise `StartupError` if one of them has not ended after ten seconds.
    PostgreSQL is not among them: it shuts down by itself, and its start waits for that.
    """
    left = _processes_of(home)
    for process in left:
        _send(process, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while running := [each for each in left if each.is_running() and not _has_ended(each)]:
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in running)
            raise StartupError(
                f"Processes of an earlier start have not ended 10 s after SIGKILL: {pids}. They "
                "may wait for a disk. Start again once they have ended."
            )
        time.sleep(0.02)
    return len(left)


def _processes_of(home: Path) -> list[psutil.Process]:
    """Return the other processes of this machine that a launcher of `home` has started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(OWNER_ENV) == str(home):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # the process of another user, or one that has exited
    return found


def _send(process: psutil.Process, sign: signal.Signals) -> None:
    try:
        process.send_signal(sign)
    except psutil.Error:
        pass  # it has exited meanwhile


def _has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
