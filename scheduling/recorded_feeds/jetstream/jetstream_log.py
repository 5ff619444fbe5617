"""The stream of a recorded feed, as a log.

The fence is the number of the last message: every publisher states the one it knows, and the server
refuses the message if that is not the last. A claim is a message too, so that an append of an
earlier writer, which does not know of the claim, is refused.

What sources have sent is found in the database, which follows the stream: see `MirroredLog`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from msgspec.structs import replace

from portfolios.feeds.log import (
    CHAIN_START,
    SEGMENT_SEQS,
    Appended,
    Head,
    HeadMoved,
    LogError,
    RecordsDropped,
    SourceId,
    WriterReplaced,
    poll,
    replaced_by,
)
from portfolios.feeds.rows import time_text
from portfolios.runtime.events import Event, decode_event, join_events
from scheduling.enact.feed_records import WriterRow, append_columns, check_fence, stored_answer
from scheduling.recorded_feeds.jetstream.block import EMPTY, Block
from scheduling.recorded_feeds.jetstream.stream import Stream, WrongLast

POLL_S = 0.05
PAGE = 1_000  #: records
MAX_AHEAD_S = 60  #: how far the release of the newest record may lie ahead of the clock


class ReleasedAhead(LogError):
    """The newest record was released after now, so that no record can follow with its true time."""


class JetStreamLog:
    """The log of a feed, in its stream."""

    def __init__(self, stream: Stream) -> None:
        """Read nothing yet."""
        self.name = stream.feed
        self.stream = stream
        self._number, self._last = 0, EMPTY  #: the newest message that is known

    async def head(self) -> Head:
        """See `Log.head`."""
        await self.refresh()
        return Head(self._last.to_seq, self._last.released_us)

    async def first(self) -> int:
        """See `Log.first`."""
        await self.refresh()
        if not self._number:
            return 1
        return (await self.stream.block(await self.stream.first_number())).from_seq

    async def read(
        self, from_seq: int, to_seq: int, limit: int, symbols: frozenset[str] | None = None
    ) -> list[Event]:
        """See `Log.read`."""
        first = await self.first()  # reads the newest message too, hence `_last`
        last = min(to_seq, self._last.to_seq)
        if from_seq < first:
            raise RecordsDropped(
                f"Feed {self.name} keeps its records from seq {first} on; seq {from_seq} was"
                " dropped."
            )
        found: list[Event] = []
        while from_seq <= last and len(found) < limit:
            page = await self.stream.read(from_seq, last, PAGE)
            events = (decode_event(encoded) for _, _, encoded in page)
            # Events without a symbol, such as ticks, are for every reader.
            found += [e for e in events if symbols is None or e.symbol in symbols or not e.symbol]
            from_seq += len(page)
        return found[:limit]

    def follow(self, after: int) -> AsyncIterator[list[Event]]:
        """See `Log.follow`."""
        return poll(self, after, PAGE, POLL_S)

    async def digest(self, segment: int) -> str | None:
        """See `Log.digest`. Reads the message in which the segment ends."""
        if segment == 0:
            return CHAIN_START.hex()
        await self.refresh()
        if segment * SEGMENT_SEQS > self._last.to_seq:
            return None
        block = await self.stream.block_of(segment * SEGMENT_SEQS)
        return dict(block.segments)[segment].hex()

    async def claim(self, writer: str) -> int:
        """See `RecordedLog.claim`."""
        return await self.replace_writer(writer)

    async def replace_writer(self, writer: str, only_after: int | None = None) -> int:
        """Claim the log and return the new epoch.

        Raise WriterReplaced if the log's epoch is not `only_after`; None accepts every epoch.
        """
        while True:
            await self.refresh()
            last = self._last
            if only_after not in (None, last.epoch):
                raise replaced_by(self.name, last.writer, last.epoch, only_after)
            claim = replace(
                last, epoch=last.epoch + 1, writer=writer, from_seq=last.to_seq + 1,
                source="", number=0, sha256="", segments=[], times={}, events=b"", pieces=[],
            )  # fmt: skip
            try:
                self._number, self._last = await self.stream.publish(claim, self._number)
                return claim.epoch
            except WrongLast:
                continue  # an append or another claim came first

    async def release(self, epoch: int) -> None:
        """See `RecordedLog.release`."""
        with suppress(WriterReplaced):  # another writer has claimed the feed since `epoch`
            await self.replace_writer("", only_after=epoch)

    async def append(
        self,
        epoch: int,
        expected: int,
        events: Sequence[Event],
        source: SourceId | None = None,
        cursor: str = "",
    ) -> Appended:
        """See `RecordedLog.append`. One message, if the newest one is known."""
        try:
            return await self._append(epoch, expected, events, source, cursor)
        except (HeadMoved, WriterReplaced):
            await self.refresh()  # what is known here may be old
            return await self._append(epoch, expected, events, source, cursor)

    async def cursor(self) -> str:
        """See `RecordedLog.cursor`."""
        await self.refresh()
        return self._last.cursor

    @property
    def newest(self) -> tuple[int, Block]:
        """Return the newest message that is known: its number and its block."""
        return self._number, self._last

    async def refresh(self) -> None:
        """Read the newest message of the stream."""
        self._number, self._last = await self.stream.last()

    async def _append(
        self,
        epoch: int,
        expected: int,
        events: Sequence[Event],
        source: SourceId | None,
        cursor: str,
    ) -> Appended:
        """Append after the newest known message, or return the answer to a repeat."""
        number, last = self._number, self._last
        state = await self._with_sent(writer_row(last, self._now_us()), source)
        earlier_answer = stored_answer(self.name, state, source)
        if earlier_answer is not None:
            return earlier_answer
        check_fence(self.name, state, epoch, expected)
        missing = None  # (first, last) number of the source's appends that did not come
        if source is not None and source.number > (state.newest or 0) + 1:
            missing = ((state.newest or 0) + 1, source.number - 1)
        if not events:
            return Appended(expected + 1, expected, missing=missing)
        self.check_clock()
        columns = append_columns(state, expected, events)
        block = Block(
            epoch=epoch, writer=last.writer, from_seq=expected + 1, to_seq=expected + len(events),
            released_us=state.now_us, chain=columns["chain"], cursor=cursor or last.cursor,
            source=source.source if source else "", number=source.number if source else 0,
            sha256=source.sha256 if source else "",
            segments=list(zip(columns["segments"], columns["digests"], strict=True)),
            times=dict(zip(columns["timed"], columns["last"], strict=True)),
            events=join_events(columns["events"]), piece=last.piece,
        )  # fmt: skip
        stored, block = await self.stream.publish(block, number)
        if stored > self._number:
            self._number, self._last = stored, block
        return Appended(block.from_seq, block.to_seq, missing=missing)

    def check_clock(self) -> None:
        """Raise ReleasedAhead if the newest record was released over MAX_AHEAD_S after now."""
        now_us, last = self._now_us(), self._last
        ahead_s = (last.released_us - now_us) // 1_000_000
        if ahead_s > MAX_AHEAD_S:
            raise ReleasedAhead(
                f"The newest record of feed {self.name}, seq {last.to_seq}, was released at"
                f" {time_text(last.released_us)}, {ahead_s:,} s after the database's time,"
                f" {time_text(now_us)}; at most {MAX_AHEAD_S} s are allowed. Correct the clock of"
                " the database if it is behind; otherwise append once it shows the time of that"
                " release, or append to a new feed."
            )

    def _now_us(self) -> int:
        """Return the time of a release in epoch microseconds, here by the clock of this host."""
        return time.time_ns() // 1_000

    async def _with_sent(self, state: WriterRow, source: SourceId | None) -> WriterRow:
        """Return `state` unchanged: only `MirroredLog` can add what a source has sent."""
        return state


def writer_row(last: Block, now_us: int) -> WriterRow:
    """Return the state of a log after a block, in the form of the feed's row in the database."""
    # `feed` and `first_seq` are known to the database alone, and not used.
    return WriterRow(
        feed=0, epoch=last.epoch, writer=last.writer, head=last.to_seq, first_seq=1,
        chain=last.chain, cursor=last.cursor, now_us=max(now_us, last.released_us),
        sent_sha256=None, sent_from=None, sent_to=None, newest=None,
    )  # fmt: skip
