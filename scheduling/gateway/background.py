"""Background work of a gateway: record that it can be reached, and test that it can write."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import PoolTimeout

from scheduling.db.disk_space import DISK_SPACE
from scheduling.db.transaction import aexecute, aexecute_autocommit
from scheduling.enact.lease import record_gateway_alive, record_gateway_left
from scheduling.enact.storage import record_disk_space
from scheduling.enact.timeline import note_timeline
from scheduling.gateway.acknowledgement_requests import ACKNOWLEDGEMENT_REQUESTS
from scheduling.gateway.commit_health import COMMIT_HEALTH
from scheduling.gateway.feed_reads import FEED_HEADS
from scheduling.gateway.health import HEALTH, RETRY_INTERVAL_S, WRITE_TEST_INTERVAL_S, write_test
from scheduling.gateway.heartbeat import BATCHER
from scheduling.gateway.http import primary_message
from scheduling.gateway.identity import GATEWAY_ID, HOST, PID
from scheduling.gateway.pool import close_pools, lease_pool, open_pools, work_pool
from scheduling.timing import timing

logger = logging.getLogger(__name__)

#: How long a process that stops waits for a connection, to record that it left.
LEAVE_LIMIT_S = 2.0
#: Between the end of a loop that should not have ended, and its next start.
RESTART_S = 1.0

_tasks: list[asyncio.Task[None]] = []


async def open_gateway() -> None:
    """Open the pools and start the background loops. The web process calls it at its start."""
    await open_pools()
    HEALTH.set_open(True)
    loops = (liveness_loop, _write_test_loop, FEED_HEADS.watch)
    _tasks.extend(asyncio.create_task(keep_running(loop)) for loop in loops)


async def close_gateway() -> None:
    """Stop the loops and close the pools. The web process calls it when it stops."""
    HEALTH.set_open(False)
    while _tasks:
        _tasks.pop().cancel()
    await _leave()
    await close_pools()


async def _leave() -> None:
    """Record that this process stops on purpose. If that fails, it counts as one that crashed."""
    try:
        async with lease_pool().connection(timeout=LEAVE_LIMIT_S) as connection:
            await aexecute_autocommit(connection, record_gateway_left(GATEWAY_ID))
    except (psycopg.Error, PoolTimeout) as error:
        logger.info("the database does not know that this gateway left: %s", error)


async def keep_running(loop: Callable[[], Awaitable[None]]) -> None:
    """Run a loop that has no end. Nobody awaits its task: log what ended it, and start it again."""
    while True:
        try:
            await loop()
        except Exception:
            logger.exception("%s failed, a defect to report; started again", loop.__qualname__)
        await asyncio.sleep(RESTART_S)


async def liveness_loop() -> None:
    """Record periodically that nodes can reach this process. Never returns."""
    # Why nodes may be silent without fault: what is to be stored, and what was stored last.
    overload = logged = ""
    while True:
        times = timing()
        try:
            async with lease_pool().connection(HEALTH.liveness.wait_s) as connection:
                overload = BATCHER.overload_reason() or _why_taken_out() or overload
                transaction = record_gateway_alive(
                    times,
                    GATEWAY_ID,
                    host=HOST,
                    pid=PID,
                    overloaded=bool(overload),
                    blocked_s=COMMIT_HEALTH.blocked_s(),
                    passed_s=COMMIT_HEALTH.passed_s(),
                )
                await aexecute_autocommit(connection, transaction)
            HEALTH.record_pulse(times.pulse_gap_s)
            if overload and not logged:  # log only the first: a full disk lasts, its figures change
                logger.warning("no lease is judged expired until one TTL after this: %s", overload)
            overload, logged = "", overload  # after a failed write it is kept for the next one
        except (psycopg.Error, PoolTimeout) as error:
            HEALTH.liveness.fail(error)  # other processes judge this one by the resulting gap
        await asyncio.sleep(times.pulse_s)


def _why_taken_out() -> str:
    """Return why a proxy sends this process no requests although it pulses, or "".

    The durable write test is overdue, or the disk is full. The proxy then sends the nodes to other
    processes, if it has any; they are silent until they have connected there.
    """
    return HEALTH.write.problem() if HEALTH.write.is_overdue else DISK_SPACE.problem()


async def _write_test_loop() -> None:
    """Write periodically over the pool of commits, as a commit does. Never returns.

    Readiness depends on it. It also notes whether the database is still the same one.
    """
    while True:
        DISK_SPACE.check(_database_folder())  # before a write, which a full disk may refuse
        try:
            async with work_pool().connection(HEALTH.write.wait_s) as connection:
                await aexecute_autocommit(connection, write_test())
                await aexecute_autocommit(connection, record_disk_space(DISK_SPACE))
                HEALTH.write.succeed()
                await _note_timeline(connection)
        except (psycopg.Error, PoolTimeout) as error:
            HEALTH.write.fail(error)
        await asyncio.sleep(RETRY_INTERVAL_S if HEALTH.write.error else WRITE_TEST_INTERVAL_S)


async def _note_timeline(connection: psycopg.AsyncConnection[Any]) -> None:
    """Record the timeline of the database; on a new one, ask all daemons for their commits."""
    try:
        ACKNOWLEDGEMENT_REQUESTS.record_database(await aexecute(connection, note_timeline()))
    except psycopg.ProgrammingError as error:
        # A hosted database that denies these functions to its roles, or one not yet migrated.
        logger.info("the timeline of the database is unknown: %s", primary_message(error))


def _database_folder() -> Path | None:
    """Return a folder on the disk of the embedded server, or None for any other server.

    It is the data folder beside that of the socket, the host in the address; if missing, our home.
    """
    from django.conf import settings

    env = settings.GINKGO
    if not env.database_is_embedded:
        return None
    data = Path(str(conninfo_to_dict(env.database_url).get("host") or "/")).parent / "data"
    return data if data.exists() else env.home
