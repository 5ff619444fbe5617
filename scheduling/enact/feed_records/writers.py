"""Writers of recorded feeds: who may append, under which epoch, and what a source has sent."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from portfolios.feeds.log import LogError, SourceId
from portfolios.feeds.rows import InstrumentFacts
from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query, query_one


class NoSuchFeed(LogError):
    """There is no recorded feed of this name."""

    def __init__(self, feed: str) -> None:
        super().__init__(f"There is no recorded feed named {feed}.")


class WriterRow(NamedTuple):
    """The writer's row, and what the source has sent under the number asked about."""

    feed: int
    epoch: int
    writer: str
    head: int
    first_seq: int
    chain: bytes
    cursor: str
    now_us: int  #: the database's time, but never before the release of the head
    sent_sha256: str | None
    sent_from: int | None
    sent_to: int | None
    newest: int | None  #: the highest number that the source has sent
    in_stream: bool = False
    clock_us: int = 0  #: the database's time


WRITER = Statement(
    "FEED_WRITER",
    """
SELECT w.feed_id AS feed, w.epoch, w.writer, w.head, w.first_seq, w.chain, w.cursor,
       greatest((extract(epoch FROM clock_timestamp()) * 1e6)::bigint, w.released_us) AS now_us,
       a.sha256 AS sent_sha256, a.from_seq AS sent_from, a.to_seq AS sent_to,
       (SELECT max(x.number) FROM portfolios_feedappend x
        WHERE x.feed_id = w.feed_id AND x.source = %(source)s) AS newest,
       w.in_stream, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS clock_us
FROM portfolios_feed f JOIN portfolios_feedwriter w ON w.feed_id = f.id
LEFT JOIN portfolios_feedappend a
    ON a.feed_id = w.feed_id AND a.source = %(source)s AND a.number = %(number)s
WHERE f.name = %(feed)s
""",
    row=WriterRow,
)


class ClaimedRow(NamedTuple):
    epoch: int


CLAIM = Statement(
    "FEED_CLAIM",
    """
-- Concurrent writer: another claim. The later one has the higher epoch, and the earlier is refused.
UPDATE portfolios_feedwriter w SET epoch = w.epoch + 1, writer = %(writer)s
FROM portfolios_feed f WHERE f.id = w.feed_id AND f.name = %(feed)s
RETURNING w.epoch
""",
    row=ClaimedRow,
)

RELEASE = Statement(
    "FEED_RELEASE",
    """
-- Concurrent writer: a claim, after which this epoch is not the feed's any more.
UPDATE portfolios_feedwriter w SET epoch = w.epoch + 1, writer = ''
FROM portfolios_feed f WHERE f.id = w.feed_id AND f.name = %(feed)s AND w.writer <> ''
  AND (%(epoch)s::bigint IS NULL OR w.epoch = %(epoch)s::bigint)
RETURNING w.epoch
""",
    row=ClaimedRow,
)


class InstrumentRow(NamedTuple):
    symbol: str
    scale: int
    tick_size: Decimal
    lot: Decimal
    last_us: int | None


INSTRUMENTS = Statement(
    "FEED_INSTRUMENTS",
    """
SELECT i.symbol, i.scale, i.tick_size, i.lot, i.last_us
FROM portfolios_instrument i JOIN portfolios_feed f ON f.id = i.feed_id
WHERE f.name = %(feed)s ORDER BY i.symbol
""",
    row=InstrumentRow,
)


def claim(feed: str, writer: str) -> Transaction[int]:
    """Make `writer` the one writer of a feed ("": none). Return its new epoch. Raise NoSuchFeed."""
    row = yield from query_one(CLAIM, feed=feed, writer=writer)
    if row is None:
        raise NoSuchFeed(feed)
    return row.epoch


def release(feed: str, epoch: int | None = None) -> Transaction[bool]:
    """Take the writer from a feed, so that any source may append to it.

    Return False if the feed has no writer, or one with another epoch than `epoch` (None: any).
    """
    return (yield from query_one(RELEASE, feed=feed, epoch=epoch)) is not None


def writer(feed: str, source: SourceId | None = None) -> Transaction[WriterRow]:
    """Return the row of the feed's writer, with what `source` has sent. Raise NoSuchFeed."""
    row = yield from query_one(
        WRITER,
        feed=feed,
        source=source.source if source else "",
        number=source.number if source else 0,
    )
    if row is None:
        raise NoSuchFeed(feed)
    return row


def instruments(feed: str) -> Transaction[dict[str, InstrumentFacts]]:
    """Return symbol → what rows of that symbol are checked against; {} if there is no such feed."""
    rows = yield from query(INSTRUMENTS, feed=feed)
    return {
        r.symbol: InstrumentFacts(r.symbol, r.scale, r.tick_size, r.lot, r.last_us) for r in rows
    }
