"""Limits of the HTTP connections of a web process: time, size and number.

uvicorn closes a connection that is idle between two requests. It has no limit for the first line of
a request, the end of its headers, the rest of a body, or a peer that does not read the response; it
accepts headers of any size, and connections until no file descriptor is left.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ginkgo_site.web.client_address import address_of, neighbourhood

HEADERS_WITHIN_S = 10.0  #: from the first byte, or from when the connection was made
REQUEST_WITHIN_S = 30.0  #: from the headers to the end of the body
READ_WITHIN_S = 60.0  #: how long a peer may leave a response unread
LARGEST_HEADERS = 64 * 1024
MAX_CONNECTIONS = 10_000
#: Bodies from one address that are not complete yet and whose senders are not known. A body is
#: complete within milliseconds, so a thousand nodes behind one address have a few at a time. Bodies
#: of nodes that have shown their tokens do not count: `scheduling/gateway/node_limits.py` bounds
#: those.
MAX_HALF_BODIES = 100
#: In the scope of a request: call it once its sender is known and bounded in another way.
SENDER_KNOWN = "ginkgo.sender_known"
#: In the scope of a request: call it to end the connection without what is still to be sent.
ABORT = "ginkgo.abort"
KEPT_DESCRIPTORS = 150  #: for the database, the channel layer, files and sockets of our own


def most_connections() -> int:
    """Return how many connections there may be at once, by the limit of file descriptors."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(limit - KEPT_DESCRIPTORS, limit // 2))


class GuardedHttp(HttpToolsProtocol):
    """uvicorn's protocol with deadlines, a limit for headers, and one for connections.

    Where there are too many connections, the one that has had no request for longest is closed: a
    flood of idle connections closes itself and not those of the daemons. Where one address has too
    many bodies under way, the connection of the oldest is closed.
    """

    # Dictionaries to None are sets in the order of insertion, shared by all connections.
    _without_request: dict[GuardedHttp, None] = {}
    _half_bodies: dict[str, dict[GuardedHttp, None]] = {}  #: by the address of the sender
    _most_connections = 0  #: 0: not computed yet

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _in_headers = True
    _header_bytes = 0
    _sender_known = False
    _address: str | None = None  #: under which its half body counts

    def connection_made(self, transport: Any) -> None:
        """Wait for headers. Beyond the limit, close the connection that was idle for longest."""
        super().connection_made(transport)
        idle = GuardedHttp._without_request  # in the order in which they became idle
        GuardedHttp._most_connections = GuardedHttp._most_connections or most_connections()
        if len(self.connections) > GuardedHttp._most_connections and idle:
            next(iter(idle))._abort()
        idle[self] = None
        self._set_deadline(HEADERS_WITHIN_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection and its body."""
        self._lift_deadline()
        self._lift_read_deadline()
        self._uncount_body()
        GuardedHttp._without_request.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; refuse headers over LARGEST_HEADERS; count incomplete bodies of strangers."""
        if self._in_headers:
            self._header_bytes += len(data)
            if self._deadline is None:
                self._set_deadline(HEADERS_WITHIN_S)
        super().data_received(data)  # after a complete body, headers are next again
        if self._in_headers and self._header_bytes > LARGEST_HEADERS:
            self.send_400_response(f"Headers of over {LARGEST_HEADERS} bytes are not read.")
            self._lift_deadline()
        is_counted = self._address is not None
        if not (self._in_headers or self._sender_known or is_counted):
            self._count_body()

    def on_headers_complete(self) -> None:
        """Give the body a deadline of its own."""
        self._in_headers, self._header_bytes = False, 0
        GuardedHttp._without_request.pop(self, None)
        self._sender_known = False
        self.scope[SENDER_KNOWN] = self._mark_sender_known  # type: ignore[literal-required]
        self.scope[ABORT] = self._abort  # type: ignore[literal-required]
        self._set_deadline(REQUEST_WITHIN_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Lift the deadline: the request is complete, and the peer owes nothing more."""
        self._in_headers = True
        self._lift_deadline()
        self._uncount_body()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Count the connection as idle: until its next request it may be closed for another."""
        super().on_response_complete()
        if not self.pipeline:
            GuardedHttp._without_request[self] = None

    def handle_websocket_upgrade(self) -> None:
        """Lift the deadline of a websocket: its pings find a dead peer."""
        self._lift_deadline()
        self._mark_sender_known()
        GuardedHttp._without_request.pop(self, None)
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """Close the connection after READ_WITHIN_S unless the peer goes on reading."""
        super().pause_writing()
        self._unread = self.loop.call_later(READ_WITHIN_S, self._abort)

    def resume_writing(self) -> None:
        """Lift the deadline for reading: the peer reads again."""
        self._lift_read_deadline()
        super().resume_writing()

    def _count_body(self) -> None:
        """Count the incomplete body of this connection among those of its address.

        If the address then has more than MAX_HALF_BODIES, close the connection of the oldest.
        """
        via = b",".join(value for name, value in self.headers if name == b"x-forwarded-for")
        trusted = settings.GINKGO.trusted_proxies
        peer = self.client[0] if self.client else ""
        self._address = neighbourhood(address_of(peer, via.decode("latin-1"), trusted=trusted))
        of_address = GuardedHttp._half_bodies.setdefault(self._address, {})
        of_address[self] = None
        if len(of_address) > MAX_HALF_BODIES:
            next(iter(of_address))._abort()

    def _uncount_body(self) -> None:
        """Stop counting: the body is complete, its sender known, or the connection closed."""
        if self._address is None:
            return
        of_address = GuardedHttp._half_bodies[self._address]
        of_address.pop(self, None)
        if not of_address:
            del GuardedHttp._half_bodies[self._address]
        self._address = None

    def _mark_sender_known(self) -> None:
        self._sender_known = True
        self._uncount_body()

    def _lift_read_deadline(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _set_deadline(self, within_s: float) -> None:
        self._lift_deadline()
        self._deadline = self.loop.call_later(within_s, self._abort)

    def _lift_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abort(self) -> None:
        """Close the connection at once, whatever is still to be sent."""
        self._lift_deadline()
        self._uncount_body()
        GuardedHttp._without_request.pop(self, None)
        if self.transport is not None:
            self.transport.abort()
