"""The interface of logs that grow, whatever stores them, and the hash chain over their records.

A log has one writer. It is known by an epoch, which every claim raises, and each append names the
epoch and the head that it continues from: a writer that was replaced, or has missed an append, is
refused and nothing is written. Seqs are 1, 2, 3 … without gaps. A record never changes; it can only
be dropped, from the oldest on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from typing import Protocol

import msgspec

from portfolios.runtime.events import Event

#: Records of one segment of the hash chain; the chain is stored at the end of each segment. Not to
#: be confused with the segments of a feed, which differ in their rates.
SEGMENT_SEQS = 10_000
CHAIN_START = bytes(32)  #: the chain before the first record


class Head(msgspec.Struct, frozen=True):
    """The newest record of a log."""

    seq: int  #: 0: the log is empty
    released_us: int  #: when it was stored, by the clock of the log


class SourceId(msgspec.Struct, frozen=True):
    """Where an append comes from: repeating it under the same number writes nothing."""

    source: str
    number: int  #: of the append: 1, 2, 3 … for each source
    sha256: str = ""  #: of the content, to tell a repeat from another append of the same number


class Appended(msgspec.Struct, frozen=True):
    """The result of an append. `from_seq` > `to_seq`: the append was empty."""

    from_seq: int
    to_seq: int
    repeated: bool = False  #: it was appended before, with these seqs
    missing: tuple[int, int] | None = None  #: first and last of the source's numbers skipped


class LogError(Exception):
    """Base of the refusals of a log.

    LogError
    ├── WriterReplaced   another writer has claimed the log
    ├── HeadMoved        the log has grown since its head was read
    ├── SourceConflict   the source used a number for other content, or one it has passed
    ├── RecordsDropped   the records asked for are older than the log keeps
    └── LogUnavailable   the log did not answer: the outcome of an append is unknown
    """


class WriterReplaced(LogError):
    """Another writer has claimed the log. Nothing was written."""


def replaced_by(feed: str, writer: str, since: int, ended: int) -> WriterReplaced:
    """Return the refusal of the writer of epoch `ended`: another has written since epoch `since`.

    With writer "", the feed was released, and each source may append.
    """
    end_it = "end that recorder and " if writer else ""
    return WriterReplaced(
        f"Feed {feed} has been recorded by {writer or 'its sources'} since epoch {since}; epoch"
        f" {ended} writes nothing any more. To record here again, {end_it}start this one again."
    )


class HeadMoved(LogError):
    """The log has grown since the writer read its head: read that again. Nothing was written."""


class SourceConflict(LogError):
    """The source has used the number for other content, or has passed it. Nothing was written."""


class RecordsDropped(LogError):
    """The records asked for are older than those the log keeps."""


class LogUnavailable(LogError):
    """The log did not answer. An append may or may not be stored: repeat it with its source id."""


class Log(Protocol):
    """A log of events that can be read from any seq it keeps."""

    name: str

    async def head(self) -> Head:
        """Return the newest record. Raise LogUnavailable."""

    async def first(self) -> int:
        """Return the oldest seq that is kept; head + 1 if none is."""

    async def read(
        self, from_seq: int, to_seq: int, limit: int, symbols: frozenset[str] | None = None
    ) -> list[Event]:
        """Return the events with from_seq <= seq <= to_seq, the first `limit` of them.

        With `symbols`, only their events and those without a symbol. Raise LogUnavailable, or
        RecordsDropped if from_seq is older than the log keeps.
        """

    def follow(self, after: int) -> AsyncIterator[list[Event]]:
        """Yield the events after `after` in order, without gaps, as they are appended."""

    async def digest(self, segment: int) -> str | None:
        """Return the hash chain after the first `segment` * SEGMENT_SEQS records, as hex.

        None if the log has fewer records.
        """


class RecordedLog(Log, Protocol):
    """A log that can also be appended to."""

    async def claim(self, writer: str) -> int:
        """Make `writer` the one writer; return its epoch. Every earlier epoch is refused."""

    async def release(self, epoch: int) -> None:
        """Let any source append again, if the writer of `epoch` is still the one writer."""

    async def append(
        self,
        epoch: int,
        expected: int,
        events: Sequence[Event],
        source: SourceId | None = None,
        cursor: str = "",
    ) -> Appended:
        """Append all events or none, after the head `expected`.

        `cursor` is where the source can be resumed; it is stored with the head. Raise
        WriterReplaced, HeadMoved, SourceConflict or LogUnavailable.
        """

    async def cursor(self) -> str:
        """Return the source cursor of the newest append; "" without one."""


def next_link(chain: bytes, encoded: bytes) -> bytes:
    """Return the hash chain after one more record; `encoded` holds its seq and release time too."""
    return sha256(chain + encoded).digest()


def completed_segment(seq: int) -> int | None:
    """Return the number (1, 2, …) of the hash chain's segment that ends with `seq`, or None."""
    segment, rest = divmod(seq, SEGMENT_SEQS)
    return None if rest else segment


async def poll(log: Log, after: int, page: int, poll_s: float) -> AsyncIterator[list[Event]]:
    """Yield the events after `after`, up to `page` at once, as `Log.follow` does.

    At the head the log is read again every `poll_s` seconds.
    """
    while True:
        events = await log.read(after + 1, after + page, page)
        if events:
            after = events[-1].seq
            yield events
        else:
            await asyncio.sleep(poll_s)
