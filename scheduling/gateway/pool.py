"""The gateway's connections: two small async pools, since more only raise the tail.

What keeps a lease (beats, the tokens of whoever speaks, our own pulse) has connections of its own:
it must never wait behind what leases are for. A thousand nodes that come back at once would else
lose their leases waiting for each other's checkpoints, and what is lost asks for still more.
"""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from scheduling.enact.recipe import read_json

SIZE = 5
LEASE_SIZE = 2  #: one for a batch of beats, one for tokens
#: Who comes after so many is told to come again: a request that nobody waits for any more is work
#: for nothing.
MOST_WAITING = 500

_pools: dict[str, AsyncConnectionPool[Any]] = {}


def pool() -> AsyncConnectionPool[Any]:
    """Return the open pool. Raises RuntimeError before `open_pools`."""
    return _opened("work")


def lease_pool() -> AsyncConnectionPool[Any]:
    """Return the pool of what keeps leases. Raises RuntimeError before `open_pools`."""
    return _opened("leases")


def _opened(name: str) -> AsyncConnectionPool[Any]:
    try:
        return _pools[name]
    except KeyError:
        raise RuntimeError(
            "the gateway is not open: run the ASGI server with --lifespan on"
        ) from None


async def open_pools() -> None:
    """Open both without waiting for the database, which may come later than the web."""
    from ginkgo_site.database import conninfo

    for name, size, waiting in (("work", SIZE, MOST_WAITING), ("leases", LEASE_SIZE, 0)):
        if name in _pools:
            continue
        _pools[name] = AsyncConnectionPool(
            conninfo(),
            min_size=2,
            max_size=size,
            max_waiting=waiting,
            open=False,
            timeout=5.0,
            reconnect_timeout=0,
            max_idle=120,
            check=None,
            configure=_configure,
            kwargs={"autocommit": True, "prepare_threshold": 1},
        )
        await _pools[name].open(wait=False)


async def _configure(connection: AsyncConnection[Any]) -> None:
    read_json(connection)


async def close_pools() -> None:
    """Close both. Idempotent."""
    while _pools:
        _, closing = _pools.popitem()
        await closing.close()
