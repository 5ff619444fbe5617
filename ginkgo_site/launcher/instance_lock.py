"""GINKGO_HOME: one launcher at a time, its files, and what a killed one left behind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from ginkgo_site.launcher.errors import StartupError

#: Set in every child; by it the next start finds what outlived a killed launcher.
OWNER_ENV = "GINKGO_STARTED_BY_HOME"


class InstanceLock:
    """Holds `lock` in the home for as long as this process lives.

    The kernel lets go of it when the process ends, however it ends, so it is never stale.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file: Any = None
        self._is_held = False

    @property
    def is_held(self) -> bool:
        """Whether this process has the home."""
        return self._is_held

    def acquire(self) -> None:
        """Take the lock, or raise `StartupError` naming who has it."""
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
            raise StartupError(self._who_has_it()) from None
        self._is_held = True
        self.note(url=None)

    def note(self, url: str | None) -> None:
        """Leave word of who holds it, and where it will answer, for whoever comes second."""
        self._file.seek(0)
        self._file.truncate()
        json.dump({"pid": os.getpid(), "url": url}, self._file)
        self._file.flush()

    def _who_has_it(self) -> str:
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


def kill_orphans(home: Path, limit_s: float = 10) -> int:
    """Kill what an earlier launcher of this home started and left, and return how many.

    PostgreSQL is not among them: it shuts down by itself and is waited for elsewhere.
    """
    left = _marked(home)
    for process in left:
        _send(process, signal.SIGKILL)
    deadline = time.monotonic() + limit_s
    while any(process.is_running() and not _is_zombie(process) for process in left):
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in left)
            raise StartupError(
                f"Processes of an earlier start do not end ({pids}): end them, then start again."
            )
        time.sleep(0.02)
    return len(left)


def _marked(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(OWNER_ENV) == str(home):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # somebody else's, or gone
    return found


def _send(process: psutil.Process, sign: signal.Signals) -> None:
    try:
        process.send_signal(sign)
    except psutil.Error:
        pass  # gone in between


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def delete_data(home: Path, postgres_base: Path) -> None:
    """Delete what earlier starts of this home keep, and nothing that we did not make."""
    for folder in (postgres_base, home / "postgres", home / "secrets", home / "logs"):
        shutil.rmtree(folder, ignore_errors=True)


def write_private(path: Path, content: dict[str, Any]) -> None:
    """Write JSON for the owner alone. A reader sees the old file or the whole new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    draft.replace(path)


def read_private(path: Path) -> dict[str, Any]:
    """Return what `write_private` wrote, or an empty dictionary when there is nothing readable."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
