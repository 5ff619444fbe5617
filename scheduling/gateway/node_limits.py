"""What one node may have under way here at once, so that no node starves its neighbours.

A token speaks for one node, and a daemon that is broken or hostile can send whatever it likes as
fast as it likes. Each node therefore has its own lines: a few requests of a kind are served, a few
more wait, and where still more come the one that waited longest is sent away with 429, which a
daemon takes as "repeat". What waits has not been read yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from scheduling.gateway.http import RequestRejected


class QueueLimit(NamedTuple):
    """How many are served at once and how many wait."""

    active: int
    queued: int


#: A daemon sends two requests of commits at once, and asks for the checkpoints of all it starts.
#: Of everything else it has one under way; the second is its repeat, whose first nobody awaits.
LIMITS = {
    "commit": QueueLimit(2, 2),
    "checkpoint": QueueLimit(4, 100),
    "heartbeat": QueueLimit(1, 1),
    "register": QueueLimit(1, 1),
    "goodbye": QueueLimit(1, 1),
    "hello": QueueLimit(1, 1),
    # A body over LARGE bytes, of whatever kind: one at a time.
    "large": QueueLimit(1, 2),
    # Connections of the pools, five for work and three for steps: the others are the neighbours'.
    "work": QueueLimit(3, 200),
    "steps": QueueLimit(2, 200),
}


class RequestQueue:
    """Those who are served and those who wait. Not safe across threads."""

    def __init__(self, limit: QueueLimit, refusal: str) -> None:
        """Begin empty; `sent_away` is said to those for whom there is no room."""
        self.active = 0
        self._limit = limit
        self._refusal = refusal
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Return when it is this one's turn. Raise Declined 429 if too many came after it."""
        if self.active < self._limit.active:
            self.active += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if len(self._waiting) > self._limit.queued:
            oldest = self._waiting.popleft()
            if not oldest.done():
                oldest.set_exception(RequestRejected(429, "throttled", self._refusal))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release()  # the turn had just come
            raise

    def release(self) -> None:
        """Give the turn to who waited longest, if anybody does."""
        while self._waiting:
            next_request = self._waiting.popleft()
            if not next_request.done():
                next_request.set_result(None)
                return
        self.active -= 1


_queues: dict[tuple[int, str], RequestQueue] = {}

_REFUSALS = {
    kind: f"More than {limit.active} of these requests of the node are under way; repeat."
    for kind, limit in LIMITS.items()
}


class Admission:
    """Waits for a turn and holds it. A class, since every beat passes here: a generator that is
    made a context manager costs several times as much.
    """

    __slots__ = ("_key", "_queue")

    def __init__(self, node: int, kind: str) -> None:
        """Wait for nothing yet."""
        self._key = node, kind

    async def __aenter__(self) -> None:
        """Wait for the turn. Raise Declined 429."""
        queue = _queues.get(self._key)
        if queue is None:
            kind = self._key[1]
            queue = _queues[self._key] = RequestQueue(LIMITS[kind], _REFUSALS[kind])
        self._queue = queue
        try:
            await queue.acquire()
        except BaseException:
            self._forget()
            raise

    async def __aexit__(self, *error: object) -> None:
        """Give the turn to the next one."""
        self._queue.release()
        self._forget()

    def _forget(self) -> None:
        if self._queue.active == 0:
            _queues.pop(self._key, None)


def admit(node: int, kind: str) -> Admission:
    """Wait for a turn of `node` for a request of this kind, and hold it. Raise Declined 429."""
    return Admission(node, kind)
