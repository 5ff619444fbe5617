"""A feed in a stream, with the row in the database that follows it, as a `RecordedLog`.

The fence of commits, the planner and the pages ask the database for the head. So records of a
stream are released once the row has followed them, and a stream that lost its newest messages is
noticed. One statement covers all appends since the last statement, so that the database does not
limit the rate of a feed. The database also keeps what sources have sent. Release times are of the
database's clock, by which nodes judge the age of records.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from portfolios.feeds.log import Appended, LogError, LogUnavailable, SourceId
from portfolios.feeds.rows import InstrumentFacts
from portfolios.runtime.events import Event
from scheduling.db.transaction import Transaction, aexecute_autocommit
from scheduling.enact import feed_records
from scheduling.enact.feed_records import KEPT_APPENDS, Sent, WriterRow
from scheduling.recorded_feeds.jetstream.block import EMPTY, Block
from scheduling.recorded_feeds.jetstream.jetstream_log import JetStreamLog, writer_row
from scheduling.recorded_feeds.jetstream.stream import RESTORE, Stream, StreamMissing
from scheduling.recorded_feeds.postgres_log import Connect

logger = logging.getLogger(__name__)

RETRY_S = 0.2
NOTED_AT_ONCE = 256  #: messages that `begin` reads before it tells the database
FLUSH_S = 10.0  #: how long `release` waits for the database
#: A clock that nobody can set and that goes on while the machine is suspended.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

T = TypeVar("T")


class Database(Protocol):
    """What runs statements in PostgreSQL, each in a transaction of its own."""

    async def __call__(self, steps: Transaction[T]) -> T:
        """Run `steps` and return their result. Raise LogUnavailable without an answer."""
        ...


def database_over(name: str, connect: Connect) -> Database:
    """Return the database over connections that `connect` lends; errors name the feed `name`."""

    async def run(steps: Transaction[T]) -> T:
        try:
            async with connect() as connection:
                return await aexecute_autocommit(connection, steps)
        except (psycopg.Error, PoolTimeout) as error:  # also a server that is read-only now
            raise LogUnavailable(
                f"The database does not answer for feed {name}: {error}"
            ) from error

    return run


@dataclass(slots=True)
class _News:
    """What messages say that the database has not been told yet."""

    segments: dict[int, bytes] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)

    def add(self, block: Block) -> None:
        """Add what the message of a block says."""
        self.segments.update(block.segments)
        self.times.update(block.times)
        if block.source and block.from_seq <= block.to_seq:
            self.sent.append(
                Sent(block.source, block.number, block.sha256, block.from_seq, block.to_seq)
            )

    def followed_by(self, later: _News) -> _News:
        """Return these news together with `later` ones."""
        return _News(
            self.segments | later.segments, self.times | later.times, self.sent + later.sent
        )


class MirroredLog(JetStreamLog):
    """The log of a stream, whose newest state is written to the feed's row in the database."""

    def __init__(self, stream: Stream, database: Database) -> None:
        """Follow nothing yet."""
        super().__init__(stream)
        self._database = database
        self._mirrored = 0  #: number of the message that the database knows
        self._noted = _News()
        self._noted_to, self._noted_last = 0, EMPTY  #: the newest message that was noted
        self._recent: deque[Sent] = deque(maxlen=KEPT_APPENDS)  #: the newest noted appends
        self._times: dict[str, int] = {}  #: symbol → time of its newest noted record, in µs
        self._has_begun = False
        self._offset_us = 0  #: from `_CLOCK` to the database's time; set by `begin`
        self._changed = asyncio.Event()  #: set once something was noted
        self._followed = asyncio.Event()  #: set once the row has followed
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Read what the database has missed, and store all but the newest messages in it.

        Raise StreamMissing if the stream lacks records.
        """
        # The database first: its row only follows, so a stream that lost nothing is not behind it.
        row = await self._database(feed_records.writer(self.name))
        self._set_clock(row.clock_us)
        await super().refresh()
        number, newest = self.newest
        self._check_whole(row)
        followed_to = number  # the newest message that the row has followed
        if newest.to_seq > row.head:
            followed_to = await self.stream.number_of(row.head + 1) - 1
        self._noted_to, self._noted_last, self._has_begun = followed_to, newest, True
        # Without an append since, the row may still lack a claim or a release.
        is_current = followed_to == number and (row.epoch, row.writer) == (
            newest.epoch,
            newest.writer,
        )
        self._mirrored = number if is_current else 0
        while self._noted_to + NOTED_AT_ONCE < number:
            # Part by part, so that memory is bounded and a process that ends here has got further.
            await self._note(self._noted_to + NOTED_AT_ONCE)
            await self._mirror()
        await self._note_new()

    def _check_whole(self, row: WriterRow) -> None:
        """Raise StreamMissing if the stream lacks what the database has followed."""
        _, newest = self.newest
        lost = ""
        if newest.to_seq < row.head:
            lost = f"ends at seq {newest.to_seq}, and seq {row.head} was recorded: it lost records."
        elif newest.epoch < row.epoch:
            lost = f"ends at epoch {newest.epoch}, and epoch {row.epoch} was begun: an old copy."
        elif newest.to_seq == row.head and newest.chain != bytes(row.chain):
            lost = f"has other records up to seq {row.head} than were recorded: their hash differs."
        if lost:
            raise StreamMissing(
                f"The stream of feed {self.name} {lost} Nothing is recorded until it is whole: "
                f"{RESTORE}."
            )

    async def claim(self, writer: str) -> int:
        """See `RecordedLog.claim`. Raise StreamMissing if the stream lacks recorded messages."""
        await self.begin()
        epoch = await self.replace_writer(writer)
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name=f"mirror of {self.name}")
        self._changed.set()
        return epoch

    async def replace_writer(self, writer: str, only_after: int | None = None) -> int:
        """See `JetStreamLog.replace_writer`. Does not start the task that updates the row."""
        epoch = await super().replace_writer(writer, only_after)
        await self._note_new()
        return epoch

    async def release(self, epoch: int) -> None:
        """See `RecordedLog.release`. Waits for the database to follow."""
        with suppress(LogError):
            await self.replace_writer("", only_after=epoch)
        self._changed.set()
        try:
            async with asyncio.timeout(FLUSH_S):
                while self._task is not None and self._mirrored < self._noted_to:
                    self._followed.clear()
                    await self._followed.wait()
        except TimeoutError:
            logger.warning("feed %s: the database does not have the newest messages yet; the next"
                           " recorder or append writes them", self.name)  # fmt: skip
        await self.close()

    async def close(self) -> None:
        """Stop updating the row."""
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
        if not self._has_begun:
            await self.begin()
        done = await super().append(epoch, expected, events, source, cursor)
        await self._note_new()
        return done

    async def refresh(self) -> None:
        """Read the newest message, which may be an append whose answer was lost."""
        await super().refresh()
        await self._note_new()

    async def state(self, source: SourceId | None) -> WriterRow:
        """Return the state of the log after its newest message, with what `source` has sent."""
        _, block = self.newest
        return await self._with_sent(writer_row(block, self._now_us()), source)

    async def instruments(self) -> dict[str, InstrumentFacts]:
        """Return the instruments by symbol; the rows to append are checked against them.

        `last_us` covers records of the stream whose message the database was not told of yet.
        """
        known = await self._database(feed_records.instruments(self.name))
        for symbol in known.keys() & self._times.keys():
            facts, noted_us = known[symbol], self._times[symbol]
            known[symbol] = facts._replace(last_us=max(facts.last_us or noted_us, noted_us))
        return known

    async def follow_now(self) -> None:
        """Update the row of the feed, if messages were noted since. Raise LogUnavailable."""
        if self._mirrored < self._noted_to:
            await self._mirror()

    def _set_clock(self, clock_us: int) -> None:
        """Take over the database's time, in epoch microseconds, which was read just now."""
        self._offset_us = clock_us - time.clock_gettime_ns(_CLOCK) // 1_000

    def _now_us(self) -> int:
        """Return the database's time in epoch microseconds."""
        return time.clock_gettime_ns(_CLOCK) // 1_000 + self._offset_us

    async def _with_sent(self, state: WriterRow, source: SourceId | None) -> WriterRow:
        """Return the state with the newest number of the source, and its append `source.number`.

        Appends noted here are read first, since they may go to the database meanwhile.
        """
        if source is None:
            return state
        noted = [one for one in self._recent if one.source == source.source]
        row = await self._database(feed_records.writer(self.name, source))
        newest = max((one.number for one in noted), default=0)
        same = next((one for one in noted if one.number == source.number), None)
        return state._replace(
            newest=max(newest, row.newest or 0) or None,
            sent_sha256=same.sha256 if same else row.sent_sha256,
            sent_from=same.from_seq if same else row.sent_from,
            sent_to=same.to_seq if same else row.sent_to,
        )

    async def _note_new(self) -> None:
        """Note what the messages up to the newest known one say, once `begin` was called."""
        number, _ = self.newest
        if self._has_begun and number > self._noted_to:
            await self._note(number)

    async def _note(self, number: int) -> None:
        """Read the messages after `_noted_to` up to `number`; keep what the database is to get."""
        first = self._noted_to + 1
        known, newest = self.newest
        blocks = [
            newest if each == known else await self.stream.block(each)
            for each in range(first, number + 1)
        ]
        for each, block in enumerate(blocks, start=first):
            if each > self._noted_to:  # another append of this process may have noted it
                before = len(self._noted.sent)
                self._noted.add(block)
                self._recent.extend(self._noted.sent[before:])
                self._times.update(block.times)
                self._noted_to, self._noted_last = each, block
        self._changed.set()

    async def _mirror(self) -> None:
        """Write the news in `_noted` to the row of the feed, in one try; on failure keep them.

        Raise LogUnavailable.
        """
        message_number, newest, noted = self._noted_to, self._noted_last, self._noted
        self._noted = _News()
        try:
            row = await self._database(
                feed_records.mirror(
                    self.name, writer_row(newest, self._now_us()), newest.released_us,
                    noted.segments, noted.times, noted.sent,
                )
            )  # fmt: skip
        except BaseException:
            self._noted = noted.followed_by(self._noted)
            raise
        if row is not None:  # None: a newer state is there already
            self._set_clock(row.clock_us)
        self._mirrored = max(self._mirrored, message_number)
        self._followed.set()

    async def _follow(self) -> None:
        """Update the row whenever something was noted, until cancelled."""
        failures = 0
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._mirror()
            except Exception as error:  # of any kind: nobody would notice that this task has ended
                if failures % 50 == 0:  # every 10 s
                    kind = type(error.__cause__ or error).__name__
                    logger.warning(
                        "feed %s: the database does not follow its stream (%s); records are stored,"
                        " and released once it does", self.name, kind,
                    )  # fmt: skip
                failures += 1
                self._changed.set()
                await asyncio.sleep(RETRY_S)
                continue
            failures = 0
