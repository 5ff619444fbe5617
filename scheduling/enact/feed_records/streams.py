"""Feeds in a stream: copy the state of the stream to the feed's row in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scheduling.db.statements import CHANNEL, Statement
from scheduling.db.transaction import Transaction, query_one
from scheduling.enact.feed_records.appends import KEPT_APPENDS
from scheduling.enact.feed_records.writers import WriterRow


class MirroredRow(NamedTuple):
    feed: int
    first_seq: int  #: older records are dropped
    clock_us: int  #: the database's time


class Sent(NamedTuple):
    """An append with its source id."""

    source: str
    number: int
    sha256: str
    from_seq: int
    to_seq: int


#: Seconds between the release times of two marks. A mark is a row of `portfolios_feedrecord` with
#: the seq and release time of a record whose event is in the stream.
MARK_S = 1.0

MIRROR = Statement(
    "FEED_MIRROR",
    f"""
WITH held AS (
    -- Concurrent writer: another process that mirrors the stream. Each mirrors everything since the
    -- row that it read, so the one with the higher epoch and head has the whole.
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
), noted AS (
    INSERT INTO portfolios_feedappend (feed_id, source, number, sha256, from_seq, to_seq, at)
    SELECT held.feed_id, x.source, x.number, x.sha256, x.from_seq, x.to_seq, clock_timestamp()
    FROM held, unnest(%(sources)s::text[], %(numbers)s::bigint[], %(shas)s::text[],
                      %(from_seqs)s::bigint[], %(to_seqs)s::bigint[])
               AS x(source, number, sha256, from_seq, to_seq)
    ON CONFLICT DO NOTHING
), trimmed AS (
    DELETE FROM portfolios_feedappend a
    USING held, unnest(%(sources)s::text[], %(numbers)s::bigint[]) AS x(source, number)
    WHERE a.feed_id = held.feed_id AND a.source = x.source AND a.number <= x.number - %(kept)s
), hinted AS (
    SELECT pg_notify('{CHANNEL}', json_build_object(
        'groups', json_build_array('feeds'),
        'message', json_build_object('type', 'wake', 'feed', held.feed_id, 'head', held.head)
    )::text) FROM held
)
SELECT held.feed_id AS feed, held.first_seq,
       (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS clock_us
FROM held, (SELECT count(*) FROM hinted) h
""",
    row=MirroredRow,
)


def mirror(
    feed: str,
    newest: WriterRow,
    released_us: int,
    segments: Mapping[int, bytes],
    times: Mapping[str, int],
    sent: Sequence[Sent] = (),
) -> Transaction[MirroredRow | None]:
    """Let the row of a feed follow its stream, of which `newest` is the state. One statement.

    `released_us`: of the newest record. `segments`: number of each completed segment → its hash
    chain. `times`: symbol → time of its newest event. `sent`: the appends with source ids. Return
    None, with nothing written, if a newer state was mirrored, or the feed is not in a stream.
    """
    row: MirroredRow | None = yield from query_one(
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
        sources=[one.source for one in sent],
        numbers=[one.number for one in sent],
        shas=[one.sha256 for one in sent],
        from_seqs=[one.from_seq for one in sent],
        to_seqs=[one.to_seq for one in sent],
        kept=KEPT_APPENDS,
    )
    return row
