"""The websocket of a daemon. It carries desired sets; its loss shortens the lease."""

from __future__ import annotations

import asyncio
import collections
import logging
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
from channels.consumer import get_handler_name
from psycopg_pool import PoolTimeout

from scheduling.counted_socket import CountedSocket
from scheduling.db.transaction import aexecute, aexecute_autocommit
from scheduling.enact.lease import record_socket, record_socket_loss
from scheduling.gateway.auth import NodeIdentity, Unauthenticated, authenticate_node
from scheduling.gateway.http import RequestRejected
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.gateway.message_decoding import DECODE_ERRORS
from scheduling.gateway.node_limits import Admission
from scheduling.gateway.pool import work_connection, work_pool
from scheduling.observe.desired_set import desired_set
from scheduling.wire.messages import Hello, encode

logger = logging.getLogger(__name__)

#: Close codes of this server.
UNAUTHENTICATED = 4401
NOT_HELLO = 4400
SUPERSEDED = 4409
TRY_AGAIN = 1013

#: Close codes that the server produces: 1012 restart, 1001 going away, 1011 ping timeout, and its
#: own refusals. They say nothing about the peer.
SERVER_CLOSE_CODES = frozenset(
    {1001, 1011, 1012, TRY_AGAIN, NOT_HELLO, UNAUTHENTICATED, SUPERSEDED}
)

#: The most of one node: a daemon has one, and earlier ones count until their end is noticed.
MAX_SOCKETS = 8
HELLO_TIMEOUT_S = 10.0

#: Node → number of its sockets in this process.
OPEN_SOCKETS: collections.Counter[int] = collections.Counter()


class PushSocket(CountedSocket):
    """The socket of one daemon, in the hint group of its node."""

    sender: NodeIdentity | None = None
    connection_id: UUID | None = None
    hello_timer: asyncio.TimerHandle | None = None  #: closes a socket that sends no Hello
    pushed_version = -1  #: version of the newest set that was sent

    async def connect(self) -> None:
        """Accept the daemon of a valid token, with up to MAX_SOCKETS sockets of one node."""
        try:
            self.sender = await self._authenticate()
        except Unauthenticated:
            await self.close(code=UNAUTHENTICATED)
            return
        except (psycopg.Error, PoolTimeout, RequestRejected):
            await self.close(code=TRY_AGAIN)
            return
        if OPEN_SOCKETS[self.sender.node] >= MAX_SOCKETS:
            await self.close(code=TRY_AGAIN)
            return
        self.count_among(OPEN_SOCKETS, self.sender.node)
        await self.accept()
        self.hello_timer = asyncio.get_running_loop().call_later(
            HELLO_TIMEOUT_S, lambda: asyncio.ensure_future(self.close(code=NOT_HELLO))
        )

    async def _authenticate(self) -> NodeIdentity:
        return await authenticate_node(dict(self.scope["headers"]).get(b"authorization"))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Subscribe to hints for the node at the daemon's Hello, the only message it sends."""
        if self.sender is None:
            return
        if self.connection_id is not None:  # a daemon sends no second message
            await self.close(code=NOT_HELLO)
            return
        try:
            hello = msgspec.msgpack.decode(bytes_data or b"", type=Hello)
            incarnation = UUID(hello.incarnation)
        except DECODE_ERRORS:
            await self.close(code=NOT_HELLO)
            return
        connection_id = uuid4()
        try:
            async with Admission(self.sender.node, "hello"), work_pool().connection() as connection:
                holds = await aexecute_autocommit(
                    connection,
                    record_socket(self.sender.node, incarnation, connection_id, GATEWAY_ID),
                )
        except (psycopg.Error, PoolTimeout, RequestRejected):
            await self.close(code=TRY_AGAIN)
            return
        if not holds:
            await self.close(code=SUPERSEDED)
            return
        self._cancel_hello_timer()
        self.connection_id = connection_id
        await self.channel_layer.group_add(f"node.{self.sender.node}", self.channel_name)
        self.pushed_version = hello.have_version
        await self._push()

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Handle one message. After this side has closed the socket, only the peer's close matters.

        The method of Channels would first close old Django connections, in a thread. Nothing here
        uses such connections, and with a thousand sockets that took a quarter of the web's time.
        """
        if not self.is_closed or message["type"] == "websocket.disconnect":
            await getattr(self, get_handler_name(message))(message)

    async def desired_changed(self, event: dict[str, Any]) -> None:
        """Push the desired set, unless the one that was pushed last is as new as the hint."""
        if event["version"] > self.pushed_version:
            await self._push()

    async def wake(self, event: dict[str, Any]) -> None:
        """Push the set after the listener was disconnected: hints may have been lost."""
        await self._push()

    async def _push(self) -> None:
        """Send the desired set if it is newer than the last one that was sent."""
        assert self.sender is not None
        try:
            await self._authenticate()  # the token may have been revoked
            async with work_connection(self.sender.node) as connection:
                desired = await aexecute_autocommit(
                    connection, desired_set(self.sender.node, self.pushed_version)
                )
        except Unauthenticated:
            await self.close(code=UNAUTHENTICATED)
            return
        except (psycopg.Error, PoolTimeout, RequestRejected):
            return  # the next heartbeat carries the set
        if desired is not None:
            self.pushed_version = desired.version
            await self.send(bytes_data=encode(desired))

    def _cancel_hello_timer(self) -> None:
        """Stop waiting for Hello: it came, or the socket closed."""
        if self.hello_timer is not None:
            self.hello_timer.cancel()
            self.hello_timer = None

    def release(self) -> None:
        """Give back the socket's place among those of its node, and end the wait for Hello."""
        super().release()
        self._cancel_hello_timer()

    async def disconnect(self, code: int) -> None:
        """Record that the peer closed the socket: the sweep may then shorten the lease."""
        self.release()  # first, since the database may take long
        if self.connection_id is None or self.sender is None:
            return
        await self.channel_layer.group_discard(f"node.{self.sender.node}", self.channel_name)
        if code in SERVER_CLOSE_CODES:
            return
        try:
            async with work_pool().connection() as connection:
                await aexecute(connection, record_socket_loss(self.sender.node, self.connection_id))
        except (psycopg.Error, PoolTimeout, RuntimeError) as error:
            logger.info("the closed socket of %s was not recorded: %s", self.sender.name, error)
