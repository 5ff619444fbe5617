"""The gateway's connections: three small async pools, since more only raise the tail.

No statement of theirs waits longer than STATEMENT_LIMIT_S for a database that fell silent, and then
every connection is replaced: those that are idle lead to the same silent host.

What keeps a lease (beats, the tokens of whoever speaks, our own pulse) has connections of its own:
it must never wait behind what leases are for. A thousand nodes that come back at once would else
lose their leases waiting for each other's checkpoints, and what is lost asks for still more.

Commits and what only reads never wait for a row lock. What does wait (register, releases, reports)
has connections of its own too: a lock that a frozen process holds must not use up those of commits.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

from ginkgo_site.deadline import AsyncConnection
from scheduling.db.transaction import IDLE_LIMIT, read_json

WORK_POOL_SIZE = 5
LEASE_POOL_SIZE = 2  #: one for a batch of beats, one for tokens
LOCKING_POOL_SIZE = 3
#: Longest wait of a step for a row lock. The daemon repeats what did not get it.
ROW_LOCK_TIMEOUT = "500ms"
#: The same for a commit, which waits for locks of whole tables only. Less than STATEMENT_LIMIT_S:
#: a server that says that a table is locked is not silent.
LOCK_TIMEOUT = "2s"
#: Who comes after so many is told to come again: a request that nobody waits for any more is work
#: for nothing.
MAX_WAITING = 500
#: A daemon waits 4 s for the answer to a beat and 8 s for that to a commit, so a statement that
#: takes longer serves nobody. What it did counts: a commit that is repeated is answered as before.
STATEMENT_LIMIT_S = 3.0


class GatewayConnection(AsyncConnection):
    limit_s = STATEMENT_LIMIT_S


class GatewayPool(AsyncConnectionPool[Any]):
    """A pool that renews all its connections once one of them found the database silent."""

    async def putconn(self, conn: Any) -> None:
        """Take a connection back."""
        await super().putconn(conn)
        if conn.silent:
            await _renew_all(conn)


_pools: dict[str, GatewayPool] = {}
_renewed_at = 0.0


async def _renew_all(dead: AsyncConnection) -> None:
    """Replace every connection of every pool, unless that was done since `dead` was answered."""
    global _renewed_at
    if dead.answered_at > _renewed_at:
        _renewed_at = time.monotonic()
        for each in list(_pools.values()):
            await each.drain()


async def _check(connection: AsyncConnection) -> None:
    """Raise unless the connection lives. A dead one is hardly the only one: a request that came
    to the next dead one would wait a second, and two for the one after it."""
    try:
        await connection.check()
    except psycopg.OperationalError:
        await _renew_all(connection)
        raise


def work_pool() -> GatewayPool:
    """Return the open pool. Raises RuntimeError before `open_pools`."""
    return _opened("work")


def lease_pool() -> GatewayPool:
    """Return the pool of what keeps leases. Raises RuntimeError before `open_pools`."""
    return _opened("leases")


def locking_pool() -> GatewayPool:
    """Return the pool of what may wait for row locks. Raises RuntimeError before `open_pools`."""
    return _opened("steps")


def _opened(name: str) -> GatewayPool:
    try:
        return _pools[name]
    except KeyError:
        raise RuntimeError(
            "the gateway is not open: run the ASGI server with --lifespan on"
        ) from None


async def open_pools() -> None:
    """Open all without waiting for the database, which may come later than the web."""
    from ginkgo_site.database import conninfo

    for name, size, waiting in (
        ("work", WORK_POOL_SIZE, MAX_WAITING),
        ("leases", LEASE_POOL_SIZE, 0),
        ("steps", LOCKING_POOL_SIZE, MAX_WAITING),
    ):
        if name in _pools:
            continue
        _pools[name] = GatewayPool(
            conninfo(),
            connection_class=GatewayConnection,
            min_size=2,
            max_size=size,
            max_waiting=waiting,
            open=False,
            timeout=5.0,
            reconnect_timeout=0,
            max_idle=120,
            check=_check,
            configure=_configure_step if name == "steps" else _configure,
            kwargs={"autocommit": True, "prepare_threshold": 1},
        )
        await _pools[name].open(wait=False)


LIMITS = """
SELECT set_config('lock_timeout', %s, false),
       set_config('idle_in_transaction_session_timeout', %s, false)
"""


async def _configure(connection: AsyncConnection) -> None:
    read_json(connection)
    await connection.execute(LIMITS, [LOCK_TIMEOUT, IDLE_LIMIT])


async def _configure_step(connection: AsyncConnection) -> None:
    read_json(connection)
    await connection.execute(LIMITS, [ROW_LOCK_TIMEOUT, IDLE_LIMIT])


async def close_pools() -> None:
    """Close all. Idempotent."""
    while _pools:
        _, closing = _pools.popitem()
        await closing.close()
