"""A recorded feed as a reference run reads it: from the database, checked by the hash chain."""

from __future__ import annotations

from collections.abc import Sequence

from portfolios.feeds.clock import Segment
from portfolios.feeds.log import CHAIN_START, SEGMENT_SEQS, completed_segment, next_link
from portfolios.models import FeedRow
from portfolios.recorded_releases import released_to
from portfolios.runtime.events import Event, decode_event
from portfolios.verify.types import CannotVerify
from scheduling.db.transaction import execute_autocommit
from scheduling.errors import Refused
from scheduling.observe.feed_records import RecordRow, digest
from scheduling.recorded_feeds.reads import stored_records

PAGE = 5_000


RESTORE = "which was recorded; restore the feed's table"


class RecordedFeed:
    """A `Feed` over the records of one feed, checked as they are read.

    Each segment of the hash chain is checked once its last record is read. A read that continues
    the one before it, as those of a reference run do, reads nothing twice. Any other also reads
    the records of its segment before `from_seq`; if the first of them are dropped, that segment is
    not checked.
    """

    sha256 = ""

    def __init__(self, row: FeedRow) -> None:
        """Read nothing yet."""
        self.name = row.name
        self._row, self._feed = row, row.pk
        self.first_seq, self.length = row.writer.first_seq, row.writer.head
        self.symbols = tuple(row.instruments.values_list("symbol", flat=True))
        self._chain: bytes | None = None  #: after `_checked_to`; None: not known
        self._checked_to = 0

    def read(self, from_seq: int, limit: int, segments: Sequence[Segment] = ()) -> list[Event]:
        """See `Feed.read`."""
        return self.read_for(None, from_seq, from_seq + limit - 1, segments)

    def read_for(
        self,
        symbols: frozenset[str] | None,
        from_seq: int,
        to_seq: int,
        segments: Sequence[Segment] = (),
        limit: int | None = None,
    ) -> list[Event]:
        """See `Feed.read_for`; with `symbols`, events without a symbol are included.

        Raise CannotVerify if records are missing or differ from the hash chain.
        """
        if from_seq < self.first_seq:
            raise CannotVerify(
                f"feed {self.name} keeps its records from seq {self.first_seq} on, and seq"
                f" {from_seq} is needed"
            )
        found: list[Event] = []
        at, last = self._chain_start(from_seq), min(to_seq, self.length)
        while at <= last:
            rows = self._rows(at, min(last, at + PAGE - 1))
            for row in rows:
                self._check_record(row, at)
                at += 1
                if row.seq < from_seq:
                    continue  # read for the chain only
                if symbols is None or row.symbol in symbols or not row.symbol:
                    found.append(decode_event(bytes(row.event)))
                    if limit is not None and len(found) == limit:
                        return found
            if not rows:
                raise CannotVerify(f"feed {self.name} has no record of seq {at}, {RESTORE}")
        return found

    def released_to(self, at_us: int) -> int:
        """Return the newest seq released at that time."""
        return released_to(self._feed, at_us)

    def _chain_start(self, from_seq: int) -> int:
        """Return where to read from, so that the chain covers the segment of `from_seq`."""
        if self._chain is not None and self._checked_to == from_seq - 1:
            return from_seq
        segment = (from_seq - 1) // SEGMENT_SEQS
        begin = segment * SEGMENT_SEQS + 1
        if begin < self.first_seq:  # the beginning of the segment is dropped
            self._chain, self._checked_to = None, from_seq - 1
            return from_seq
        self._chain = execute_autocommit(digest(self._feed, segment)) if segment else CHAIN_START
        self._checked_to = begin - 1
        return begin

    def _check_record(self, row: RecordRow, expected: int) -> None:
        if row.seq != expected:
            raise CannotVerify(f"feed {self.name} has no record of seq {expected}, {RESTORE}")
        self._checked_to = row.seq
        if self._chain is not None:
            self._chain = next_link(self._chain, bytes(row.event))
        segment = completed_segment(row.seq)
        if segment is None:
            return
        recorded = execute_autocommit(digest(self._feed, segment))
        if self._chain is not None and recorded != self._chain:
            first = (segment - 1) * SEGMENT_SEQS + 1
            raise CannotVerify(
                f"the records of feed {self.name} from seq {first} to {row.seq} are not those that"
                " were recorded: their hash differs from the chain; restore the feed's table"
            )
        self._chain = recorded

    def _rows(self, first: int, last: int) -> list[RecordRow]:
        try:
            return stored_records(self._row, first, last, PAGE)
        except Refused as away:
            raise CannotVerify(away.message.rstrip(".")) from away
