"""Limit the concurrent requests of each node, so that no node starves the others.

A token belongs to one node, and a broken or hostile daemon can send anything at any rate. Each node
therefore has its own queues: a few requests of a kind are served, a few more wait, and beyond that
the one that waited longest is answered 429, which a daemon repeats. The body of a waiting request
has not been read yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from scheduling.gateway.http import RequestRejected


class QueueLimit(NamedTuple):
    """Numbers of requests that are served at once and that may wait."""

    active: int
    queued: int


#: A daemon sends two commit requests at once, and requests the checkpoints of all portfolios that
#: it starts. Of every other kind it has one in progress; a second one is its repeat, and the daemon
#: no longer waits for the first.
LIMITS = {
    "commit": QueueLimit(2, 2),
    "checkpoint": QueueLimit(4, 100),
    "heartbeat": QueueLimit(1, 1),
    "register": QueueLimit(1, 1),
    "goodbye": QueueLimit(1, 1),
    "hello": QueueLimit(1, 1),
    "log": QueueLimit(1, 0),
    # Artifacts and locks, which a daemon fetches a few at a time and repeats.
    "download": QueueLimit(2, 50),
    # One request per feed that waits for the next record, and reads of older records.
    "feed": QueueLimit(64, 64),
    # Reads of streams by requests of kind "feed". Nodes share those of the newest records.
    "stream": QueueLimit(2, 64),
    # Bodies over LARGE_BODY bytes, of any kind of request.
    "large": QueueLimit(1, 2),
    # Connections of the pools `work`, which has five, and `steps`, which has three: the others stay
    # free for other nodes.
    "work": QueueLimit(3, 200),
    "steps": QueueLimit(2, 200),
}


class RequestQueue:
    """Requests that are served and requests that wait. Not thread-safe."""

    def __init__(self, limit: QueueLimit, refusal: str) -> None:
        """Start empty. `refusal` is the message of a 429."""
        self.active = 0
        self._limit = limit
        self._refusal = refusal
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Return once this request may be served. Raise RequestRejected 429 if it is dropped.

        A full queue drops the request that has waited longest.
        """
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
                self.release()  # it had just been admitted
            raise

    def release(self) -> None:
        """Serve the request that waited longest, if any."""
        while self._waiting:
            next_request = self._waiting.popleft()
            if not next_request.done():
                next_request.set_result(None)
                return
        self.active -= 1


_queues: dict[tuple[int, str], RequestQueue] = {}

_REFUSALS = {
    kind: f"The node has {limit.active} requests of kind {kind} in progress; repeat later."
    for kind, limit in LIMITS.items()
}


class Admission:
    """Context manager: wait until `node` may have a request of this kind served, then hold a place.

    A class, since every heartbeat passes here: one made of a generator costs several times as much.
    """

    __slots__ = ("_key", "_queue")

    def __init__(self, node: int, kind: str) -> None:
        """Wait for nothing yet. `kind` is a key of LIMITS."""
        self._key = node, kind

    async def __aenter__(self) -> None:
        """Wait until the request may be served.

        Raise RequestRejected 429 if the queue is full and this request has waited in it longest.
        """
        queue = _queues.get(self._key)
        if queue is None:
            _, kind = self._key
            queue = _queues[self._key] = RequestQueue(LIMITS[kind], _REFUSALS[kind])
        self._queue = queue
        try:
            await queue.acquire()
        except BaseException:
            self._drop_idle_queue()
            raise

    async def __aexit__(self, *error: object) -> None:
        """Admit the next request."""
        self._queue.release()
        self._drop_idle_queue()

    def _drop_idle_queue(self) -> None:
        """Forget a queue without requests, so that `_queues` does not grow with every node."""
        if self._queue.active == 0:
            _queues.pop(self._key, None)
