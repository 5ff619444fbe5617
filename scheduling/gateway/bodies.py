"""Bodies of requests: how large, how long, and how much of them at once in this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext

from scheduling.gateway.http import Declined, Receive, read_body
from scheduling.gateway.turns import turn

SMALL_BODY = 1_000_000
#: A portfolio process answers with 16 MiB at most (`portfolios.runtime.messages.LARGEST_REPLY`).
COMMIT_BODY = 18_000_000
LARGE = 1_000_000  #: a node has one body over this at a time
ALL_BODIES = 64_000_000  #: bytes of all bodies at once
BODY_WITHIN_S = 10.0  #: a daemon gives up on its request after 8 s
ROOM_WITHIN_S = 5.0


class Room:
    """Bytes that may be held at once; who finds none waits, in the order in which they came."""

    def __init__(self, size: int) -> None:
        """Begin with all of it free."""
        self.free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def for_bytes(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes. Raise Declined 503 where none become free in time."""
        if self._waiting or size > self.free:
            await self._wait(size)
        else:
            self.free -= size
        try:
            yield
        finally:
            self._give_back(size)

    async def _wait(self, size: int) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, mine))
        try:
            async with asyncio.timeout(ROOM_WITHIN_S):
                await mine
        except BaseException as error:
            if mine.done() and not mine.cancelled():
                self._give_back(size)  # it was given at the last moment
            mine.cancel()
            self._give_back(0)  # those behind it may fit
            if isinstance(error, TimeoutError):
                raise Declined(
                    503, "unavailable", "Too many bytes of requests are under way; repeat."
                ) from None
            raise

    def _give_back(self, size: int) -> None:
        self.free += size
        while self._waiting:
            wanted, following = self._waiting[0]
            if not following.done():
                if wanted > self.free:
                    return
                self.free -= wanted
                following.set_result(None)
            self._waiting.popleft()


_room = Room(ALL_BODIES)


@asynccontextmanager
async def body_of(
    node: int, receive: Receive, headers: Mapping[bytes, bytes], limit: int
) -> AsyncIterator[bytes]:
    """Yield the whole body of a request of `node`; its bytes count until the block ends.

    Raise Declined: 413 over `limit`, 408 where it does not come in time.
    """
    announced = _announced(headers, limit)
    large = turn(node, "large") if announced > LARGE else nullcontext()
    async with large, _room.for_bytes(announced):
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                body = await read_body(receive, announced)
        except TimeoutError:
            raise Declined(
                408, "too_slow", f"The body was not whole in {BODY_WITHIN_S:g} s; send it again."
            ) from None
        yield body


def _announced(headers: Mapping[bytes, bytes], limit: int) -> int:
    """Return how many bytes will come at most. Raise Declined 413 where that is over `limit`."""
    said = headers.get(b"content-length", b"")
    if not said.isdigit():
        return limit  # in chunks: it may be anything
    if len(said) > len(str(limit)) or int(said) > limit:
        raise Declined(413, "payload_too_large", too_large(limit))
    return int(said)


def too_large(limit: int) -> str:
    """Return the sentence about a body that is over its limit."""
    return f"The body is over {limit:,} bytes; send less at a time."
