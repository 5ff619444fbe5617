"""`ws/board/`: pushes to an open page what changed in what it shows."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.sessions.backends.db import SessionStore

from scheduling.dashboard.live_updates import View, view_of
from scheduling.dashboard.publisher import reader_of_this_process
from scheduling.permissions import Role, role_of

NOT_ALLOWED = 4401  #: close code: not signed in, or signed in without a role
CHECK_AGAIN_S = 30.0  #: how long a page may go on after its person was signed out
MAX_WAITING = 8  #: messages; a browser that reads slower than this is closed, and comes back

_END = ""


class BoardConsumer(AsyncWebsocketConsumer):
    """One open page. It says nothing; it is given the parts that changed."""

    async def connect(self) -> None:
        """Take in whoever may read the fleet; close with 4401 on everybody else."""
        role = await self._role()
        await self.accept()
        if role is None:
            await self.close(NOT_ALLOWED)
            return
        query = parse_qs(self.scope.get("query_string", b"").decode(errors="replace"))
        asked, language = (query.get(name, [""])[0] for name in ("view", "language"))
        self._view: View = view_of(asked, role is Role.OPERATOR, language)
        self._waiting: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)
        self._tasks = [
            asyncio.create_task(self._send_waiting()),
            asyncio.create_task(self._check_again(role)),
        ]
        reader_of_this_process().join(self._deliver, self._view)

    async def disconnect(self, code: int) -> None:
        """Leave the reader."""
        if hasattr(self, "_tasks"):
            reader_of_this_process().leave(self._deliver)
            for task in self._tasks:
                task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Pages do not speak."""

    def _deliver(self, message: str) -> None:
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            # Dropping one of a row of differences would leave the page wrong for good.
            reader_of_this_process().leave(self._deliver)
            while not self._waiting.empty():
                self._waiting.get_nowait()
            self._waiting.put_nowait(_END)

    async def _send_waiting(self) -> None:
        while True:
            message = await self._waiting.get()
            if message == _END:
                await self.close(1013)
                return
            await self.send(text_data=message)

    async def _check_again(self, role: Role) -> None:
        while True:
            await asyncio.sleep(CHECK_AGAIN_S)
            if await self._role() is not role:
                await self.close(NOT_ALLOWED)
                return

    async def _role(self) -> Role | None:
        """Return the role of whom the session belongs to now, not when the page was opened."""
        opened = self.scope.get("session")
        if opened is None or not opened.session_key:
            return None
        user = await get_user({"session": SessionStore(opened.session_key)})
        return await database_sync_to_async(role_of)(user)
