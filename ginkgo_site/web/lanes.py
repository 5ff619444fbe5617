"""Bound the requests that Django handles at once, so that a flood cannot block a halt.

Each request has a thread and, from its first statement on, a connection of the pool. The lanes
together admit fewer requests than the pool has connections:

    login    password checks: few at once and few per address; then 429 at once
    reserve  halt and health: always available, whatever the other lanes do
    general  all other requests; a short queue, then 503

Static files need no lane. The node protocol and websockets are served elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext_noop

from ginkgo_site.web.busy import Busy, busy_response
from ginkgo_site.web.client_address import client_address, neighbourhood
from ginkgo_site.web.lane_sizes import GENERAL_SIZE, LOGIN_SIZE, RESERVE_SIZE

LOGIN_PATHS = ("/login/", "/admin/login/")
#: The largest body is a wheel of 20 MB with its lock of 1 MB; other paths have lower limits.
MAX_BODY_BYTES = 24 << 20
RESERVE_PATHS = ("/api/halt/", "/halt/", "/halts/", "/api/healthz", "/api/readyz")


@dataclass
class Lane:
    """Admits `size` requests; at most `most_waiting` more wait, up to `wait_s` seconds.

    One address has at most `per_address` of them, those that wait included.
    """

    name: str
    size: int
    per_address: int
    wait_s: float
    most_waiting: int
    _inside: int = 0
    _by_address: Counter[str] = field(default_factory=Counter)  #: inside and waiting
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    async def enter(self, address: str) -> None:
        """Return when a request of this address is admitted.

        Raise Busy: too many of this address, a full queue, or no place within `wait_s`.
        """
        if self._by_address[address] >= self.per_address:
            what = gettext_noop("Over %(limit)s requests from your address at once")
            raise Busy(429, what, 1, limit=self.per_address)
        self._by_address[address] += 1
        try:
            if self._inside >= self.size:
                await self._wait()
            else:
                self._inside += 1
        except BaseException:
            self._uncount(address)
            raise

    def leave(self, address: str) -> None:
        """End a request of this address: its place goes to the one that has waited longest."""
        self._uncount(address)
        self._hand_over()

    def _uncount(self, address: str) -> None:
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _hand_over(self) -> None:
        """Admit the request that has waited longest, or free the place."""
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():
                first.set_result(None)
                return
        self._inside -= 1

    async def _wait(self) -> None:
        """Return once a place was handed over. Raise Busy: a full queue, or none in `wait_s`."""
        if len(self._waiting) >= self.most_waiting:
            if self.name == "login":
                raise Busy(429, gettext_noop("Too many people are logging in at once"), 2)
            raise Busy(
                503, gettext_noop("The server has more requests than it can take"), retry_after_s=2
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self.wait_s):
                await turn
        except TimeoutError:
            # If it has a result, the place was handed over at the moment of the timeout.
            if turn.cancelled() or not turn.done():
                what = gettext_noop("The server was too busy for %(seconds)g s")
                raise Busy(503, what, retry_after_s=2, seconds=self.wait_s) from None
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._hand_over()  # the place was handed over at the moment of the cancellation
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)


class LanedHandler(ASGIHandler):
    """Django's handler, in which a request waits for the lane of its path to admit it.

    A middleware would be too late, since it runs in the request's thread already; a wrapper around
    the handler would be too early, since the body is still to come, as slowly as its sender likes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._login = Lane("login", LOGIN_SIZE, per_address=2, wait_s=0, most_waiting=0)
        self._reserve = Lane("reserve", RESERVE_SIZE, per_address=20, wait_s=10, most_waiting=50)
        self._general = Lane("general", GENERAL_SIZE, per_address=100, wait_s=5, most_waiting=200)

    async def read_body(self, receive: Any) -> Any:
        """Return the body. Raise RequestAborted over MAX_BODY_BYTES.

        The sender is not known yet, and Django would write the whole body to the disk.
        """
        left = MAX_BODY_BYTES

        async def receive_bounded() -> dict[str, Any]:
            nonlocal left
            message: dict[str, Any] = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise RequestAborted
            return message

        return await super().read_body(receive_bounded)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Return the response; 429 or 503 if the lane of the path does not admit the request."""
        if request.path.startswith("/static/"):
            return await super().get_response_async(request)
        lane = self._lane(request)
        address = neighbourhood(client_address(request))
        try:
            await lane.enter(address)
        except Busy as busy:
            return busy_response(request, busy)
        work = asyncio.ensure_future(self._answer(request))
        work.add_done_callback(lambda _: lane.leave(address))
        return await _to_its_end(work)

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        response = await super().get_response_async(request)
        # Without this, the thread would hold its connection until the client has read the answer.
        await sync_to_async(_return_connection)()
        return response

    def _lane(self, request: HttpRequest) -> Lane:
        if request.method == "POST" and request.path in LOGIN_PATHS:
            return self._login
        return self._reserve if request.path.startswith(RESERVE_PATHS) else self._general


async def _to_its_end(work: asyncio.Future[HttpResponseBase]) -> HttpResponseBase:
    """Return the result of `work`, awaited to its end even if this task is cancelled.

    The thread goes on after its client has gone. Until it ends, the request keeps its place in the
    lane. It also stays in Django's ThreadSensitiveContext, whose exit would block the event loop
    until the thread ends.
    """
    gone: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as cancelled:
            gone = cancelled
        except Exception:
            break  # result() raises it
    if gone is not None:
        work.exception()  # mark it as retrieved: the client has gone
        raise gone
    return work.result()


def _return_connection() -> None:
    """Give the connection of this thread back to the pool."""
    from django.db import connection

    if not connection.in_atomic_block:
        connection.close()
