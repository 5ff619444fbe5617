"""Group commit for heartbeats: those that arrive during one statement go into the next one.

There is no timer, so an idle gateway adds no delay. Each heartbeat is answered once its own row is
durable. One whose lease is locked goes into the next statement; the others do not wait for it.

No heartbeat is written while the last pulse of this process is older than the longest gap allowed,
nor in the second after that: the process may have been frozen, and heartbeats that waited in its
sockets may come from daemons that are dead by now. Daemons that live send theirs again.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from scheduling.db.transaction import Row, aexecute_autocommit
from scheduling.enact.lease import renew_leases
from scheduling.gateway.drop_monitor import DropMonitor
from scheduling.gateway.health import HEALTH
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.gateway.pool import lease_pool
from scheduling.timing import timing
from scheduling.wire.messages import Heartbeat

#: Pause before a statement for heartbeats whose leases were all locked a moment ago.
LOCKED_PAUSE_S = 0.02

#: A heartbeat that waited longer here no longer proves that the node is alive.
MAX_WAIT_S = 3.0

#: A process where heartbeats wait so long gets too little of the processor or of the database. It
#: says so before it drops them: a lease could be judged expired between a drop and the next
#: liveness write.
OVERLOADED_S = MAX_WAIT_S / 3


class Waiting(NamedTuple):
    """A heartbeat that waits since `since_s` (monotonic) for its row of `renew_leases`."""

    node: int
    heartbeat: Heartbeat
    since_s: float
    answer: asyncio.Future[Row]


class HeartbeatExpired(Exception):
    """The heartbeat was dropped, not written; a daemon that lives sends another.

    It waited too long, or this process may have been frozen meanwhile, or a newer heartbeat of the
    node came from another incarnation.
    """


class HeartbeatBatcher:
    """Writes waiting heartbeats in one statement, one statement at a time."""

    def __init__(self) -> None:
        self.drops = DropMonitor()
        self._waiting: list[Waiting] = []
        self._writing: list[Waiting] = []  # in the statement that runs now
        self._locked: list[Waiting] = []  # another transaction has locked their leases
        self._writer: asyncio.Task[None] | None = None

    async def renew(self, node: int, heartbeat: Heartbeat) -> Row:
        """Return the row that `renew_leases` returned for `node`, once the heartbeat is durable.

        If it was not stored, raise HeartbeatExpired, or the error that stopped the write.
        """
        answer: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(node, heartbeat, time.monotonic(), answer))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())
        return await answer

    def overload_reason(self) -> str:
        """Return why the silence of nodes proves nothing, or "". The count of drops begins anew."""
        reason = self.drops.overload_reason()
        now_s = time.monotonic()
        waits_s = [now_s - w.since_s for w in self._waiting + self._writing if not w.answer.done()]
        if not reason and waits_s and max(waits_s) > OVERLOADED_S:
            return f"a heartbeat waits for {max(waits_s):.1f} s"
        return reason

    async def _write_all(self) -> None:
        """Write heartbeats, one statement after the other, until none waits."""
        while self._waiting or self._locked:
            batch: list[Waiting] = []
            try:
                # The connection first: heartbeats that wait for one are still in the queue.
                async with lease_pool().connection() as connection:
                    batch = self._take()
                    newest = {} if HEALTH.was_frozen(timing().pulse_gap_s) else _newest(batch)
                    rows: dict[int, Row] = {}
                    if newest:
                        rows = await aexecute_autocommit(
                            connection,
                            renew_leases(list(newest), list(newest.values()), timing(), GATEWAY_ID),
                        )
                self._locked = self._resolve(batch, newest, rows)
            except Exception as error:
                for waiting in batch or self._take():  # `batch` is empty if no connection came
                    self._drop(waiting, error)
            self._writing = []
            if self._locked and not self._waiting:
                await asyncio.sleep(LOCKED_PAUSE_S)

    def _take(self) -> list[Waiting]:
        """Take all heartbeats for the next statement, those that waited longest first."""
        batch = self._locked + self._waiting
        # A locked lease shows no overload of this process: `overload_reason` leaves these out.
        self._writing, self._waiting, self._locked = self._waiting, [], []
        return batch

    def _resolve(
        self, batch: list[Waiting], newest: dict[int, Heartbeat], rows: dict[int, Row]
    ) -> list[Waiting]:
        """Answer each heartbeat, or drop it. Return those whose leases were locked."""
        locked: list[Waiting] = []
        for waiting in batch:
            if waiting.answer.done():
                continue
            row = rows.get(waiting.node)  # of the node's newest heartbeat, if one was in time
            if row is not None and row.lease_locked:
                locked.append(waiting)
            elif (
                row is not None
                and newest[waiting.node].incarnation == waiting.heartbeat.incarnation
            ):
                self.drops.stored_nodes.add(waiting.node)
                waiting.answer.set_result(row)
            else:
                self._drop(waiting, HeartbeatExpired())
        return locked

    def _drop(self, waiting: Waiting, error: Exception) -> None:
        """Make the request of a heartbeat that was not stored fail with `error`; count the drop."""
        if not waiting.answer.done():
            self.drops.dropped_nodes.add(waiting.node)
            waiting.answer.set_exception(error)


def _newest(batch: list[Waiting]) -> dict[int, Heartbeat]:
    """Return the newest heartbeat of each node, without those that waited too long.

    `batch` is in order of arrival, so a later heartbeat replaces an earlier one.
    """
    earliest_s = time.monotonic() - MAX_WAIT_S
    return {w.node: w.heartbeat for w in batch if w.since_s >= earliest_s}
