"""Whose fault is a closed socket? Only the peer's counts, and never all of them at once."""

from __future__ import annotations

from uuid import UUID

#: All of two or more sockets gone within this time is our network or our shutdown, not theirs.
SIMULTANEOUS_S = 0.25

#: 1012: we restart; 1001: we go away; 1011: our ping timed out. None of them is the peer's word.
SERVER_CLOSE_CODES = frozenset({1001, 1011, 1012, 1013, 4400, 4401, 4409})


class SocketLossTracker:
    """The agent sockets of one web process, and when they were lost."""

    def __init__(self) -> None:
        self._open: set[UUID] = set()
        self._lost_at: list[float] = []

    def opened(self, connection: UUID) -> None:
        self._open.add(connection)

    def closed(self, connection: UUID, now_s: float) -> None:
        self._open.discard(connection)
        self._lost_at = [at for at in self._lost_at if now_s - at < SIMULTANEOUS_S] + [now_s]

    def all_at_once(self) -> bool:
        """Return whether every one of two or more sockets was lost just now. Ask TOGETHER_S after
        a closing: the first of many does not know yet that it is not alone."""
        return not self._open and len(self._lost_at) >= 2


SOCKET_LOSSES = SocketLossTracker()
