"""Websocket `ws/board/`: push changed parts to an open page."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.sessions.backends.db import SessionStore

from scheduling.dashboard.live_views import LiveView, parse_view
from scheduling.dashboard.publisher import process_publisher
from scheduling.permissions import Role, role_of

NOT_ALLOWED = 4401  #: close code: not signed in, or signed in without a role
ROLE_CHECK_PERIOD_S = 30.0  #: how long a page may stay connected after its user signed out
MAX_QUEUED = 8  #: messages; a slower browser is disconnected and reconnects

_CLOSE = ""


class BoardConsumer(AsyncWebsocketConsumer):
    """The connection of one open page, which only receives."""

    async def connect(self) -> None:
        """Accept users who may read the fleet; close all others with 4401."""
        role = await self._role()
        await self.accept()
        if role is None:
            await self.close(NOT_ALLOWED)
            return
        query = parse_qs(self.scope.get("query_string", b"").decode(errors="replace"))
        requested, language = (query.get(name, [""])[0] for name in ("view", "language"))
        self._view: LiveView = parse_view(requested, role is Role.OPERATOR, language)
        self._queue: asyncio.Queue[str] = asyncio.Queue(MAX_QUEUED)
        self._tasks = [
            asyncio.create_task(self._send_queued()),
            asyncio.create_task(self._recheck_role(role)),
        ]
        process_publisher().subscribe(self._deliver, self._view)

    async def disconnect(self, code: int) -> None:
        """Unsubscribe from the publisher."""
        if hasattr(self, "_tasks"):
            process_publisher().unsubscribe(self._deliver)
            for task in self._tasks:
                task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Ignore messages: pages send none."""

    def _deliver(self, message: str) -> None:
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            # Messages are differences: dropping one would leave the page wrong permanently.
            process_publisher().unsubscribe(self._deliver)
            while not self._queue.empty():
                self._queue.get_nowait()
            self._queue.put_nowait(_CLOSE)

    async def _send_queued(self) -> None:
        while True:
            message = await self._queue.get()
            if message == _CLOSE:
                await self.close(1013)
                return
            await self.send(text_data=message)

    async def _recheck_role(self, role: Role) -> None:
        while True:
            await asyncio.sleep(ROLE_CHECK_PERIOD_S)
            if await self._role() is not role:
                await self.close(NOT_ALLOWED)
                return

    async def _role(self) -> Role | None:
        """Return the current role of the session's user, not the role when the page was opened."""
        session = self.scope.get("session")
        if session is None or not session.session_key:
            return None
        user = await get_user({"session": SessionStore(session.session_key)})
        return await database_sync_to_async(role_of)(user)
