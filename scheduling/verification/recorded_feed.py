"""A recorded feed as verifications and backtests read it: checked by its hash chain."""

from __future__ import annotations

from collections.abc import Sequence

from portfolios.feeds.clock import Segment
from portfolios.feeds.log import CHAIN_START, SEGMENT_SEQS, completed_segment, next_link
from portfolios.models import FeedRow
from portfolios.recorded_releases import released_to
from portfolios.runtime.events import Event, decode_event
from portfolios.sentences import sentence as _
from scheduling.db.transaction import execute_autocommit
from scheduling.errors import Refused
from scheduling.observe.feed_records import RecordRow, digest
from scheduling.recorded_feeds.reads import stored_records

PAGE = 5_000  #: records


class RecordsDiffer(Refused):
    """Records that a run needs are dropped, are missing, or are not those that were recorded."""

    def __init__(self, message: str) -> None:
        super().__init__("feed_differs", message)


class RecordedFeed:
    """A `Feed` over the records of one feed, checked as they are read.

    Each segment of the hash chain is checked once its last record is read. A read that continues
    the one before it, as those of a reference run do, reads nothing twice. Any other read begins
    at the first record of the segment of `from_seq`; if that record is dropped, the segment is not
    checked.
    """

    sha256 = ""  #: only packaged bars have one

    def __init__(self, row: FeedRow) -> None:
        """Take the feed of `row` as it is now: records appended later are not read."""
        self.name = row.name
        self._row = row
        self.first_seq, self.length = row.writer.first_seq, row.writer.head
        self.symbols = tuple(row.instruments.values_list("symbol", flat=True))
        self._chain: bytes | None = None  #: hash of the chain at `_checked_to`; None: not known
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

        Raise RecordsDiffer, or Refused 503 if the stream of the feed cannot be read.
        """
        if from_seq < self.first_seq:
            raise RecordsDiffer(
                _(
                    "Feed {feed} keeps its records from seq {first} on, and seq {seq} is needed.",
                    feed=self.name,
                    first=self.first_seq,
                    seq=from_seq,
                )
            )
        found: list[Event] = []
        at, last = self._chain_start(from_seq), min(to_seq, self.length)
        while at <= last:
            rows = stored_records(self._row, at, min(last, at + PAGE - 1), PAGE)
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
                raise self._missing_record(at)
        return found

    def released_to(self, at_us: int) -> int:
        """Return the newest seq released by `at_us`, a Unix time in microseconds."""
        return released_to(self._row.pk, at_us)

    def _chain_start(self, from_seq: int) -> int:
        """Return the seq to read from, so that the chain covers the segment of `from_seq`."""
        if self._chain is not None and self._checked_to == from_seq - 1:
            return from_seq
        segment = (from_seq - 1) // SEGMENT_SEQS
        begin = segment * SEGMENT_SEQS + 1
        if begin < self.first_seq:  # the beginning of the segment is dropped
            self._chain, self._checked_to = None, from_seq - 1
            return from_seq
        self._chain = execute_autocommit(digest(self._row.pk, segment)) if segment else CHAIN_START
        self._checked_to = begin - 1
        return begin

    def _missing_record(self, seq: int) -> RecordsDiffer:
        return RecordsDiffer(
            _(
                "Feed {feed} has no record of seq {seq}, which was recorded: restore its records"
                " from a backup.",
                feed=self.name,
                seq=seq,
            )
        )

    def _check_record(self, row: RecordRow, expected: int) -> None:
        """Continue the hash chain with `row`, and compare it with the stored hash of the segment.

        Raise RecordsDiffer if they differ at the segment's end, or if the seq is not `expected`.
        """
        if row.seq != expected:
            raise self._missing_record(expected)
        self._checked_to = row.seq
        if self._chain is not None:
            self._chain = next_link(self._chain, bytes(row.event))
        segment = completed_segment(row.seq)
        if segment is None:
            return
        recorded = execute_autocommit(digest(self._row.pk, segment))
        if self._chain is not None and recorded != self._chain:
            first = (segment - 1) * SEGMENT_SEQS + 1
            raise RecordsDiffer(
                _(
                    "The records of feed {feed} from seq {first} to {last} are not those that were"
                    " recorded, since their hash differs from the chain: restore them from a"
                    " backup.",
                    feed=self.name,
                    first=first,
                    last=row.seq,
                )
            )
        self._chain = recorded  # known from here on, even if this segment could not be checked
