"""The gateway's connections: small async pools, since larger ones only raise tail latency.

No statement waits longer than STATEMENT_LIMIT_S for a database that does not answer, and then every
connection is replaced: the idle ones lead to the same host.

Statements that keep leases (heartbeats, token look-ups, the gateway's own liveness) have separate
connections: they must not wait behind the work that leases permit. Otherwise a thousand nodes that
come back at once lose their leases waiting for each other's checkpoints, and lost nodes ask for
still more.

Commits and reads never wait for a row lock. Transactions that do (register, releases, reports) have
separate connections too: a lock held by a frozen process must not use up those of commits.

Lines of portfolios' logs have one connection: nothing else ever waits for them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

from ginkgo_site.deadline import AsyncConnection
from ginkgo_site.sessions import DatabaseUnusable
from scheduling.db.transaction import IDLE_LIMIT, read_json
from scheduling.gateway.node_limits import Admission

logger = logging.getLogger(__name__)

WORK_POOL_SIZE = 5
LEASE_POOL_SIZE = 2  #: one for a batch of heartbeats, one for tokens
LOCKING_POOL_SIZE = 3
LOG_POOL_SIZE = 1
#: Longest wait for a row lock. The daemon repeats what failed by it.
ROW_LOCK_TIMEOUT = "500ms"
#: The same for a commit, which waits for table locks only. Less than STATEMENT_LIMIT_S: a server
#: that reports a locked table is not silent.
LOCK_TIMEOUT = "2s"
#: Requests that may wait for a connection of a pool. Any further one is refused and repeated by its
#: daemon: behind so many it would be served only after the daemon has given up on it.
MAX_WAITING = 500
#: A daemon waits 4 s for the answer to a heartbeat and 8 s for that to a commit, so a slower
#: statement is of no use. If it was executed all the same, its repeat gets the same answer.
STATEMENT_LIMIT_S = 3.0


class GatewayConnection(AsyncConnection):
    """A connection that waits for an answer for at most STATEMENT_LIMIT_S."""

    limit_s = STATEMENT_LIMIT_S


class GatewayPool(AsyncConnectionPool[Any]):
    """A pool that replaces all its connections once one of them found the database silent."""

    async def putconn(self, conn: Any) -> None:
        """Return a connection to the pool; replace all if the database was silent on this one."""
        await super().putconn(conn)
        if conn.silent:
            await _renew_all(conn)


_pools: dict[str, GatewayPool] = {}
_renewed_at = 0.0


async def _renew_all(dead: AsyncConnection) -> None:
    """Replace all connections of all pools, unless that was done since `dead` had an answer."""
    global _renewed_at
    if dead.answered_at > _renewed_at:
        _renewed_at = time.monotonic()
        for pool in list(_pools.values()):
            await pool.drain()


async def _check(connection: AsyncConnection) -> None:
    """Raise OperationalError if the connection is dead, after replacing all connections: the others
    are usually dead too, and a request that tried one after the other would wait for each."""
    try:
        await connection.check()
    except psycopg.OperationalError:
        await _renew_all(connection)
        raise


def work_pool() -> GatewayPool:
    """Return the pool for commits and reads. Raise RuntimeError before `open_pools`."""
    return _pool("work")


def lease_pool() -> GatewayPool:
    """Return the pool for statements that keep leases. Raise RuntimeError before `open_pools`."""
    return _pool("leases")


def log_pool() -> GatewayPool:
    """Return the pool for lines of logs. Raise RuntimeError before `open_pools`."""
    return _pool("logs")


@asynccontextmanager
async def work_connection(node: int) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Lend a connection for commits and reads, within the share of the node."""
    async with Admission(node, "work"), work_pool().connection() as connection:
        yield connection


@asynccontextmanager
async def locking_connection(
    node: int, within_s: float | None = None
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Lend a connection whose statements may wait for row locks, within the share of the node.

    Raise PoolTimeout if none is free within `within_s` seconds; None: within five.
    """
    async with Admission(node, "steps"), _pool("steps").connection(within_s) as connection:
        yield connection


def _pool(name: str) -> GatewayPool:
    try:
        return _pools[name]
    except KeyError:
        raise RuntimeError(
            "the gateway is not open: run the ASGI server with --lifespan on"
        ) from None


async def open_pools() -> None:
    """Open all pools without waiting for the database, which may start later.

    Raise DatabaseUnusable if it answers and cannot be used.
    """
    from ginkgo_site.database import conninfo

    await _refuse_unusable_database(conninfo())
    for name, size, lock_timeout, max_waiting in (
        ("work", WORK_POOL_SIZE, LOCK_TIMEOUT, MAX_WAITING),
        ("leases", LEASE_POOL_SIZE, LOCK_TIMEOUT, 0),  # 0: any number may wait
        ("steps", LOCKING_POOL_SIZE, ROW_LOCK_TIMEOUT, MAX_WAITING),
        ("logs", LOG_POOL_SIZE, ROW_LOCK_TIMEOUT, MAX_WAITING),
    ):
        if name in _pools:
            continue
        _pools[name] = GatewayPool(
            conninfo(),
            connection_class=GatewayConnection,
            min_size=min(2, size),
            max_size=size,
            max_waiting=max_waiting,
            open=False,
            timeout=5.0,
            reconnect_timeout=0,
            max_idle=120,
            check=_check,
            configure=partial(_configure, lock_timeout),
            kwargs={"autocommit": True, "prepare_threshold": 1},
        )
        await _pools[name].open(wait=False)


async def _refuse_unusable_database(conninfo: str) -> None:
    """Raise DatabaseUnusable if the database answers and cannot be used."""
    try:
        connection = await GatewayConnection.connect(conninfo)
    except DatabaseUnusable:
        raise
    except psycopg.Error as error:
        logger.info("the database does not answer yet: %s", str(error).strip())
    else:
        await connection.close()


#: Sets the limits of a session: for locks, and for a transaction that stays idle.
LIMITS = """
SELECT set_config('lock_timeout', %s, false),
       set_config('idle_in_transaction_session_timeout', %s, false)
"""


async def _configure(lock_timeout: str, connection: AsyncConnection) -> None:
    """Prepare a new connection of a pool for its requests."""
    read_json(connection)
    await connection.execute(LIMITS, [lock_timeout, IDLE_LIMIT])


async def close_pools() -> None:
    """Close all pools. Idempotent."""
    while _pools:
        _, closing = _pools.popitem()
        await closing.close()
