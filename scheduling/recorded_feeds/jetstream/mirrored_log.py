"""A feed in a stream, with the row in the database that follows it.

Whoever asks for the head asks the database: the fence of commits, the planner, the pages. So
records of a stream are released once the row has followed, and a stream that lost its newest
messages is noticed. One statement covers all appends since the last one, so that the database sets
no limit to the rate of a feed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from psycopg_pool import PoolTimeout

from portfolios.feeds.log import Appended, LogError, LogUnavailable, SourceId
from portfolios.feeds.rows import InstrumentFacts
from portfolios.runtime.events import Event
from scheduling.db.transaction import CONNECTION_LOST, aexecute_autocommit
from scheduling.enact import feed_records
from scheduling.observe.feed_records import heads
from scheduling.recorded_feeds.jetstream.block import Block
from scheduling.recorded_feeds.jetstream.jetstream_log import JetStreamLog, writer_row
from scheduling.recorded_feeds.jetstream.stream import Stream, StreamMissing
from scheduling.recorded_feeds.postgres_log import Connect, PostgresLog

logger = logging.getLogger(__name__)

RETRY_S = 0.2
DROP_EVERY_S = 60.0  #: messages that the database keeps no longer
FLUSH_S = 10.0


class MirroredLog(JetStreamLog):
    """What a recorder appends to."""

    def __init__(self, stream: Stream, connect: Connect) -> None:
        """Follow nothing yet."""
        super().__init__(stream)
        self._connect = connect
        self._database = PostgresLog(self.name, connect)
        self._mirrored = 0  #: number of the message that the database knows
        self._segments: dict[int, bytes] = {}
        self._times: dict[str, int] = {}
        self._changed, self._followed = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._first_seq, self._drop_at = 1, 0.0

    async def claim(self, writer: str) -> int:
        """See `RecordedLog.claim`. Raise StreamMissing if the stream lacks recorded messages."""
        found = await self._database.run(heads(self.name))
        if not found:
            raise feed_records.NoSuchFeed(f"There is no recorded feed named {self.name}.")
        epoch = await super().claim(writer)
        number, newest = self.newest
        if newest.to_seq < found[0].seq:
            raise StreamMissing(
                f"The stream of feed {self.name} ends at seq {newest.to_seq}, and seq"
                f" {found[0].seq} was recorded: it lost records. Restore the stream; nothing is"
                " recorded until then."
            )
        await self._note_missed(number, found[0].seq)
        self._first_seq = found[0].first_seq
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name=f"mirror of {self.name}")
        self._changed.set()
        return epoch

    async def release(self, epoch: int) -> None:
        """See `RecordedLog.release`. Waits for the database to follow."""
        with suppress(LogError):
            await super().release(epoch)
        self._changed.set()
        try:
            async with asyncio.timeout(FLUSH_S):
                while self._task is not None and self._mirrored < self.newest[0]:
                    self._followed.clear()
                    await self._followed.wait()
        except TimeoutError:
            logger.warning("feed %s: the database has not followed; the next recorder lets it",
                           self.name)  # fmt: skip
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def append(
        self,
        epoch: int,
        expected: int,
        events: Sequence[Event],
        source: SourceId | None = None,
        cursor: str = "",
    ) -> Appended:
        """See `RecordedLog.append`. Does not wait for the database."""
        done = await super().append(epoch, expected, events, source, cursor)
        self._note(self.newest[1])
        self._changed.set()
        return done

    async def refresh(self) -> None:
        """Read the newest message, which may be an append whose answer was lost."""
        await super().refresh()
        self._note(self.newest[1])
        self._changed.set()

    async def instruments(self) -> dict[str, InstrumentFacts]:
        """Return what rows are checked against, by symbol."""
        return await self._database.instruments()

    def _note(self, block: Block) -> None:
        self._segments.update(block.segments)
        self._times.update(block.times)

    async def _note_missed(self, number: int, head: int) -> None:
        """Note what the database has missed of the messages up to `number`, newest first."""
        times: dict[str, int] = {}
        while number > 0:
            block = await self.stream.block(number)
            if block.to_seq <= head:
                break
            self._segments.update(block.segments)
            times = block.times | times
            number -= 1
        self._times |= times

    async def _follow(self) -> None:
        """Let the row follow, until cancelled."""
        failures = 0
        while True:
            await self._changed.wait()
            self._changed.clear()
            number, newest = self.newest
            segments, self._segments = self._segments, {}
            times, self._times = self._times, {}
            try:
                async with self._connect() as connection:
                    first_seq = await aexecute_autocommit(
                        connection,
                        feed_records.mirror(
                            self.name, writer_row(newest), newest.released_us, segments, times
                        ),
                    )
            except (*CONNECTION_LOST, PoolTimeout, LogError) as away:
                if failures % 50 == 0:
                    logger.warning("feed %s: the database does not follow (%s); records are kept",
                                   self.name, type(away).__name__)  # fmt: skip
                failures += 1
                self._segments, self._times = segments | self._segments, times | self._times
                self._changed.set()
                await asyncio.sleep(RETRY_S)
                continue
            failures = 0
            self._mirrored = max(self._mirrored, number)
            self._followed.set()
            await self._drop(first_seq)

    async def _drop(self, first_seq: int | None) -> None:
        """Drop the messages that the database keeps no longer."""
        if first_seq is None or first_seq == self._first_seq or time.monotonic() < self._drop_at:
            return
        self._drop_at = time.monotonic() + DROP_EVERY_S
        try:
            await self.stream.drop_before(first_seq)
            self._first_seq = first_seq
        except LogUnavailable as away:
            logger.info("feed %s: old messages are not dropped now: %s", self.name, away)
