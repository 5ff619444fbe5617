"""Recorded feeds: the one place that writes their records, their writer and their source ids.

An append is one statement, conditional on the writer's epoch and on the head that it continues
from. Two appends at once, or one of a writer that was replaced, cannot both pass: the row of
`portfolios_feedwriter` is the fence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from msgspec.structs import replace

from portfolios.feeds.history import WARM_UP_SPAN
from portfolios.feeds.log import (
    CHAIN_START,
    Appended,
    HeadMoved,
    LogError,
    SourceConflict,
    SourceId,
    WriterReplaced,
    completed_segment,
    next_link,
)
from portfolios.feeds.rows import InstrumentFacts
from portfolios.runtime.events import Event, encode_event
from scheduling.db.statements import CHANNEL, Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.enact.audit_log import audit

#: Appends of a source whose answers are kept. A repeat comes within seconds.
KEPT_APPENDS = 1_000
#: A release time is taken before its append is stored. One that took longer is begun again, since
#: events must not be old when they appear.
MAX_RELEASE_AGE_S = 1.0


class NoSuchFeed(LogError):
    """There is no recorded feed of this name."""


class WriterRow(NamedTuple):
    """The writer's row, and what the source has sent under the number asked about."""

    feed: int
    epoch: int
    writer: str
    head: int
    first_seq: int
    chain: bytes
    cursor: str
    now_us: int
    sent_sha256: str | None
    sent_from: int | None
    sent_to: int | None
    newest: int | None
    in_stream: bool = False


WRITER = Statement(
    "FEED_WRITER",
    """
SELECT w.feed_id AS feed, w.epoch, w.writer, w.head, w.first_seq, w.chain, w.cursor,
       greatest((extract(epoch FROM clock_timestamp()) * 1e6)::bigint, w.released_us) AS now_us,
       a.sha256 AS sent_sha256, a.from_seq AS sent_from, a.to_seq AS sent_to,
       (SELECT max(x.number) FROM portfolios_feedappend x
        WHERE x.feed_id = w.feed_id AND x.source = %(source)s) AS newest,
       w.in_stream
FROM portfolios_feed f JOIN portfolios_feedwriter w ON w.feed_id = f.id
LEFT JOIN portfolios_feedappend a
    ON a.feed_id = w.feed_id AND a.source = %(source)s AND a.number = %(number)s
WHERE f.name = %(feed)s
""",
    row=WriterRow,
)


class AppendedRow(NamedTuple):
    feed: int
    hints: int


