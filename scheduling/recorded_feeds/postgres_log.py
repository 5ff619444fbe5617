"""A recorded feed in PostgreSQL as a `RecordedLog`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from portfolios.feeds.log import (
    CHAIN_START,
    Appended,
    Head,
    LogUnavailable,
    RecordsDropped,
    SourceId,
    poll,
)
from portfolios.feeds.rows import InstrumentFacts
from portfolios.runtime.events import Event, decode_event
from scheduling.db.transaction import CONNECTION_LOST, Transaction, aexecute
from scheduling.enact import feed_records
from scheduling.observe.feed_records import HeadRow, digest, heads, records

POLL_S = 0.2  #: between two reads of the head; nodes wait for a notification instead
PAGE = 1_000  #: records

T = TypeVar("T")
Connect = Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]]


class PostgresLog:
    """The log `name`, over connections that `connect` lends."""

    def __init__(self, name: str, connect: Connect) -> None:
        """Read nothing yet."""
        self.name = name
        self._connect = connect

    async def head(self) -> Head:
        """See `Log.head`."""
        row = await self._row()
        return Head(row.seq, row.released_us)

    async def first(self) -> int:
        """See `Log.first`."""
        return (await self._row()).first_seq

    async def read(
        self, from_seq: int, to_seq: int, limit: int, symbols: frozenset[str] | None = None
    ) -> list[Event]:
        """See `Log.read`."""
        row = await self._row()
        if from_seq < row.first_seq:
            raise RecordsDropped(
                f"Feed {self.name} keeps its records from seq {row.first_seq} on; seq {from_seq}"
                " was dropped."
            )
        found = await self.run(records(row.feed, from_seq, to_seq, limit, symbols))
        return [decode_event(bytes(record.event)) for record in found]

    def follow(self, after: int) -> AsyncIterator[list[Event]]:
        """See `Log.follow`."""
        return poll(self, after, PAGE, POLL_S)

    async def digest(self, segment: int) -> str | None:
        """See `Log.digest`."""
        if segment == 0:
            return CHAIN_START.hex()
        found = await self.run(digest((await self._row()).feed, segment))
        return None if found is None else found.hex()

    async def claim(self, writer: str) -> int:
        """See `RecordedLog.claim`."""
        return await self.run(feed_records.claim(self.name, writer))

    async def release(self, epoch: int) -> None:
        """See `RecordedLog.release`."""
        await self.run(feed_records.release(self.name, epoch))

    async def instruments(self) -> dict[str, InstrumentFacts]:
        """Return the instruments by symbol; the rows to append are checked against them."""
        return await self.run(feed_records.instruments(self.name))

    async def append(
        self,
        epoch: int,
        expected: int,
        events: Sequence[Event],
        source: SourceId | None = None,
        cursor: str = "",
    ) -> Appended:
        """See `RecordedLog.append`."""
        return await self.run(
            feed_records.append(self.name, epoch, expected, events, source, cursor)
        )

    async def cursor(self) -> str:
        """See `RecordedLog.cursor`."""
        return (await self.run(feed_records.writer(self.name))).cursor

    async def _row(self) -> HeadRow:
        """Return the head of the feed. Raise NoSuchFeed."""
        rows = await self.run(heads(self.name))
        if not rows:
            raise feed_records.NoSuchFeed(self.name)
        return rows[0]

    async def run(self, steps: Transaction[T]) -> T:
        """Run a transaction. Raise LogUnavailable if the database does not answer."""
        try:
            async with self._connect() as connection:
                return await aexecute(connection, steps)
        except (*CONNECTION_LOST, PoolTimeout) as error:
            raise LogUnavailable(
                f"The database does not answer for feed {self.name}: {error}"
            ) from error
