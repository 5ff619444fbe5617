"""The log files under GINKGO_HOME/logs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_KEPT = 3
_LIMIT_BYTES = 50_000_000


def rotate(folder: Path) -> None:
    """Begin new log files and keep the last three of each. Nobody else reads them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for log in sorted(folder.glob("*.log")):
        if not log.stat().st_size:
            continue
        for number in range(_KEPT - 1, 0, -1):
            older = log.with_name(f"{log.name}.{number}")
            if older.exists():
                older.replace(log.with_name(f"{log.name}.{number + 1}"))
        log.replace(log.with_name(f"{log.name}.1"))


def shorten(folder: Path) -> None:
    """Keep a log from filling the disk: past the limit it is copied to NAME.log.1 and cut.

    The processes append, so cutting under them loses at most the lines of that moment.
    """
    for log in folder.glob("*.log"):
        if log.stat().st_size > _LIMIT_BYTES:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


def last_line(log: Path) -> str:
    """Return the last line of `log`, for a sentence about a process that ended."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].strip() if lines else "it said nothing"
