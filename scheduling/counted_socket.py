"""A websocket that counts towards a limit of its user or node until it ends, however it ends."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer


class CountedSocket(AsyncWebsocketConsumer):
    """A websocket that is counted among the open ones of its owner, a user or a node.

    A server raises OSError for a message to a peer that has gone, and RuntimeError for a message
    after the close. Both would end the consumer without a call of `disconnect`.
    """

    is_closed = False  #: by this side; messages that had arrived before may still be handled
    #: (id of each owner → its open sockets, id of this socket's owner); None: not counted.
    _counted: tuple[Counter[int], int] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.release()

    def count_among(self, open_sockets: Counter[int], owner: int) -> None:
        """Count this socket among those of `owner`, until `release`."""
        open_sockets[owner] += 1
        self._counted = open_sockets, owner

    def release(self) -> None:
        """Stop counting this socket. A repeated call does nothing."""
        if self._counted is not None:
            open_sockets, owner = self._counted
            self._counted = None
            open_sockets[owner] -= 1
            if not open_sockets[owner]:
                del open_sockets[owner]

    async def send(
        self, text_data: str | None = None, bytes_data: bytes | None = None, close: bool = False
    ) -> None:
        """Send, unless the socket is closed or its peer has gone; `disconnect` is called then."""
        if not self.is_closed:
            with suppress(OSError):
                await super().send(text_data, bytes_data, close)

    async def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        """Close, unless it is closed already or its peer has gone; `disconnect` is called then."""
        if not self.is_closed:
            self.is_closed = True
            with suppress(OSError):
                await super().close(code, reason)
