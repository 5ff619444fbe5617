"""Attribute closed websockets: to the peer, or to this process if all close at once."""

from __future__ import annotations

from uuid import UUID

#: If all of two or more sockets close within this time, the cause is on the side of the server.
SIMULTANEOUS_S = 0.25

#: Close codes that the server produces: 1012 restart, 1001 going away, 1011 ping timeout, and its
#: own refusals.
SERVER_CLOSE_CODES = frozenset({1001, 1011, 1012, 1013, 4400, 4401, 4409})


class SocketLossTracker:
    """The push sockets of one web process, and the times at which they closed."""

    def __init__(self) -> None:
        self._open: set[UUID] = set()
        self._lost_at: list[float] = []

    def opened(self, connection: UUID) -> None:
        self._open.add(connection)

    def closed(self, connection: UUID, now_s: float) -> None:
        self._open.discard(connection)
        self._lost_at = [at for at in self._lost_at if now_s - at < SIMULTANEOUS_S] + [now_s]

    def all_at_once(self) -> bool:
        """Return whether all of two or more sockets closed just now. Call it SIMULTANEOUS_S after
        a close: at the first of many, the others are still open."""
        return not self._open and len(self._lost_at) >= 2


SOCKET_LOSSES = SocketLossTracker()
