"""Bodies of requests: how large, how long, and how much of them at once in this process."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Generator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from scheduling.gateway.http import Receive, RequestRejected, read_body
from scheduling.gateway.node_limits import Turn, turn

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
        await self.take(size)
        try:
            yield
        finally:
            self.give_back(size)

    async def take(self, size: int) -> None:
        """Take `size` bytes, to be given back. Raise Declined 503."""
        if self._waiting or size > self.free:
            await self._wait(size)
        else:
            self.free -= size

    async def _wait(self, size: int) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, mine))
        try:
            async with asyncio.timeout(ROOM_WITHIN_S):
                await mine
        except BaseException as error:
            if mine.done() and not mine.cancelled():
                self.give_back(size)  # it was given at the last moment
            mine.cancel()
            self.give_back(0)  # those behind it may fit
            if isinstance(error, TimeoutError):
                raise RequestRejected(
                    503, "unavailable", "Too many bytes of requests are under way; repeat."
                ) from None
            raise

    def give_back(self, size: int) -> None:
        """Give `size` bytes to who waits for them."""
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


class Body:
    """The body of a request; its bytes count until the block ends. As `Turn`, it is a class."""

    __slots__ = ("_announced", "_large", "_node", "_receive")

    def __init__(self, node: int, receive: Receive, announced: int) -> None:
        """Read nothing yet."""
        self._node, self._receive, self._announced = node, receive, announced
        self._large: Turn | None = None

    async def __aenter__(self) -> bytes:
        """Wait for room, and return the whole body. Raise Declined."""
        if self._announced > LARGE:
            large = turn(self._node, "large")
            await large.__aenter__()
            self._large = large
        try:
            await _room.take(self._announced)
            try:
                return await _in_time(read_body(self._receive, self._announced))
            except BaseException:
                _room.give_back(self._announced)
                raise
        except BaseException:
            await self._leave()
            raise

    async def __aexit__(self, *error: object) -> None:
        """Give back what it holds."""
        _room.give_back(self._announced)
        await self._leave()

    async def _leave(self) -> None:
        if self._large is not None:
            await self._large.__aexit__()


def body_of(node: int, receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> Body:
    """Give the whole body of a request of `node`.

    Raise Declined: 413 over `limit`, 408 where it does not come in time.
    """
    return Body(node, receive, _announced(headers, limit))


async def _in_time(reading: Coroutine[Any, Any, bytes]) -> bytes:
    """Return what `reading` does, or raise Declined 408.

    A small body comes together with its headers, and then there is nothing to wait for: a timer for
    each would cost more than everything else that is done with the body of a beat.
    """
    try:
        waits_for = reading.send(None)
    except StopIteration as read:
        whole: bytes = read.value
        return whole
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            return await _go_on(reading, waits_for)
    except TimeoutError:
        raise RequestRejected(
            408, "too_slow", f"The body was not whole in {BODY_WITHIN_S:g} s; send it again."
        ) from None


@types.coroutine
def _go_on(begun: Coroutine[Any, Any, bytes], waits_for: Any) -> Generator[Any, Any, bytes]:
    """Await a coroutine that was begun and waits."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:
                waits_for = begun.throw(error)
            else:
                waits_for = begun.send(sent)
    except StopIteration as read:
        whole: bytes = read.value
        return whole


def _announced(headers: Mapping[bytes, bytes], limit: int) -> int:
    """Return how many bytes will come at most. Raise Declined 413 where that is over `limit`."""
    said = headers.get(b"content-length", b"")
    if not said.isdigit():
        return limit  # in chunks: it may be anything
    if len(said) > len(str(limit)) or int(said) > limit:
        raise RequestRejected(413, "payload_too_large", too_large(limit))
    return int(said)


def too_large(limit: int) -> str:
    """Return the sentence about a body that is over its limit."""
    return f"The body is over {limit:,} bytes; send less at a time."
