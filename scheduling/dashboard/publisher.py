"""One snapshot a second for all open pages of this web process, and what of it changed.

The reader starts with the first page and stops with the last. A hint on the channel layer's group
`board` makes it look at once; without hints it still looks every second, so a lost one costs time
and no truth.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from channels.layers import get_channel_layer
from django.db import connection, connections

from scheduling.dashboard.board import changes
from scheduling.dashboard.live_updates import View, render_view
from scheduling.errors import SnapshotUnavailable
from scheduling.observe.fleet_view import FleetView, read_fleet_view
from scheduling.presentation.formatting import clock

logger = logging.getLogger(__name__)

GROUP = "board"
PERIOD_S = 1.0
LEAST_PERIOD_S = 0.2  #: however many hints arrive
FORGET_FAILURE_S = 5.0

Deliver = Callable[[str], None]


@dataclass(slots=True)
class _Shown:
    """What the subscribers of one view were last given."""

    parts: dict[str, str] = field(default_factory=dict)
    columns: list[str] | None = None
    at: str = ""
    taken: float = 0.0  #: loop time when its snapshot was read


class BoardReader:
    """Reads, renders each view once, and hands every subscriber what changed in its view."""

    def __init__(self) -> None:
        self._subscribers: dict[Deliver, View] = {}
        self._shown: dict[View, _Shown] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._last_board: FleetView | None = None

    def join(self, deliver: Deliver, view: View) -> None:
        """Start to give `deliver` messages: at once what is known, then what changes."""
        self._subscribers[deliver] = view
        shown = self._shown.get(view)
        if shown is not None and shown.parts:
            deliver(_message(shown, shown.parts, shown.columns, []))
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def leave(self, deliver: Deliver) -> None:
        """Stop to give `deliver` messages; the last one to leave stops the reader."""
        view = self._subscribers.pop(deliver, None)
        if view is not None and view not in self._subscribers.values():
            self._shown.pop(view, None)
        if not self._subscribers and self._task is not None:
            self._task.cancel()
            self._task = None
            self._shown.clear()
            self._last_board = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        listening = loop.create_task(self._listen())
        # A thread of its own keeps one database connection open between snapshots.
        thread = ThreadPoolExecutor(1, thread_name_prefix="board")
        try:
            while True:
                self._wake.clear()
                started = loop.time()
                await self._once(loop, thread)
                spent = loop.time() - started
                await asyncio.sleep(max(LEAST_PERIOD_S - spent, 0))
                try:
                    await asyncio.wait_for(
                        self._wake.wait(), max(PERIOD_S - LEAST_PERIOD_S - spent, 0.01)
                    )
                except TimeoutError:
                    pass
        finally:
            listening.cancel()
            thread.submit(connections.close_all)
            thread.shutdown(wait=False)

    async def _once(self, loop: asyncio.AbstractEventLoop, thread: ThreadPoolExecutor) -> None:
        views = set(self._subscribers.values())
        taken = loop.time()
        try:
            board, rendered = await loop.run_in_executor(thread, _read_and_render, views)
        except Exception as error:
            if isinstance(error, SnapshotUnavailable):  # an outage: one sentence says it all
                logger.warning("%s", error)
            else:
                logger.exception("the board could not be read")
            self._tell_all({"type": "unreadable", "sentence": "The database does not answer."})
            return
        said = changes(self._last_board, board) if self._last_board is not None else []
        self._last_board = board
        for view, (parts, columns) in rendered.items():
            before = self._shown.get(view, _Shown())
            changed = {k: html for k, html in parts.items() if before.parts.get(k) != html}
            shown = _Shown(parts, columns, clock(board.at), taken)
            self._shown[view] = shown
            message = _message(shown, changed, columns, said)
            for deliver, wanted in list(self._subscribers.items()):
                if wanted == view:
                    deliver(message)

    def _tell_all(self, message: dict[str, Any]) -> None:
        text = json.dumps(message)
        for deliver in list(self._subscribers):
            deliver(text)

    async def _listen(self) -> None:
        """Turn hints into a look at once. A layer that fails is tried again: hints are no truth."""
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
                logger.warning("no hints for the board: %s; looking every second", error)
                await asyncio.sleep(FORGET_FAILURE_S)


def _read_and_render(
    views: set[View],
) -> tuple[FleetView, dict[View, tuple[dict[str, str], list[str] | None]]]:
    """Read one snapshot and render every view of it. A broken connection is not used twice."""
    try:
        board = read_fleet_view()
        return board, {view: render_view(board, view) for view in views}
    except Exception:
        connection.close()
        raise


def _message(
    shown: _Shown, parts: dict[str, str], columns: list[str] | None, said: list[str]
) -> str:
    now = asyncio.get_running_loop().time()
    message: dict[str, Any] = {
        "type": "parts",
        "at": shown.at,
        "age_ms": round(1000 * (now - shown.taken)),
        "parts": parts,
    }
    if columns is not None:
        message["columns"] = columns
    if said:
        message["say"] = said
    return json.dumps(message)


def reader_of_this_process() -> BoardReader:
    """Return the reader of the running loop: one per web process."""
    loop = asyncio.get_running_loop()
    reader = _readers.get(loop)
    if reader is None:
        reader = _readers[loop] = BoardReader()
    return reader


#: By loop, so that a test's loop never meets another's tasks.
_readers: dict[asyncio.AbstractEventLoop, BoardReader] = {}
