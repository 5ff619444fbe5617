"""Free space on the disk of the database, as far as this process can know it.

There are two signs: commits that the database refused for lack of space, wherever it runs; and the
free space itself, which is known of the embedded server only, whose disk is on this machine.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg

#: Nodes repeat a refused commit within a second or two. Without a refusal for longer, the state is
#: unknown.
FORGET_AFTER_S = 15.0
#: An alert opens, while it can still be written, if less than this share of the disk is free.
MIN_FREE_SHARE = 0.05
#: It also opens if less than a gibibyte is free or, on a disk under 5 GiB, less than a fifth.
MIN_FREE_BYTES = 1 << 30
MIN_FREE_SHARE_OF_SMALL = 0.2
WAL_SEGMENT_BYTES = 16 << 20  #: of the next file of PostgreSQL's log


class DiskSpace:
    """What this process knows about the disk of its database."""

    def __init__(self) -> None:
        self._refused_at: float | None = None
        self._cause = ""
        #: The reason that enact/storage.py stored last; None: this process has stored none yet.
        self.recorded_reason: str | None = None
        self._free_bytes: int | None = None
        self.reason = ""  #: text of the alert, known here even if nothing can be written
        self.since: datetime | None = None  #: since when there is a reason

    def note_refused(self, error: psycopg.Error) -> None:
        """Record a write that was refused for lack of space."""
        self._refused_at = time.monotonic()
        self._cause = (error.diag.message_primary or "no space left on device").rstrip(".")

    def problem(self) -> str:
        """Return a sentence on why commits are refused or soon will be; "" if nothing says so.

        A refusal counts for FORGET_AFTER_S: some commits still succeed on a full disk, so a success
        after the refusal proves nothing.
        """
        if self._free_bytes is not None and self._free_bytes < WAL_SEGMENT_BYTES:
            return (
                f"The disk of the database is full: {self._free_bytes / 1e6:,.1f} MB are free, and "
                f"the next file of its log needs {WAL_SEGMENT_BYTES / 1e6:,.0f} MB."
            )
        if self._refused_at is None or time.monotonic() - self._refused_at > FORGET_AFTER_S:
            return ""
        return f"The disk of the database is full, commits are refused: {self._cause}."

    def check(self, folder: Path | None) -> None:
        """Set `reason` and `since` from refused writes and from the disk that has `folder`.

        `folder`: that of the database; None: the database runs on another machine.
        """
        self._free_bytes = None if folder is None else free_bytes(folder)
        if self.problem():
            self.reason = "the disk of the database is full: commits are refused"
        else:
            self.reason = "" if folder is None else low_space_reason(folder)
        self.since = (self.since or datetime.now(UTC)) if self.reason else None


def free_bytes(folder: Path) -> int | None:
    """Return the free bytes on the disk of `folder`, or None if unknown."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def low_space_reason(folder: Path) -> str:
    """Return how much is free on the disk of `folder`, for an alert; "" if enough or not known."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return ""
    free = found.f_bavail * found.f_frsize
    share = found.f_bavail / max(found.f_blocks, 1)  # some virtual file systems have 0 blocks
    least_free = min(MIN_FREE_BYTES, MIN_FREE_SHARE_OF_SMALL * found.f_blocks * found.f_frsize)
    if share >= MIN_FREE_SHARE and free >= least_free:
        return ""
    return f"the disk of the database has {free / 1e6:,.0f} MB free, {100 * share:.1f} %"


#: The one instance of this process.
DISK_SPACE = DiskSpace()
