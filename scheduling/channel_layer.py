"""A channel layer over PostgreSQL LISTEN/NOTIFY: pushes without another server.

It carries hints, never state: a payload stays far below the 8,000 bytes that NOTIFY allows, and a
lost hint costs time. One listening connection per process serves all its sockets. After a
reconnect every group is woken once, since hints may have been missed. A connection that is lost
silently is detected within 6 s, by an echo of the session itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from typing import Any

import psycopg
from channels.layers import BaseChannelLayer

from ginkgo_site.deadline import AsyncConnection
from scheduling.db.listener_echo import ECHO_INTERVAL_S, Echo

logger = logging.getLogger(__name__)

CHANNEL = "ginkgo"
MAX_PAYLOAD = 7_000  #: bytes; PostgreSQL refuses 8,000
STATEMENT_LIMIT_S = 3.0
RECONNECT_S = (0.1, 0.2, 0.5, 1.0, 2.0)  #: pauses before the first tries; the last one repeats

#: Sent to every group of this process after a reconnect.
WAKE: dict[str, Any] = {"type": "wake"}


class PayloadTooLarge(ValueError):
    """The message does not fit into a notification; send a hint instead of state."""


class _Connection(AsyncConnection):
    """A connection that fails if the server leaves a statement unanswered for `limit_s`."""

    limit_s = STATEMENT_LIMIT_S


class PostgresChannelLayer(BaseChannelLayer):
    """The layer API of Channels: `send`, `receive`, `new_channel`, and the groups extension."""

    extensions = ["groups"]

    def __init__(self, capacity: int = 100, expiry: int = 60, **_: Any) -> None:
        super().__init__(expiry=expiry, capacity=capacity)
        self._loops: dict[int, _LoopState] = {}

    def _state(self) -> _LoopState:
        """Return the state of the running event loop; tests and commands have separate loops."""
        loop = asyncio.get_running_loop()
        state = self._loops.get(id(loop))
        if state is None or state.loop is not loop:
            state = self._loops[id(loop)] = _LoopState(loop, self.capacity)
        return state

    async def new_channel(self, prefix: str = "specific") -> str:
        return f"{prefix}.{uuid.uuid4().hex}"

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        await self._state().notify({"channel": channel, "message": message})

    async def receive(self, channel: str) -> dict[str, Any]:
        state = self._state()
        await state.wait_until_listening()
        try:
            return await state.queue(channel).get()
        except asyncio.CancelledError:
            # The socket of the channel closed. If the channel never joined a group, nothing else
            # would remove its queue.
            if not state.joined(channel):
                state.queues.pop(channel, None)
            raise

    async def group_add(self, group: str, channel: str) -> None:
        state = self._state()
        state.groups.setdefault(group, set()).add(channel)
        state.queue(channel)  # creates it
        await state.wait_until_listening()

    async def group_discard(self, group: str, channel: str) -> None:
        state = self._state()
        members = state.groups.get(group, set())
        members.discard(channel)
        if not members:
            state.groups.pop(group, None)
        if not state.joined(channel):
            state.queues.pop(channel, None)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await self._state().notify({"groups": [group], "message": message})

    async def flush(self) -> None:
        await self.close()

    async def close(self) -> None:
        for state in self._loops.values():
            await state.close()
        self._loops.clear()


class _LoopState:
    """The listener, queues and groups of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, capacity: int) -> None:
        self.loop = loop
        self.capacity = capacity
        self.groups: dict[str, set[str]] = {}  #: group → its channels
        self.queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}  #: channel → its messages
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sender: AsyncConnection | None = None
        self._sending = asyncio.Lock()

    def queue(self, channel: str) -> asyncio.Queue[dict[str, Any]]:
        return self.queues.setdefault(channel, asyncio.Queue(maxsize=self.capacity))

    def joined(self, channel: str) -> bool:
        """Return whether the channel is in a group."""
        return any(channel in members for members in self.groups.values())

    async def wait_until_listening(self) -> None:
        """Start the listener if needed, and wait until it has connected for the first time.

        If a later connection is lost, WAKE makes up for the hints lost with it.
        """
        if self._task is None or self._task.done():
            self._task = self.loop.create_task(self._listen())
        await self._ready.wait()

    async def _listen(self) -> None:
        """Queue the hints of notifications, on a new connection after each loss. Never returns."""
        from ginkgo_site.database import conninfo

        tries = 0
        while True:
            try:
                connection = await _Connection.connect(conninfo(), autocommit=True)
                async with connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    echo = Echo()
                    await connection.execute(echo.listen)
                    if tries:
                        self._wake_all()
                    tries = 0
                    self._ready.set()
                    while True:
                        await connection.execute(echo.send())
                        async for notification in connection.notifies(timeout=ECHO_INTERVAL_S):
                            if not echo.receive(notification):
                                self._deliver(notification.payload)
            except psycopg.Error as error:
                pause = RECONNECT_S[min(tries, len(RECONNECT_S) - 1)]
                tries += 1
                logger.warning("no pushes: %s; reconnecting in %.1f s", error, pause)
                await asyncio.sleep(pause)

    def _deliver(self, payload: str) -> None:
        """Queue a hint for its channel or groups, as far as this process has them."""
        try:
            hint = json.loads(payload)
            message = hint["message"]
        except (ValueError, KeyError, TypeError):
            logger.warning("dropped a notification that is not a hint: %.200r", payload)
            return
        if "channel" in hint:
            if hint["channel"] in self.queues:
                self._put(hint["channel"], message)
            return
        for group in hint.get("groups", ()):
            for channel in self.groups.get(group, ()):
                self._put(channel, message)

    def _put(self, channel: str, message: dict[str, Any]) -> None:
        """Queue a message for a channel, in place of the oldest one if the queue is full."""
        queue = self.queue(channel)
        if queue.full():
            queue.get_nowait()  # hints of one kind are equivalent; the newest is enough
        queue.put_nowait(dict(message))

    def _wake_all(self) -> None:
        """Queue WAKE for every group, since hints may have been lost."""
        for members in self.groups.values():
            for channel in members:
                self._put(channel, WAKE)

    async def notify(self, hint: dict[str, Any]) -> None:
        """Send a hint to all processes. Raise PayloadTooLarge, or psycopg's error."""
        from ginkgo_site.database import conninfo

        payload = json.dumps(hint, separators=(",", ":"))
        size = len(payload.encode())
        if size > MAX_PAYLOAD:
            raise PayloadTooLarge(
                f"The hint {payload[:60]}… has {size} bytes, limit {MAX_PAYLOAD}; "
                "send ids instead of state."
            )
        async with self._sending:
            for attempt in (1, 2):
                try:
                    if self._sender is None or self._sender.closed:
                        self._sender = await _Connection.connect(conninfo(), autocommit=True)
                    await self._sender.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
                    return
                except psycopg.OperationalError:
                    # The server restarted since the last hint: try once more on a new connection.
                    self._sender = None
                    if attempt == 2:
                        raise

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            try:
                await self._task
            except (asyncio.CancelledError, RuntimeError):
                pass  # RuntimeError: the task belongs to another event loop, which has ended
        if self._sender is not None:
            await self._sender.close()
