"""Measure whether commits succeed in this process at all.

The liveness write has connections of its own and heartbeats write other tables, so both stay
healthy while every commit waits: for a locked table (CREATE INDEX), a full disk, a missing standby.
Missed deadlines are then no fault of a node or a portfolio (`could_not_report` in
`enact/handoff/deadlines.py`).

One successful commit shows that the path is open, whatever other commits wait for: otherwise a
single node could suspend the deadlines of all others. For the same reason the report of a process
does not count while commits succeed in another one (`RECORD_GATEWAY` in `enact/lease/gateways.py`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg

#: A commit takes milliseconds. While none succeeds, one that waits for longer is blocked.
BLOCKED_AFTER_S = 1.0
#: Daemons repeat a commit within a second: if none was tried for this time, none waits any more.
FORGOTTEN_AFTER_S = 5.0


class CommitHealth:
    """Measures for how long commits of this process have waited without any success."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._in_progress = 0
        self._since: float | None = None  #: start of the first attempt after the last success
        self._ended_at = 0.0  #: end of the last attempt
        self._passed_at: float | None = None

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Measure one commit request. Any answer of the database counts as a success."""
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
        """Return the seconds since the last successful commit here, or None before the first."""
        return None if self._passed_at is None else self._clock() - self._passed_at

    def blocked_s(self) -> float | None:
        """Return for how long commits have waited without a success, or None if they succeed."""
        now = self._clock()
        if not self._in_progress and now - self._ended_at > FORGOTTEN_AFTER_S:
            self._since = None
        if self._since is None or now - self._since < BLOCKED_AFTER_S:
            return None
        return now - self._since


#: The commits of this process.
COMMIT_HEALTH = CommitHealth()
