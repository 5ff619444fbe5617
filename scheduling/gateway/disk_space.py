"""Whether the database's disk has room, as far as a gateway can know.

A commit that is refused for lack of space says so, wherever the database is. The room that is left
is known for the embedded server only, whose disk is one of this machine.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from scheduling.db.transaction import Transaction
from scheduling.enact.storage import report_disk, reserve_alert_space

#: Nodes repeat a commit that was refused within a second or two. Without one for longer, nobody
#: knows any more.
FORGET_AFTER_S = 15.0
#: Less room than this is an alert, while it can still be written: this share of the disk, and a
#: gigabyte, or a fifth of a disk that is small.
MIN_FREE_SHARE = 0.05
MIN_FREE_BYTES = 1 << 30
MIN_FREE_SHARE_OF_SMALL = 0.2
WAL_SEGMENT_BYTES = 16 << 20


class DiskSpace:
    """What this process knows of the disk of its database."""

    def __init__(self) -> None:
        self._refused_at: float | None = None
        self._cause = ""
        self._recorded_reason: str | None = None
        self._free_bytes: int | None = None
        self.reason = ""  #: what the alert says, known here also where nothing can be written
        self.since: datetime | None = None

    def note_refused(self, error: psycopg.Error) -> None:
        """Note that something could not be written for lack of space."""
        self._refused_at = time.monotonic()
        self._cause = (error.diag.message_primary or "no space left on device").rstrip(".")

    def problem(self) -> str:
        """Return why commits are refused or soon will be, or an empty text.

        Some commits still find room on a full disk, so one that got through proves nothing.
        """
        if self._free_bytes is not None and self._free_bytes < WAL_SEGMENT_BYTES:
            return (
                f"The disk of the database is full: {self._free_bytes / 1e6:,.1f} MB are left, and "
                f"the next file of its log needs {WAL_SEGMENT_BYTES / 1e6:,.0f} MB."
            )
        if self._refused_at is None or time.monotonic() - self._refused_at > FORGET_AFTER_S:
            return ""
        return f"The disk of the database is full, commits are refused: {self._cause}."

    def check(self, folder: Path | None) -> None:
        """See whether the disk is full or nearly so. `folder` lies on it."""
        self._free_bytes = free_bytes(folder) if folder is not None else None
        reason = "the disk of the database is full: commits are refused" if self.problem() else ""
        self.reason = reason or (low_space_reason(folder) if folder is not None else "")
        if not self.reason or self.since is None:
            self.since = datetime.now(UTC) if self.reason else None

    def record(self) -> Transaction[None]:
        """Write down what was seen, for the alert."""
        reason = self.reason
        if self._recorded_reason is None:
            yield from reserve_alert_space()
        if reason or reason != self._recorded_reason:
            yield from report_disk(reason)
            self._recorded_reason = reason


def free_bytes(folder: Path) -> int | None:
    """Return how much can be written to the disk of `folder`, or None where nobody knows."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def low_space_reason(folder: Path) -> str:
    """Return how little room there is, or an empty text where there is enough or nobody knows."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return ""
    free = found.f_bavail * found.f_frsize
    share = found.f_bavail / max(found.f_blocks, 1)
    least = min(MIN_FREE_BYTES, MIN_FREE_SHARE_OF_SMALL * found.f_blocks * found.f_frsize)
    if share >= MIN_FREE_SHARE and free >= least:
        return ""
    return f"the disk of the database has {free / 1e6:,.0f} MB left, {100 * share:.1f} %"


#: Of this process.
DISK_SPACE = DiskSpace()
