"""Publish one snapshot a second to all open pages of this web process, as what changed in it.

Pages with the same view are sent the same text. The figures of the board, which are most of it, are
encoded once for all views in a language.

The publisher starts with the first page and stops with the last. A hint on the channel layer's
group `board` makes it read at once. Without hints it still reads every second, so that a lost hint
costs time but never correctness.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from channels.layers import get_channel_layer
from django.db import connection, connections
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from scheduling.dashboard.board.changes import describe_changes
from scheduling.dashboard.figures import BoardFigures, encode_json, figures_part
from scheduling.dashboard.live_views import LiveView, Rendered, render_views
from scheduling.errors import SnapshotUnavailable
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.observe.fleet_view.types import FleetView
from scheduling.presentation.formatting import clock
from scheduling.presentation.problems import DATABASE_AWAY

logger = logging.getLogger(__name__)

GROUP = "board"
PERIOD_S = 1.0
MIN_PERIOD_S = 0.2  #: the least time between two reads, however many hints arrive
#: The next read starts after this multiple of the processor time of the one before, or PERIOD_S if
#: that is less: so reads of up to 0.25 s take at most a quarter of a core, however many hints come.
SPACING = 4.0
LISTEN_RETRY_S = 5.0

Deliver = Callable[[str], None]


@dataclass(slots=True)
class _Sent:
    """What was last sent to the subscribers of one view."""

    rendered: Rendered = field(default_factory=lambda: Rendered({}))
    at: str = ""  #: clock time of the snapshot, such as 14:05:12 UTC
    taken: float = 0.0  #: loop time in s when the snapshot was read


class _Snapshot(NamedTuple):
    """One read of the fleet, as pages show it."""

    fleet: FleetView
    rendered: dict[LiveView, Rendered]
    cpu_s: float  #: processor time that reading and rendering took


class BoardPublisher:
    """Reads snapshots, renders each view once, and sends subscribers the parts that changed."""

    def __init__(self) -> None:
        self._subscribers: dict[Deliver, LiveView] = {}
        self._sent: dict[LiveView, _Sent] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._last_fleet: FleetView | None = None
        self._spacing_s = 0.0  #: least time from the start of the last read to that of the next

    def subscribe(self, deliver: Deliver, view: LiveView) -> None:
        """Send `deliver` what the view showed last, if known, and each change from then on."""
        self._subscribers[deliver] = view
        shown = self._sent.get(view)
        if shown is not None:
            deliver(_message(shown, shown.rendered.parts, _encoded(shown.rendered.figures), []))
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def unsubscribe(self, deliver: Deliver) -> None:
        """Stop sending to `deliver`; without subscribers the publisher stops."""
        view = self._subscribers.pop(deliver, None)
        if view is not None and view not in self._subscribers.values():
            self._sent.pop(view, None)
        if not self._subscribers and self._task is not None:
            self._task.cancel()
            self._task = None
            self._sent.clear()
            self._last_fleet = None

    async def _run(self) -> None:
        """Publish until cancelled: on each hint, and at least once in PERIOD_S."""
        loop = asyncio.get_running_loop()
        listening = loop.create_task(self._listen_for_hints())
        # A dedicated thread keeps one database connection open between snapshots.
        thread = ThreadPoolExecutor(1, thread_name_prefix="board")
        try:
            while True:
                self._wake.clear()
                started = loop.time()
                await self._publish(loop, thread)
                spacing_s = min(max(MIN_PERIOD_S, self._spacing_s), PERIOD_S)
                await asyncio.sleep(max(started + spacing_s - loop.time(), 0))
                with suppress(TimeoutError):
                    left_s = started + PERIOD_S - loop.time()
                    await asyncio.wait_for(self._wake.wait(), left_s)
        finally:
            listening.cancel()
            thread.submit(connections.close_all)
            thread.shutdown(wait=False)

    async def _publish(self, loop: asyncio.AbstractEventLoop, thread: ThreadPoolExecutor) -> None:
        """Read and render in the thread, then send. On failure every page is told the cause."""
        views = set(self._subscribers.values())
        taken = loop.time()
        try:
            snapshot = await loop.run_in_executor(thread, _read_and_render, views)
            self._spacing_s = SPACING * snapshot.cpu_s
            self._send_changes(snapshot, taken)
        except (SnapshotUnavailable, *DATABASE_AWAY) as error:  # an outage needs no traceback
            logger.warning("the board could not be read: %s", error)
            self._announce_failure(gettext_noop("The database does not respond."))
        except Exception:
            logger.exception("the board could not be read")
            self._announce_failure(
                gettext_noop("Internal error: the log of the web process has the cause.")
            )

    def _send_changes(self, snapshot: _Snapshot, taken: float) -> None:
        """Send each page the changes of its view; without any, that its figures are current."""
        fleet = snapshot.fleet
        before_fleet, self._last_fleet = self._last_fleet, fleet
        announcements: dict[str, list[str]] = {}  # by language
        encoded: dict[tuple[int, int], msgspec.Raw] = {}  # by the ids of the figures before and now
        shown_now = set(self._subscribers.values())
        for view, rendered in snapshot.rendered.items():
            if view not in shown_now:  # its last page was closed while the snapshot was read
                continue
            before = self._sent.get(view, _Sent()).rendered
            changed = {k: html for k, html in rendered.parts.items() if before.parts.get(k) != html}
            change = id(before.figures), id(rendered.figures)
            if change not in encoded:
                encoded[change] = _encoded(rendered.figures, before.figures)
            shown = self._sent[view] = _Sent(rendered, clock(fleet.at), taken)
            if before_fleet is not None and view.language not in announcements:
                with translation.override(view.language):
                    announcements[view.language] = describe_changes(before_fleet, fleet)
            sentences = announcements.get(view.language, [])
            message = _message(shown, changed, encoded[change], sentences)
            for deliver, subscribed in list(self._subscribers.items()):
                if subscribed == view:
                    deliver(message)

    def _announce_failure(self, cause: str) -> None:
        """Send every page `cause`, an English sentence of the catalogue, in the page's language."""
        for deliver, view in list(self._subscribers.items()):
            with translation.override(view.language):
                message = {"type": "unreadable", "sentence": _(cause)}
            deliver(encode_json(message).decode())

    async def _listen_for_hints(self) -> None:
        """Wake the publisher on each hint; subscribe again after the channel layer failed."""
        while True:
            try:
                layer = get_channel_layer()
                if layer is None:
                    return
                channel = await layer.new_channel()
                await layer.group_add(GROUP, channel)
                try:
                    while True:
                        await layer.receive(channel)
                        self._wake.set()
                finally:
                    await layer.group_discard(GROUP, channel)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                logger.warning("the board gets no hints: %s; it is read every second", error)
                await asyncio.sleep(LISTEN_RETRY_S)


