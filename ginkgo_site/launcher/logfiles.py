"""Open, rotate, shorten and quote the log files under GINKGO_HOME/logs."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import IO

_KEPT = 3
_LIMIT_BYTES = 50_000_000


def append_to(log: Path) -> IO[bytes]:
    """Open `log` for appending, with mode 600."""
    return open(os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600), "ab")


def rotate(folder: Path) -> None:
    """Start new log files and keep the last three of each, with mode 600."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for log in folder.glob("*.log*"):
        log.chmod(0o600)  # earlier releases created them world-readable
    for log in sorted(folder.glob("*.log")):
        if not log.stat().st_size:
            continue
        for number in range(_KEPT - 1, 0, -1):
            older = log.with_name(f"{log.name}.{number}")
            if older.exists():
                older.replace(log.with_name(f"{log.name}.{number + 1}"))
        log.replace(log.with_name(f"{log.name}.1"))


def shorten(folder: Path) -> None:
    """Copy each log over the limit to NAME.log.1 and empty it, so that none fills the disk.

    The processes append, so cutting under them loses at most the lines of that moment.
    """
    for log in folder.glob("*.log"):
        if log.stat().st_size > _LIMIT_BYTES:
            shutil.copy(log, log.with_name(f"{log.name}.1"))  # with its mode
            os.truncate(log, 0)


def last_line(log: Path) -> str:
    """Return the last line of `log`, for a sentence about its process; "no output" without one."""
    lines = _lines(log)
    return lines[-1].strip() if lines else "no output"


def last_error(log: Path) -> str:
    """Return the last line of `log` with an error of PostgreSQL, else its last line."""
    errors = [line for line in _lines(log) if re.search(r"\b(FATAL|PANIC|error): ", line)]
    return errors[-1].strip() if errors else last_line(log)


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return []
