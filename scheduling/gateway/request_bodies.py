"""Limits on request bodies: size, time, and total bytes in this process."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Coroutine, Generator, Mapping
from typing import Any

from scheduling.gateway.http import Receive, RequestRejected, read_body, too_large
from scheduling.gateway.node_limits import Admission

MAX_SMALL_BODY = 1_000_000
MAX_LOG_BODY = 256_000
#: A portfolio process answers with 16 MiB at most (`portfolios.runtime.messages`).
MAX_COMMIT_BODY = 18_000_000
LARGE_BODY = 1_000_000  #: a node may send one larger body at a time
MAX_TOTAL_BODIES = 64_000_000  #: bytes of all concurrent bodies
BODY_TIMEOUT_S = 10.0  #: a daemon gives up on its request after 8 s
BYTES_WAIT_S = 5.0


class ByteBudget:
    """Bytes that requests may hold at once. Requests that need more wait in the order they came."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size: int) -> None:
        """Take `size` bytes. Raise RequestRejected 503 if they do not become free in time."""
        if self._waiting or size > self.free:
            await self._wait(size)
        else:
            self.free -= size

    async def _wait(self, size: int) -> None:
        """Take `size` bytes in turn. Raise RequestRejected 503 after BYTES_WAIT_S."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, granted))
        try:
            async with asyncio.timeout(BYTES_WAIT_S):
                await granted
        except BaseException as error:
            if granted.done() and not granted.cancelled():
                self.release(size)  # they were granted at the last moment
            granted.cancel()
            self.release(0)  # later requests may fit
            if isinstance(error, TimeoutError):
                raise RequestRejected(
                    503, "unavailable", "Too many bytes of requests are in progress; repeat."
                ) from None
            raise

    def release(self, size: int) -> None:
        """Give `size` bytes back, to waiting requests first."""
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
    """Context manager: the complete body of a request of `node`; its bytes count inside the block.

    Raise RequestRejected: 413 over `limit` bytes, 408 if it does not arrive in time. A class for
    the same reason as `Admission`.
    """

    __slots__ = ("_large", "_node", "_receive", "_size_bound")

    def __init__(
        self, node: int, receive: Receive, headers: Mapping[bytes, bytes], limit: int
    ) -> None:
        """Do not read yet. Raise RequestRejected 413 if the announced size is over the limit."""
        self._node, self._receive = node, receive
        self._size_bound = _size_bound(headers, limit)
        self._large: Admission | None = None

    async def __aenter__(self) -> bytes:
        """Wait for free bytes and return the complete body. Raise RequestRejected."""
        if self._size_bound > LARGE_BODY:
            large = Admission(self._node, "large")
            await large.__aenter__()
            self._large = large
        try:
            await _total.acquire(self._size_bound)
            try:
                return await _read_in_time(read_body(self._receive, self._size_bound))
            except BaseException:
                _total.release(self._size_bound)
                raise
        except BaseException:
            await self._release_large()
            raise

    async def __aexit__(self, *error: object) -> None:
        """Release the bytes, and the node's place for a large body."""
        _total.release(self._size_bound)
        await self._release_large()

    async def _release_large(self) -> None:
        """Give back the node's place for a large body, if this request has it."""
        if self._large is not None:
            await self._large.__aexit__()


async def _read_in_time(coroutine: Coroutine[Any, Any, bytes]) -> bytes:
    """Return the result of `coroutine`, or raise RequestRejected 408 after BODY_TIMEOUT_S.

    The timer begins when `coroutine` first waits. A small body arrives together with its headers,
    so none is needed: it would cost more than all else that is done with a heartbeat's body.
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
            408,
            "too_slow",
            f"The request's body was not complete after {BODY_TIMEOUT_S:g} s; send it again.",
        ) from None


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, bytes], waits_for: Any) -> Generator[Any, Any, bytes]:
    """Await a coroutine that was started already and waits for `waits_for`."""
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


def _size_bound(headers: Mapping[bytes, bytes], limit: int) -> int:
    """Return the most bytes that the body can have. Raise RequestRejected 413 if over `limit`."""
    text = headers.get(b"content-length", b"")
    if not text.isdigit():
        return limit  # chunked: the size is unknown
    if len(text) > len(str(limit)) or int(text) > limit:  # int() refuses thousands of digits
        raise too_large(limit)
    return int(text)
