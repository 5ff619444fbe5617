"""The daemon's websocket. It carries pushes of the desired set; its closing shortens a lease."""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
from channels.consumer import get_handler_name
from channels.generic.websocket import AsyncWebsocketConsumer
from psycopg_pool import PoolTimeout

from scheduling.db.transaction import aexecute, aexecute_autocommit
from scheduling.enact.lease import connected, shorten
from scheduling.gateway.auth import NodeIdentity, Unauthenticated, authenticate_node
from scheduling.gateway.http import RequestRejected
from scheduling.gateway.message_decoding import NO_MESSAGE
from scheduling.gateway.node_limits import turn
from scheduling.gateway.pool import pool
from scheduling.gateway.socket_losses import LOSSES, OURS, TOGETHER_S
from scheduling.observe.desired_set import desired_set
from scheduling.timing import timing
from scheduling.wire.messages import Hello, encode

logger = logging.getLogger(__name__)

#: Close codes a peer's end produces: its process ended (1006), or it went away (1001).
UNAUTHENTICATED = 4401
NOT_HELLO = 4400
SUPERSEDED = 4409
TRY_AGAIN = 1013

#: A daemon has one; those whose end was not noticed yet count too.
MAX_SOCKETS = 8
HELLO_WITHIN_S = 10.0

#: Node → its sockets that are open in this process.
OPEN: collections.Counter[int] = collections.Counter()


class AgentSocket(AsyncWebsocketConsumer):
    """One daemon, one socket, one hint group."""

    who: NodeIdentity | None = None
    connection_id: UUID | None = None
    counted = False
    silence: asyncio.TimerHandle | None = None  #: closes a socket that does not say who speaks
    pushed = -1  #: version of the newest set that the daemon has

    async def connect(self) -> None:
        try:
            self.who = await self._speaker()
        except Unauthenticated:
            await self.close(code=UNAUTHENTICATED)
            return
        except (psycopg.Error, PoolTimeout, RequestRejected):
            await self.close(code=TRY_AGAIN)
            return
        if OPEN[self.who.node] >= MAX_SOCKETS:
            await self.close(code=TRY_AGAIN)
            return
        OPEN[self.who.node] += 1
        self.counted = True
        await self.accept()
        self.silence = asyncio.get_running_loop().call_later(
            HELLO_WITHIN_S, lambda: asyncio.ensure_future(self.close(code=NOT_HELLO))
        )

    async def _speaker(self) -> NodeIdentity:
        return await authenticate_node(dict(self.scope["headers"]).get(b"authorization"))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.connection_id is not None or self.who is None:
            return  # nothing more is expected; pings are the server's
        try:
            hello = msgspec.msgpack.decode(bytes_data or b"", type=Hello)
            incarnation = UUID(hello.incarnation)
        except NO_MESSAGE:
            await self.close(code=NOT_HELLO)
            return
        connection_id = uuid4()
        try:
            async with turn(self.who.node, "hello"), pool().connection() as connection:
                holds = await aexecute_autocommit(
                    connection, connected(self.who.node, incarnation, connection_id)
                )
        except (psycopg.Error, PoolTimeout, RequestRejected):
            await self.close(code=TRY_AGAIN)
            return
        if not holds:
            await self.close(code=SUPERSEDED)
            return
        self._heard()
        self.connection_id = connection_id
        LOSSES.opened(connection_id)
        await self.channel_layer.group_add(f"node.{self.who.node}", self.channel_name)
        self.pushed = hello.have_version
        await self._push()

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Handle one message. Channels closes old connections of Django's first, in a thread;
        nothing here uses any, and with a thousand sockets that was a quarter of the web's time.
        """
        await getattr(self, get_handler_name(message))(message)

    async def desired_changed(self, event: dict[str, Any]) -> None:
        """A hint: read the set and push it, unless what was pushed meanwhile is as new."""
        if event["version"] > self.pushed:
            await self._push()

    async def wake(self, event: dict[str, Any]) -> None:
        """The listener was away: anything may have changed."""
        await self._push()

    async def _push(self) -> None:
        assert self.who is not None
        try:
            await self._speaker()  # the token may have been revoked since
            async with turn(self.who.node, "work"), pool().connection() as connection:
                desired = await aexecute_autocommit(
                    connection, desired_set(self.who.node, self.pushed)
                )
        except Unauthenticated:
            await self.close(code=UNAUTHENTICATED)
            return
        except (psycopg.Error, PoolTimeout, RequestRejected):
            return  # the next beat carries the set
        if desired is not None:
            self.pushed = desired.version
            await self.send(bytes_data=encode(desired))

    def _heard(self) -> None:
        """It spoke or went: nothing is waited for any more."""
        if self.silence is not None:
            self.silence.cancel()
            self.silence = None

    async def disconnect(self, code: int) -> None:
        """Shorten the lease if the peer closed, not we, and not everybody at once."""
        self._heard()
        if self.counted and self.who is not None:
            self.counted = False
            OPEN[self.who.node] -= 1
            if not OPEN[self.who.node]:
                del OPEN[self.who.node]
        if self.connection_id is None or self.who is None:
            return
        LOSSES.closed(self.connection_id, time.monotonic())
        await self.channel_layer.group_discard(f"node.{self.who.node}", self.channel_name)
        if code in OURS:
            return
        await asyncio.sleep(TOGETHER_S)
        if LOSSES.all_at_once():
            logger.warning("all agent sockets closed at once: nobody's lease is shortened")
            return
        try:
            async with pool().connection() as connection:
                await aexecute(
                    connection, shorten(self.who.node, self.connection_id, timing(), TOGETHER_S)
                )
        except (psycopg.Error, PoolTimeout, RuntimeError) as error:
            logger.info("the lease of %s was not shortened: %s", self.who.name, error)
