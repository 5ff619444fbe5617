"""A notification that a listening session sends to itself.

A listener waits, and a connection that died without a word looks the same as one on which nothing
happens. So it listens on a second channel that no other session knows, notifies it at an interval,
and takes its own notification back: that proves the connection, the server and the LISTEN. A pooler
in transaction mode fails that proof, since it runs the LISTEN in another session.
"""

from __future__ import annotations

import uuid

import psycopg

ECHO_INTERVAL_S = 3.0


class NotListening(psycopg.OperationalError):
    """The session's notification to itself did not come back."""


class Echo:
    """The channel of one session, and whether its last notification came back."""

    def __init__(self) -> None:
        self.channel = f"ginkgo_echo_{uuid.uuid4().hex}"
        self._is_awaited = False

    @property
    def listen(self) -> bytes:
        """Return the statement that begins it."""
        return f"LISTEN {self.channel}".encode()

    def send(self) -> bytes:
        """Return the statement that sends the next one. Raises where the last did not come back."""
        if self._is_awaited:
            raise NotListening(
                "the session did not receive its own notification; if a connection pooler is in "
                "between, it must be in session mode"
            )
        self._is_awaited = True
        return f"NOTIFY {self.channel}".encode()

    def receive(self, notification: psycopg.Notify) -> bool:
        """Return whether the notification is this session's own."""
        if notification.channel != self.channel:
            return False
        self._is_awaited = False
        return True
