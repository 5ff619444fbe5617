"""The database session of a recorder. It keeps a second recorder of the same feed from starting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg

from ginkgo_site.database import conninfo
from ginkgo_site.deadline import AsyncConnection
from portfolios.feeds.log import WriterReplaced

logger = logging.getLogger(__name__)

#: After so long without a statement the server ends the session, and with it the lock. Otherwise a
#: frozen process would keep it, since its kernel answers for it. `keep_alive` sends statements
#: while a source is quiet.
IDLE_S = 30.0
KEEP_ALIVE_EVERY_S = 8.0
LIMIT = "SELECT set_config('idle_session_timeout', %s, false)"
LOCK = "SELECT pg_try_advisory_lock(hashtext('ginkgo feed recorder'), %s)"


class RecorderSession:
    """One connection, opened again when it is lost.

    Its session holds a lock, which ends with the process, or IDLE_S after `keep_alive` has stopped.
    The lock only prevents an operator's mistake: the epoch is what refuses a second writer. With
    `take_over`, the session begins without the lock, for the case that the machine of the other
    recorder does not answer.
    """

    def __init__(self, feed: str, key: int, *, take_over: bool = False) -> None:
        """Open nothing yet. `key`: the feed's primary key; `take_over`: do without the lock."""
        self._feed, self._key, self._take_over = feed, key, take_over
        self._lent = asyncio.Lock()
        self._connection: psycopg.AsyncConnection[Any] | None = None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Lend the connection to one task at a time.

        Raise WriterReplaced if another recorder is running.
        """
        async with self._lent:
            if self._connection is None:
                self._connection = await self._open()
            try:
                yield self._connection
            except psycopg.Error:  # perhaps the server has become read-only: look for another one
                await self.close()
                raise

    async def close(self) -> None:
        """Close the connection, and with it give the lock back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    async def keep_alive(self) -> None:
        """Tell the server from time to time that this process is not frozen, until cancelled."""
        while True:
            await asyncio.sleep(KEEP_ALIVE_EVERY_S)
            try:
                async with self.connect() as connection:
                    await connection.execute("")
            except (psycopg.Error, WriterReplaced) as error:  # the next append reports it
                logger.info("feed %s: no database session now: %s", self._feed, str(error).strip())

    async def _open(self) -> psycopg.AsyncConnection[Any]:
        """Return a new connection that holds the lock.

        If another session holds it, raise WriterReplaced, or with `take_over` return a connection
        without the lock.
        """
        connection = await AsyncConnection.connect(conninfo(), autocommit=True)
        try:
            await connection.execute(LIMIT, (f"{IDLE_S:g}s",))
            cursor = await connection.execute(LOCK, (self._key,))
            has_lock = await cursor.fetchone() == (True,)
        except BaseException:
            await connection.close()
            raise
        if not has_lock and not self._take_over:
            await connection.close()
            raise WriterReplaced(
                f"Another recorder of feed {self._feed} is running. End it first; if its machine"
                " does not answer, start this one with --take-over: then nothing that the other one"
                " still sends is recorded."
            )
        return connection
