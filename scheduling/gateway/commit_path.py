"""Measures whether commits get through this process at all.

The pulse has connections of its own and beats write other tables, so both stay healthy while every
commit waits: for a table that is locked (CREATE INDEX), a full disk, a standby that is gone. Who is
late then is late by no fault of a node or a portfolio (`DELAYED` in `enact/handoff/deadlines.py`).

One commit that gets through says that the path is open, whatever waits beside it: a single node
must not be able to keep the deadlines of all others from being judged. Nor must a single process:
its word does not count while commits get through another one (`PULSE` in `enact/lease.py`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg

#: A commit takes milliseconds. One that waits for longer, while none gets through, stands.
BLOCKED_AFTER_S = 1.0
#: Daemons repeat a commit within a second, so after this time nothing waits any more.
FORGOTTEN_AFTER_S = 5.0


class CommitPath:
    """Notes since when commits have waited without one that got through."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._in_progress = 0
        self._since: float | None = None  #: begin of the first attempt after the last passage
        self._ended_at = 0.0  #: of the last attempt
        self._passed_at: float | None = None

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Surround one request's way to the database and back. Any answer of it is a passage."""
        if self._since is None:
            self._since = self._clock()
        self._in_progress += 1
        passed = False
        try:
            yield
            passed = True
        except (psycopg.DataError, psycopg.IntegrityError):
            passed = True
            raise
        finally:
            self._in_progress -= 1
            self._ended_at = self._clock()
            if passed:
                self._passed_at = self._ended_at
                self._since = self._ended_at if self._in_progress else None

    def passed_s(self) -> float | None:
        """Return how long ago a commit got through here; None where none ever did."""
        return None if self._passed_at is None else self._clock() - self._passed_at

    def blocked_s(self) -> float | None:
        """Return for how long commits have waited without a passage; None where they pass."""
        now = self._clock()
        if not self._in_progress and now - self._ended_at > FORGOTTEN_AFTER_S:
            self._since = None
        if self._since is None or now - self._since < BLOCKED_AFTER_S:
            return None
        return now - self._since


#: Of this process.
COMMIT_PATH = CommitPath()
