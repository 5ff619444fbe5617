"""Group commit for heartbeats: beats that arrive while one update is under way go into the next.

No timer, so an idle gateway adds no delay; each is answered only after its own row is durable. A
beat whose row somebody holds goes into the next update; the beats beside it do not wait for it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from scheduling.db.transaction import Row, aexecute_autocommit
from scheduling.enact.lease import renew_leases
from scheduling.gateway.drop_monitor import DropMonitor
from scheduling.gateway.pool import lease_pool
from scheduling.timing import timing
from scheduling.wire.messages import Heartbeat

#: Between two updates of nothing but rows that were held.
HELD_PAUSE_S = 0.02

#: A beat that waited longer here says nothing about the node's life any more.
MAX_WAIT_S = 3.0

#: Node, words, since when, and who waits for the row.
Waiting = tuple[int, Heartbeat, float, asyncio.Future[Row]]


class HeartbeatExpired(Exception):
    """The beat grew old in our own queue and was dropped; the daemon beats again."""


class HeartbeatBatcher:
    """Writes waiting beats in one statement, one write at a time."""

    def __init__(self) -> None:
        self.drops = DropMonitor()
        self._waiting: list[Waiting] = []
        self._writing: asyncio.Task[None] | None = None

    async def submit(self, node: int, message: Heartbeat) -> Row:
        """Return the row of `node` once its beat is durable."""
        future: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._waiting.append((node, message, time.monotonic(), future))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await future

    async def _write(self) -> None:
        while self._waiting:
            batch: list[Waiting] = []
            held: list[Waiting] = []
            try:
                # The connection first: beats that wait for one are in our queue as well.
                async with lease_pool().connection() as connection:
                    batch, self._waiting = self._waiting, []
                    newest = _fresh(batch)
                    rows: dict[int, Any] = {}
                    if newest:
                        rows = await aexecute_autocommit(
                            connection, renew_leases(list(newest), list(newest.values()), timing())
                        )
                for waiting in batch:
                    node, message, _, future = waiting
                    if future.done():
                        continue
                    if node in rows and rows[node].row_held:
                        held.append(waiting)
                    elif node in rows and newest[node].incarnation == message.incarnation:
                        self.drops.heard.add(node)
                        future.set_result(rows[node])
                    else:
                        self._drop(node, future, HeartbeatExpired())
            except Exception as error:
                if not batch:  # no connection came
                    batch, self._waiting = self._waiting, []
                for node, _, _, future in batch:
                    self._drop(node, future, error)
            if held:
                if not self._waiting:
                    await asyncio.sleep(HELD_PAUSE_S)
                self._waiting = held + self._waiting

    def _drop(self, node: int, future: asyncio.Future[Row], error: Exception) -> None:
        if not future.done():
            self.drops.dropped.add(node)
            future.set_exception(error)


def _fresh(batch: list[Waiting]) -> dict[int, Heartbeat]:
    """Return the newest beat of each node, should one repeat itself, but for what grew old."""
    oldest = time.monotonic() - MAX_WAIT_S
    return {node: message for node, message, since, _ in batch if since >= oldest}
