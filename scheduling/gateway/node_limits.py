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


class Limit(NamedTuple):
    """How many are served at once and how many wait."""

    served: int
    waiting: int


#: A daemon sends two requests of commits at once, and asks for the checkpoints of all it starts.
#: Of everything else it has one under way; the second is its repeat, whose first nobody awaits.
LIMITS = {
    "commit": Limit(2, 2),
    "checkpoint": Limit(4, 100),
    "heartbeat": Limit(1, 1),
    "register": Limit(1, 1),
    "goodbye": Limit(1, 1),
    "hello": Limit(1, 1),
    # A body over LARGE bytes, of whatever kind: one at a time.
    "large": Limit(1, 2),
    # Connections of the pools, five for work and three for steps: the others are the neighbours'.
    "work": Limit(3, 200),
    "steps": Limit(2, 200),
}


class Line:
    """Those who are served and those who wait. Not safe across threads."""

    def __init__(self, limit: Limit, sent_away: str) -> None:
        """Begin empty; `sent_away` is said to those for whom there is no room."""
        self.served = 0
        self._limit = limit
        self._sent_away = sent_away
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Return when it is this one's turn. Raise Declined 429 if too many came after it."""
        if self.served < self._limit.served:
            self.served += 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        if len(self._waiting) > self._limit.waiting:
            oldest = self._waiting.popleft()
            if not oldest.done():
                oldest.set_exception(RequestRejected(429, "throttled", self._sent_away))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled() and mine.exception() is None:
                self.leave()  # the turn had just come
            raise

    def leave(self) -> None:
        """Give the turn to who waited longest, if anybody does."""
        while self._waiting:
            following = self._waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        self.served -= 1


_lines: dict[tuple[int, str], Line] = {}

_SENT_AWAY = {
    kind: f"More than {limit.served} of these requests of the node are under way; repeat."
    for kind, limit in LIMITS.items()
}


class Turn:
    """Waits for a turn and holds it. A class, since every beat passes here: a generator that is
    made a context manager costs several times as much.
    """

    __slots__ = ("_key", "_line")

    def __init__(self, node: int, kind: str) -> None:
        """Wait for nothing yet."""
        self._key = node, kind

    async def __aenter__(self) -> None:
        """Wait for the turn. Raise Declined 429."""
        line = _lines.get(self._key)
        if line is None:
            kind = self._key[1]
            line = _lines[self._key] = Line(LIMITS[kind], _SENT_AWAY[kind])
        self._line = line
        try:
            await line.enter()
        except BaseException:
            self._forget()
            raise

    async def __aexit__(self, *error: object) -> None:
        """Give the turn to the next one."""
        self._line.leave()
        self._forget()

    def _forget(self) -> None:
        if self._line.served == 0:
            _lines.pop(self._key, None)


def turn(node: int, kind: str) -> Turn:
    """Wait for a turn of `node` for a request of this kind, and hold it. Raise Declined 429."""
    return Turn(node, kind)
