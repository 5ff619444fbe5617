"""Prove that a listening session still receives notifications.

A listener waits, and a connection that died silently looks the same as one without notifications.
So the session listens on a second channel that no other session knows, notifies it at an interval,
and expects its own notification back. That proves the connection, the server and the LISTEN. A
connection pooler in transaction mode fails the proof, since it runs the LISTEN in another session.
"""

from __future__ import annotations

import uuid

import psycopg

ECHO_INTERVAL_S = 3.0  #: between two notifications of a session to itself


class NotListening(psycopg.OperationalError):
    """The session's notification to itself did not come back."""


class Echo:
    """The private channel of one session."""

    def __init__(self) -> None:
        self.channel = f"ginkgo_echo_{uuid.uuid4().hex}"
        self._is_awaited = False

    @property
    def listen(self) -> bytes:
        """Return the statement that listens on the channel."""
        return f"LISTEN {self.channel}".encode()

    def send(self) -> bytes:
        """Return the statement that sends a notification.

        Raise NotListening if the previous one did not come back.
        """
        if self._is_awaited:
            raise NotListening(
                "the session that listens for notifications did not receive the last one that it "
                "sent to itself; a connection pooler in front of PostgreSQL must be in session mode"
            )
        self._is_awaited = True
        return f"NOTIFY {self.channel}".encode()

    def receive(self, notification: psycopg.Notify) -> bool:
        """Return whether the notification is this session's own; if so, it is no longer awaited."""
        if notification.channel != self.channel:
            return False
        self._is_awaited = False
        return True
