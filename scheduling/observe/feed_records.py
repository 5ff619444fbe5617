"""Read recorded feeds: heads, records and hash chains."""

from __future__ import annotations

from typing import NamedTuple

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query, query_one


class HeadRow(NamedTuple):
    """The head of a recorded feed, and the oldest record that it keeps."""

    feed: int
    name: str
    seq: int  #: of the head; 0: no record yet
    released_us: int  #: when the head was released, in epoch microseconds
    first_seq: int
    in_stream: bool  #: the records are in NATS JetStream, not in the database


HEADS = Statement(
    "FEED_HEADS",
    """
SELECT f.id AS feed, f.name, w.head AS seq, w.released_us, w.first_seq, w.in_stream
FROM portfolios_feedwriter w JOIN portfolios_feed f ON f.id = w.feed_id
WHERE %(feed)s::text IS NULL OR f.name = %(feed)s::text
""",
    row=HeadRow,
)


class RecordRow(NamedTuple):
    """A record: `event` is its encoded event, `released_us` its release in epoch microseconds."""

    seq: int
    symbol: str
    released_us: int
    event: bytes


RECORDS = Statement(
    "FEED_RECORDS",
    """
SELECT r.seq, r.symbol, r.released_us, r.event FROM portfolios_feedrecord r
WHERE r.feed_id = %(feed)s AND r.seq >= %(from_seq)s AND r.seq <= %(to_seq)s
  AND (%(symbols)s::text[] IS NULL OR r.symbol = ANY(%(symbols)s::text[]))
ORDER BY r.seq LIMIT %(limit)s
""",
    row=RecordRow,
)


class DigestRow(NamedTuple):
    digest: bytes


DIGEST = Statement(
    "FEED_DIGEST",
    """
SELECT d.digest FROM portfolios_feeddigest d
WHERE d.feed_id = %(feed)s AND d.segment = %(segment)s
""",
    row=DigestRow,
)


def heads(feed: str | None = None) -> Transaction[list[HeadRow]]:
    """Return the heads of all recorded feeds, or of the one named `feed`."""
    return (yield from query(HEADS, feed=feed))


def records(
    feed: int, from_seq: int, to_seq: int, limit: int, symbols: frozenset[str] | None = None
) -> Transaction[list[RecordRow]]:
    """Return the first `limit` records from `from_seq` to `to_seq`.

    With `symbols`, return only theirs and those of no symbol, such as a gap of the whole feed.
    """
    wanted = None if symbols is None else [*sorted(symbols), ""]
    return (
        yield from query(
            RECORDS, feed=feed, from_seq=from_seq, to_seq=to_seq, limit=limit, symbols=wanted
        )
    )


def digest(feed: int, segment: int) -> Transaction[bytes | None]:
    """Return the hash chain up to the end of `segment`, or None if it is not complete yet.

    Segment 1 is the first 10,000 records.
    """
    row = yield from query_one(DIGEST, feed=feed, segment=segment)
    return None if row is None else bytes(row.digest)