APPEND = Statement(
    "FEED_APPEND",
    f"""
WITH held AS (
    -- Concurrent writer: another append, which moves the head, or a claim, which raises the epoch.
    -- Then no row matches, and everything below selects from nothing.
    UPDATE portfolios_feedwriter w SET head = %(to_seq)s, released_us = %(released_us)s,
        released_at = to_timestamp(%(released_us)s / 1e6), chain = %(chain)b, cursor = %(cursor)s
    WHERE w.feed_id = %(feed)s AND w.epoch = %(epoch)s AND w.head = %(expected)s
      AND clock_timestamp() < to_timestamp(%(released_us)s / 1e6)
                              + make_interval(secs => %(max_age_s)s)
    RETURNING w.feed_id, w.head
), stored AS (
    INSERT INTO portfolios_feedrecord (feed_id, seq, symbol, time_us, released_us, event)
    SELECT held.feed_id, x.seq, x.symbol, x.time_us, %(released_us)s, x.event
    FROM held, unnest(%(seqs)s::bigint[], %(symbols)s::text[], %(times)s::bigint[],
                      %(events)b::bytea[]) AS x(seq, symbol, time_us, event)
), linked AS (
    INSERT INTO portfolios_feeddigest (feed_id, segment, digest)
    SELECT held.feed_id, x.segment, x.digest
    FROM held, unnest(%(segments)s::bigint[], %(digests)b::bytea[]) AS x(segment, digest)
), timed AS (
    UPDATE portfolios_instrument i SET last_us = x.last_us
    FROM held, unnest(%(timed)s::text[], %(last)s::bigint[]) AS x(symbol, last_us)
    WHERE i.feed_id = held.feed_id AND i.symbol = x.symbol
), noted AS (
    INSERT INTO portfolios_feedappend (feed_id, source, number, sha256, from_seq, to_seq, at)
    SELECT held.feed_id, %(source)s::text, %(number)s::bigint, %(sha256)s::text, %(expected)s + 1,
           %(to_seq)s, clock_timestamp()
    FROM held WHERE %(source)s::text <> ''
), trimmed AS (
    DELETE FROM portfolios_feedappend a USING held
    WHERE a.feed_id = held.feed_id AND a.source = %(source)s::text
      AND a.number <= %(number)s::bigint - {KEPT_APPENDS}
), hinted AS (
    SELECT pg_notify('{CHANNEL}', json_build_object(
        'groups', json_build_array('feeds'),
        'message', json_build_object('type', 'wake', 'feed', held.feed_id, 'head', held.head)
    )::text) FROM held
)
SELECT held.feed_id AS feed, (SELECT count(*) FROM hinted) AS hints FROM held
""",
    row=AppendedRow,
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


class MirroredRow(NamedTuple):
    feed: int
    first_seq: int


#: Marks of a feed in a stream: so many seconds of records between two.
MARK_S = 1.0

MIRROR = Statement(
    "FEED_MIRROR",
    f"""
WITH held AS (
    -- Concurrent writer: another recorder's. What the later one says of the stream is newer.
    UPDATE portfolios_feedwriter w SET epoch = %(epoch)s, writer = %(writer)s, head = %(head)s,
        released_us = %(released_us)s, chain = %(chain)b, cursor = %(cursor)s,
        released_at = CASE WHEN w.head < %(head)s THEN clock_timestamp() ELSE w.released_at END
    FROM portfolios_feed f
    WHERE f.id = w.feed_id AND f.name = %(feed)s AND w.in_stream
      AND w.epoch <= %(epoch)s AND w.head <= %(head)s
    RETURNING w.feed_id, w.head, w.first_seq
), marked AS (
    INSERT INTO portfolios_feedrecord (feed_id, seq, symbol, time_us, released_us, event)
    SELECT held.feed_id, held.head, '', 0, %(released_us)s, ''::bytea FROM held
    WHERE held.head > 0 AND coalesce((
        SELECT r.released_us FROM portfolios_feedrecord r
        WHERE r.feed_id = held.feed_id ORDER BY r.seq DESC LIMIT 1), 0)
        <= %(released_us)s - {MARK_S} * 1e6
    ON CONFLICT DO NOTHING
), linked AS (
    INSERT INTO portfolios_feeddigest (feed_id, segment, digest)
    SELECT held.feed_id, x.segment, x.digest
    FROM held, unnest(%(segments)s::bigint[], %(digests)b::bytea[]) AS x(segment, digest)
    ON CONFLICT DO NOTHING
), timed AS (
    UPDATE portfolios_instrument i SET last_us = greatest(i.last_us, x.last_us)
    FROM held, unnest(%(timed)s::text[], %(last)s::bigint[]) AS x(symbol, last_us)
    WHERE i.feed_id = held.feed_id AND i.symbol = x.symbol
), hinted AS (
    SELECT pg_notify('{CHANNEL}', json_build_object(
        'groups', json_build_array('feeds'),
        'message', json_build_object('type', 'wake', 'feed', held.feed_id, 'head', held.head)
    )::text) FROM held
)
SELECT held.feed_id AS feed, held.first_seq FROM held, (SELECT count(*) FROM hinted) h
""",
    row=MirroredRow,
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


class DroppedRow(NamedTuple):
    rows: int


#: Up to which records are needed by nobody: a portfolio reads from its last commit on, a
#: verification from the newest anchor on, and a new one is compared from the first event on. The
#: newest record stays: a portfolio that is created now begins with it.
DROP_RECORDS = Statement(
    "FEED_DROP_RECORDS",
    """
WITH needed AS MATERIALIZED (
    SELECT min(least(r.last_seq, coalesce(
        (SELECT max(a.seq) FROM scheduling_verificationanchor a
         WHERE a.portfolio_id = p.id), p.first_seq - 1))) - %(warm_up)s AS seq
    FROM portfolios_portfolio p JOIN scheduling_run r ON r.portfolio_id = p.id
    WHERE p.feed_id = %(feed)s AND p.archived_at IS NULL
), moved AS (
    -- Concurrent writer: an append, which changes other columns and waits for this row.
    UPDATE portfolios_feedwriter w SET first_seq = greatest(w.first_seq, %(below)s)
    FROM needed
    WHERE w.feed_id = %(feed)s AND %(below)s <= w.head
      AND %(below)s <= coalesce(needed.seq, w.head) + 1
    RETURNING w.feed_id
), gone AS (
    DELETE FROM portfolios_feedrecord d USING moved
    WHERE d.feed_id = moved.feed_id AND d.seq < %(below)s
    RETURNING d.seq
)
SELECT count(*)::int AS rows FROM gone HAVING EXISTS (SELECT FROM moved)
""",
    row=DroppedRow,
)


class DueRow(NamedTuple):
    feed: int
    name: str
    below: int
    first_seq: int


#: Old records in pieces, up to the first that is still needed.
DUE = Statement(
    "FEED_DUE",
    """
SELECT f.id AS feed, f.name, least(old.seq, needed.seq, w.head - 1) + 1 AS below,
       w.first_seq
FROM portfolios_feed f JOIN portfolios_feedwriter w ON w.feed_id = f.id
CROSS JOIN LATERAL (
    -- Release times do not go back, so that the rest of the feed is not read.
    SELECT max(x.seq) AS seq FROM (
        SELECT r.seq, r.released_us FROM portfolios_feedrecord r
        WHERE r.feed_id = f.id AND r.seq >= w.first_seq ORDER BY r.seq LIMIT 20000) x
    WHERE x.released_us < extract(epoch FROM clock_timestamp()
                                  - make_interval(days => f.keep_days)) * 1e6
) old
CROSS JOIN LATERAL (
    SELECT min(least(r.last_seq, coalesce(
        (SELECT max(a.seq) FROM scheduling_verificationanchor a
         WHERE a.portfolio_id = p.id), p.first_seq - 1))) - %(warm_up)s AS seq
    FROM portfolios_portfolio p JOIN scheduling_run r ON r.portfolio_id = p.id
    WHERE p.feed_id = f.id AND p.archived_at IS NULL
) needed
WHERE f.keep_days IS NOT NULL AND old.seq IS NOT NULL
  AND least(old.seq, needed.seq, w.head - 1) >= w.first_seq
-- One feed in a transaction, which holds its writer's row; none waits for the turns of another.
ORDER BY random() LIMIT 1
""",
    row=DueRow,
)

FORGET_APPENDS = Statement(
    "FEED_FORGET_APPENDS",
    """
-- No concurrent writer: appends of this age are not repeated.
WITH gone AS (
    DELETE FROM portfolios_feedappend a
    WHERE a.at < clock_timestamp() - interval '30 days' RETURNING a.number
)
SELECT count(*)::int AS rows FROM gone
""",
    row=DroppedRow,
)

#: So a removal holds no lock for long.
DROP_AT_ONCE = 20_000

#: The records of one feed that was removed. It is found by one look-up for each feed that has
#: records. No concurrent writer: its writer's row is gone.
DROP_ORPHANS = Statement(
    "FEED_DROP_ORPHANS",
    f"""
WITH RECURSIVE ids AS (
    SELECT min(r.feed_id) AS id FROM portfolios_feedrecord r
  UNION ALL
    SELECT (SELECT min(r.feed_id) FROM portfolios_feedrecord r WHERE r.feed_id > ids.id)
    FROM ids WHERE ids.id IS NOT NULL
), orphan AS (
    SELECT ids.id FROM ids
    WHERE ids.id IS NOT NULL AND NOT EXISTS (SELECT FROM portfolios_feed f WHERE f.id = ids.id)
    LIMIT 1
), gone AS (
    DELETE FROM portfolios_feedrecord d USING orphan
    WHERE d.feed_id = orphan.id
      AND d.seq IN (SELECT x.seq FROM portfolios_feedrecord x WHERE x.feed_id = orphan.id
                    ORDER BY x.seq LIMIT {DROP_AT_ONCE})
    RETURNING d.seq
)
SELECT count(*)::int AS rows FROM gone
""",
    row=DroppedRow,
)


def claim(feed: str, writer: str) -> Transaction[int]:
    """Make `writer` the one writer of a feed, "" to let any source append. Return its epoch."""
    row = yield from query_one(CLAIM, feed=feed, writer=writer)
    if row is None:
        raise NoSuchFeed(f"There is no recorded feed named {feed}.")
    return row.epoch


def release(feed: str, epoch: int | None = None) -> Transaction[bool]:
    """Let any source append to a feed again. Return False if its writer is not that of `epoch`
    (None: whoever it is), or it has none."""
    row = yield from query_one(RELEASE, feed=feed, epoch=epoch)
    return row is not None


def mirror(
    feed: str,
    newest: WriterRow,
    released_us: int,
    segments: Mapping[int, bytes],
    times: Mapping[str, int],
) -> Transaction[int | None]:
    """Let the row of a feed follow its stream, of which `newest` is the state. One statement.

    Return the first seq that is kept; None if a later recorder has said more.
    """
    row = yield from query_one(
        MIRROR,
        feed=feed,
        epoch=newest.epoch,
        writer=newest.writer,
        head=newest.head,
        released_us=released_us,
        chain=newest.chain,
        cursor=newest.cursor,
        segments=list(segments),
        digests=list(segments.values()),
        timed=list(times),
        last=list(times.values()),
    )
    return None if row is None else row.first_seq


def instruments(feed: str) -> Transaction[dict[str, InstrumentFacts]]:
    """Return what rows of the feed are checked against, by symbol."""
    rows = yield from query(INSTRUMENTS, feed=feed)
    return {
        r.symbol: InstrumentFacts(r.symbol, r.scale, r.tick_size, r.lot, r.last_us) for r in rows
    }


def writer(feed: str, source: SourceId | None = None) -> Transaction[WriterRow]:
    """Return the writer's row. Raise NoSuchFeed."""
    row = yield from query_one(
        WRITER,
        feed=feed,
        source=source.source if source else "",
        number=source.number if source else 0,
    )
    if row is None:
        raise NoSuchFeed(f"There is no recorded feed named {feed}.")
    return row


def answer_before(feed: str, held: WriterRow, source: SourceId | None) -> Appended | None:
    """Return the answer to an append that was stored before, None if it is new. Pure.

    Raise SourceConflict if its number was used for something else.
    """
    if source is None or held.newest is None or source.number > held.newest:
        return None
    if held.sent_from is None or held.sent_to is None:
        raise SourceConflict(
            f"Source {source.source} of feed {feed} has sent number {held.newest}, and number"
            f" {source.number} was not recorded before it, or long ago: send it under a number"
            f" over {held.newest} if it is new."
        )
    if held.sent_sha256 != source.sha256:
        raise SourceConflict(
            f"Source {source.source} of feed {feed} has sent number {source.number} with other"
            f" content (seq {held.sent_from} to {held.sent_to}): nothing was written. Are there two"
            " recorders with one name?"
        )
    return Appended(held.sent_from, held.sent_to, repeated=True)


def append(
    feed: str,
    epoch: int,
    expected: int,
    events: Sequence[Event],
    source: SourceId | None = None,
    cursor: str = "",
    held: WriterRow | None = None,
) -> Transaction[Appended]:
    """Append all events or none after the head `expected`. See `RecordedLog.append`.

    One read and one write; `held` saves the read to a caller that has just done it.
    """
    if held is None:
        held = yield from writer(feed, source)
    before = answer_before(feed, held, source)
    if before is not None:
        return before
    check_fence(feed, held, epoch, expected)
    missing = None
    if source is not None and source.number > (held.newest or 0) + 1:
        missing = ((held.newest or 0) + 1, source.number - 1)
    if not events:
        return Appended(expected + 1, expected, missing=missing)
    columns = append_columns(held, expected, events)
    row = yield from query_one(
        APPEND,
        feed=held.feed,
        epoch=epoch,
        expected=expected,
        to_seq=expected + len(events),
        released_us=held.now_us,
        max_age_s=MAX_RELEASE_AGE_S,
        cursor=cursor or held.cursor,
        source=source.source if source else "",
        number=source.number if source else 0,
        sha256=source.sha256 if source else "",
        **columns,
    )
    if row is None:
        raise HeadMoved(f"Feed {feed} was appended to or claimed by another writer; read it again.")
    return Appended(expected + 1, expected + len(events), missing=missing)


def check_fence(feed: str, held: WriterRow, epoch: int, expected: int) -> None:
    """Raise WriterReplaced or HeadMoved. The statement decides; this names the cause."""
    if held.epoch != epoch:
        raise WriterReplaced(
            f"Feed {feed} is recorded by {held.writer or 'its sources'} since epoch {held.epoch};"
            f" epoch {epoch} writes nothing any more."
        )
    if held.head != expected:
        raise HeadMoved(f"Feed {feed} is at seq {held.head}, not at {expected}; read it again.")


def append_columns(held: WriterRow, expected: int, events: Sequence[Event]) -> dict[str, Any]:
    """Return the records and the links of the chain as arrays."""
    chain = bytes(held.chain) or CHAIN_START
    seqs, encoded, segments, digests = [], [], [], []
    last: dict[str, int] = {}
    for seq, event in enumerate(events, start=expected + 1):
        data = encode_event(replace(event, seq=seq, released=held.now_us))
        chain = next_link(chain, data)
        seqs.append(seq)
        encoded.append(data)
        if event.symbol and event.has_price:
            last[event.symbol] = event.time
        segment = completed_segment(seq)
        if segment is not None:
            segments.append(segment)
            digests.append(chain)
    return {
        "chain": chain,
        "seqs": seqs,
        "symbols": [event.symbol for event in events],
        "times": [event.time for event in events],
        "events": encoded,
        "segments": segments,
        "digests": digests,
        "timed": list(last),
        "last": list(last.values()),
    }


def drop_orphans() -> Transaction[int]:
    """Drop records of a feed that was removed. Return how many; 0: none is left."""
    row = yield from query_one(DROP_ORPHANS)
    return 0 if row is None else row.rows


def drop_due() -> Transaction[dict[str, int]]:
    """Drop one piece of the old records of one feed that states how long it keeps them.

    Return how many by feed, written to the audit log: nothing is dropped silently.
    """
    dropped = {}
    for due in (yield from query(DUE, warm_up=WARM_UP_SPAN)):
        rows = yield from drop_records(due.feed, due.below)
        if rows:
            # Of a feed in a stream, these rows are marks: its recorder drops the messages.
            dropped[due.name] = due.below - due.first_seq
            yield from audit(
                "feed_records_dropped",
                feed=due.name,
                records=due.below - due.first_seq,
                first_seq=due.below,
            )
    return dropped


def forget_appends() -> Transaction[int]:
    """Forget the source ids of appends of 30 days ago. Return how many."""
    row = yield from query_one(FORGET_APPENDS)
    return 0 if row is None else row.rows


def drop_records(feed: int, below: int) -> Transaction[int | None]:
    """Drop the records before `below`. Return how many, None if one of them is still needed.

    Needed are the records after the last commit or, if it is earlier, after the newest verification
    anchor of every portfolio of the feed, and those before it that a strategy may warm up with.
    """
    row = yield from query_one(DROP_RECORDS, feed=feed, below=below, warm_up=WARM_UP_SPAN)
    return None if row is None else row.rows
