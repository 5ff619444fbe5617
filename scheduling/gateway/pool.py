"""The gateway's connections: a small async pool, since more only raise the tail."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from scheduling.enact.recipe import read_json

SIZE = 5

_pool: AsyncConnectionPool[Any] | None = None


def pool() -> AsyncConnectionPool[Any]:
    """Return the open pool. Raises RuntimeError before `open_pool`."""
    if _pool is None:
        raise RuntimeError("the gateway is not open: run the ASGI server with --lifespan on")
    return _pool


async def open_pool() -> None:
    """Open the pool without waiting for the database, which may come later than the web."""
    global _pool
    from ginkgo_site.database import conninfo

    if _pool is None:
        _pool = AsyncConnectionPool(
            conninfo(),
            min_size=2,
            max_size=SIZE,
            open=False,
            timeout=5.0,
            reconnect_timeout=0,
            max_idle=120,
            check=None,
            configure=_configure,
            kwargs={"autocommit": True, "prepare_threshold": 1},
        )
        await _pool.open(wait=False)


async def _configure(connection: AsyncConnection[Any]) -> None:
    read_json(connection)


async def close_pool() -> None:
    """Close the pool. Idempotent."""
    global _pool
    if _pool is not None:
        closing, _pool = _pool, None
        await closing.close()
