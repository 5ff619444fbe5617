"""Bodies of requests: how large, how long, and how much of them at once in this process."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Generator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from scheduling.gateway.http import Receive, RequestRejected, read_body
from scheduling.gateway.node_limits import Admission, admit

MAX_SMALL_BODY = 1_000_000
#: A portfolio process answers with 16 MiB at most (`portfolios.runtime.messages.LARGEST_REPLY`).
MAX_COMMIT_BODY = 18_000_000
LARGE_BODY = 1_000_000  #: a node has one body over this at a time
MAX_TOTAL_BODIES = 64_000_000  #: bytes of all bodies at once
BODY_TIMEOUT_S = 10.0  #: a daemon gives up on its request after 8 s
BYTES_WAIT_S = 5.0


class ByteBudget:
    """Bytes that may be held at once; who finds none waits, in the order in which they came."""

    def __init__(self, size: int) -> None:
        """Begin with all of it free."""
        self.free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def holding(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes. Raise Declined 503 where none become free in time."""
        await self.acquire(size)
        try:
            yield
        finally:
            self.release(size)

    async def acquire(self, size: int) -> None:
        """Take `size` bytes, to be given back. Raise Declined 503."""
        if self._waiting or size > self.free:
            await self._wait(size)
        else:
            self.free -= size

    async def _wait(self, size: int) -> None:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, granted))
        try:
            async with asyncio.timeout(BYTES_WAIT_S):
                await granted
        except BaseException as error:
            if granted.done() and not granted.cancelled():
                self.release(size)  # it was given at the last moment
            granted.cancel()
            self.release(0)  # those behind it may fit
            if isinstance(error, TimeoutError):
                raise RequestRejected(
                    503, "unavailable", "Too many bytes of requests are under way; repeat."
                ) from None
            raise

    def release(self, size: int) -> None:
        """Give `size` bytes to who waits for them."""
        self.free += size
        while self._waiting:
            needed, next_request = self._waiting[0]
            if not next_request.done():
                if needed > self.free:
                    return
                self.free -= needed
                next_request.set_result(None)
            self._waiting.popleft()


_total = ByteBudget(MAX_TOTAL_BODIES)


class RequestBody:
    """The body of a request; its bytes count until the block ends. As `Turn`, it is a class."""

    __slots__ = ("_announced", "_large", "_node", "_receive")

    def __init__(self, node: int, receive: Receive, announced: int) -> None:
        """Read nothing yet."""
        self._node, self._receive, self._announced = node, receive, announced
        self._large: Admission | None = None

    async def __aenter__(self) -> bytes:
        """Wait for room, and return the whole body. Raise Declined."""
        if self._announced > LARGE_BODY:
            large = admit(self._node, "large")
            await large.__aenter__()
            self._large = large
        try:
            await _total.acquire(self._announced)
            try:
                return await _read_in_time(read_body(self._receive, self._announced))
            except BaseException:
                _total.release(self._announced)
                raise
        except BaseException:
            await self._release_large()
            raise

    async def __aexit__(self, *error: object) -> None:
        """Give back what it holds."""
        _total.release(self._announced)
        await self._release_large()

    async def _release_large(self) -> None:
        if self._large is not None:
            await self._large.__aexit__()


def request_body(
    node: int, receive: Receive, headers: Mapping[bytes, bytes], limit: int
) -> RequestBody:
    """Give the whole body of a request of `node`.

    Raise Declined: 413 over `limit`, 408 where it does not come in time.
    """
    return RequestBody(node, receive, _announced(headers, limit))


async def _read_in_time(coroutine: Coroutine[Any, Any, bytes]) -> bytes:
    """Return what `reading` does, or raise Declined 408.

    A small body comes together with its headers, and then there is nothing to wait for: a timer for
    each would cost more than everything else that is done with the body of a beat.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration as read:
        whole: bytes = read.value
        return whole
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _resume(coroutine, waits_for)
    except TimeoutError:
        raise RequestRejected(
            408, "too_slow", f"The body was not whole in {BODY_TIMEOUT_S:g} s; send it again."
        ) from None


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, bytes], waits_for: Any) -> Generator[Any, Any, bytes]:
    """Await a coroutine that was begun and waits."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:
                waits_for = coroutine.throw(error)
            else:
                waits_for = coroutine.send(sent)
    except StopIteration as read:
        whole: bytes = read.value
        return whole


def _announced(headers: Mapping[bytes, bytes], limit: int) -> int:
    """Return how many bytes will come at most. Raise Declined 413 where that is over `limit`."""
    text = headers.get(b"content-length", b"")
    if not text.isdigit():
        return limit  # in chunks: it may be anything
    if len(text) > len(str(limit)) or int(text) > limit:
        raise RequestRejected(413, "payload_too_large", too_large(limit))
    return int(text)


def too_large(limit: int) -> str:
    """Return the sentence about a body that is over its limit."""
    return f"The body is over {limit:,} bytes; send less at a time."
