"""Websocket `ws/board/`: push changed parts to an open page."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from urllib.parse import parse_qs

from channels.auth import get_user
from channels.db import database_sync_to_async
from django.contrib.sessions.backends.db import SessionStore
from django.utils import translation
from django.utils.translation import gettext as _

from scheduling.counted_socket import CountedSocket
from scheduling.dashboard.live_views import LiveView, parse_view
from scheduling.dashboard.publisher import process_publisher
from scheduling.permissions import Role, role_of
from scheduling.presentation.problems import DATABASE_AWAY

NOT_ALLOWED = 4401  #: close code: not signed in, or signed in without a role
TOO_MANY = 4429  #: close code: the limit of open pages, with a sentence for the page
NO_MESSAGES = 1008  #: close code: the page sent something, which pages of Ginkgo never do
TOO_SLOW = 1013  #: close code: messages come faster than the page reads them; it reconnects
ROLE_CHECK_PERIOD_S = 30.0  #: how long a page may stay connected after its user signed out
MAX_QUEUED = 8  #: messages; a slower browser is disconnected and reconnects

#: Live pages in this process, of one user and in all: each view is rendered every second, once for
#: all its pages, by the process that answers nodes. The limit of a user leaves room: after a change
#: of networks the earlier sockets count until their pings fail, and a team may share the account of
#: its wallboards.
MAX_OF_USER, MAX_IN_ALL = 60, 600

#: User → number of live pages in this process.
OPEN_PAGES: Counter[int] = Counter()

_CLOSE = ""  #: queued in place of a message: close the connection


class BoardConsumer(CountedSocket):
    """The connection of one open page, which only receives."""

    _tasks: Sequence[asyncio.Task[None]] = ()  #: started once the page is accepted

    async def connect(self) -> None:
        """Accept users who may read the fleet, up to a number of pages; close all others."""
        viewer = await self._viewer()
        await self.accept()  # a browser is told the close code of an accepted connection only
        if viewer is None:
            await self.close(NOT_ALLOWED)
            return
        user, role = viewer
        query = parse_qs(self.scope.get("query_string", b"").decode(errors="replace"))
        requested, language = (query.get(name, [""])[0] for name in ("view", "language"))
        self._view: LiveView = parse_view(requested, role is Role.OPERATOR, language)
        with translation.override(self._view.language):
            refusal = _refusal(user)
        if refusal:
            await self.close(TOO_MANY, refusal)
            return
        self.count_among(OPEN_PAGES, user)
        self._queue: asyncio.Queue[str] = asyncio.Queue(MAX_QUEUED)
        self._tasks = [
            asyncio.create_task(self._send_queued()),
            asyncio.create_task(self._recheck_role(viewer)),
        ]
        process_publisher().subscribe(self._deliver, self._view)

    def release(self) -> None:
        """Stop counting this page, unsubscribe it from the publisher and end its tasks."""
        super().release()
        if self._tasks:  # else it was not subscribed
            process_publisher().unsubscribe(self._deliver)
        for task in self._tasks:
            task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Close: pages send nothing."""
        await self.close(NO_MESSAGES)

    def _deliver(self, message: str) -> None:
        """Queue a message for the page. A page that is too slow is closed, and reconnects."""
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            # Messages are differences: dropping one would leave the page wrong permanently.
            process_publisher().unsubscribe(self._deliver)
            while not self._queue.empty():
                self._queue.get_nowait()
            self._queue.put_nowait(_CLOSE)

    async def _send_queued(self) -> None:
        """Send queued messages until `_deliver` has found the page too slow; then close it."""
        while True:
            message = await self._queue.get()
            if message == _CLOSE:
                await self.close(TOO_SLOW)
                return
            await self.send(text_data=message)

    async def _recheck_role(self, viewer: tuple[int, Role]) -> None:
        """Close the connection once its user has signed out, or has lost or changed the role."""
        while True:
            await asyncio.sleep(ROLE_CHECK_PERIOD_S)
            try:
                allowed = await self._viewer() == viewer
            except DATABASE_AWAY:
                continue  # nothing new is shown meanwhile
            if not allowed:
                await self.close(NOT_ALLOWED)
                return

    async def _viewer(self) -> tuple[int, Role] | None:
        """Return (user id, role) as they are now; None if nobody who may read is signed in."""
        session = self.scope.get("session")
        if session is None or not session.session_key:
            return None
        user = await get_user({"session": SessionStore(session.session_key)})
        role = await database_sync_to_async(role_of)(user)
        return None if role is None else (user.pk, role)


def _refusal(user: int) -> str:
    """Return why this user may open no further live page, or "".

    At most 123 bytes, the most that a websocket's close reason may have.
    """
    if OPEN_PAGES[user] >= MAX_OF_USER:
        limit = _("You have %(count)s live pages open. Close one of them.")
        return limit % {"count": MAX_OF_USER}
    if OPEN_PAGES.total() >= MAX_IN_ALL:
        limit = _("%(count)s live pages are open in this web process. Try again later.")
        return limit % {"count": MAX_IN_ALL}
    return ""