def _read_and_render(views: set[LiveView]) -> _Snapshot:
    """Read one snapshot and render the views. After an error, the next read connects anew."""
    before = time.thread_time()
    try:
        fleet = read_fleet_view()
        rendered = render_views(fleet, views)
        return _Snapshot(fleet, rendered, time.thread_time() - before)
    except Exception:
        connection.close()
        raise


def _encoded(figures: BoardFigures | None, before: BoardFigures | None = None) -> msgspec.Raw:
    """Return the JSON of what changed since `before` (None: of all); null without figures."""
    return msgspec.Raw(encode_json(figures_part(figures, before) if figures else None))


def _message(
    shown: _Sent, parts: dict[str, str], figures: msgspec.Raw, announcements: list[str]
) -> str:
    """Return the text of a message to the subscribers of one view: what changed, and its age."""
    now = asyncio.get_running_loop().time()
    message: dict[str, Any] = {
        "type": "parts",
        "at": shown.at,
        "age_ms": round(1000 * (now - shown.taken)),
        "parts": parts,
        "figures": figures,
    }
    if announcements:
        message["announce"] = announcements
    return encode_json(message).decode()


def process_publisher() -> BoardPublisher:
    """Return the publisher of the running event loop: one per web process."""
    loop = asyncio.get_running_loop()
    publisher = _publishers.get(loop)
    if publisher is None:
        publisher = _publishers[loop] = BoardPublisher()
    return publisher


#: By event loop, so that tests with separate loops do not share tasks.
_publishers: dict[asyncio.AbstractEventLoop, BoardPublisher] = {}
