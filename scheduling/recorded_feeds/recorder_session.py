"""The database session of a recorder. It keeps a second recorder of the same feed from starting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg

from ginkgo_site.database import conninfo
from ginkgo_site.deadline import AsyncConnection
from portfolios.feeds.log import WriterReplaced

LOCK = "SELECT pg_try_advisory_lock(hashtext('ginkgo feed recorder'), %s)"


class RecorderSession:
    """One connection, opened again when it is lost.

    It holds a lock of the session, which ends with the process. The lock only prevents a mistake:
    what refuses a second writer is the epoch. `take_over` does without it, for a recorder on a
    machine that does not answer.
    """

    def __init__(self, feed: str, key: int, *, take_over: bool = False) -> None:
        """Open nothing yet."""
        self._feed, self._key, self._take_over = feed, key, take_over
        self._lent = asyncio.Lock()
        self._connection: psycopg.AsyncConnection[Any] | None = None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Lend the connection, to one at a time. Raise WriterReplaced if another recorder is
        running."""
        async with self._lent:
            if self._connection is None:
                self._connection = await self._open()
            try:
                yield self._connection
            except psycopg.Error:  # a server that is read-only now is not the one to write to
                await self.close()
                raise

    async def close(self) -> None:
        """Close the connection, and with it give the lock back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    async def _open(self) -> psycopg.AsyncConnection[Any]:
        connection = await AsyncConnection.connect(conninfo(), autocommit=True)
        try:
            cursor = await connection.execute(LOCK, (self._key,))
            row = await cursor.fetchone()
        except BaseException:
            await connection.close()
            raise
        if not (row and row[0]) and not self._take_over:
            await connection.close()
            raise WriterReplaced(
                f"Another recorder of feed {self._feed} is running. End it first; if its machine"
                " does not answer, --take-over begins without it, and nothing that it still sends"
                " is recorded."
            )
        return connection
