"""Appends to recorded feeds: all records or none, after the head that the writer continues from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from portfolios.feeds.log import (
    CHAIN_START,
    Appended,
    HeadMoved,
    SourceConflict,
    SourceId,
    completed_segment,
    next_link,
    replaced_by,
)
from portfolios.runtime.events import Event, encode_event
from scheduling.db.statements import CHANNEL, Statement
from scheduling.db.transaction import Transaction, query_one
from scheduling.enact.feed_records.writers import WriterRow, writer

#: Appends of a source whose answers are kept. A repeat comes within seconds.
KEPT_APPENDS = 1_000

#: The release time of an append is read before the append is stored. An append that takes longer
#: than this is refused and begun again, since events must not be old when they appear.
MAX_RELEASE_AGE_S = 1.0


class AppendedRow(NamedTuple):
    feed: int
    hints: int  #: only selected so that PostgreSQL executes the notification


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

    `held`: the writer's row, if the caller has just read it; `cursor` "": it stays as it is. Raise
    WriterReplaced, HeadMoved, SourceConflict or NoSuchFeed. One read, unless `held`, and one write.
    """
    if held is None:
        held = yield from writer(feed, source)
    stored = stored_answer(feed, held, source)
    if stored is not None:
        return stored
    check_fence(feed, held, epoch, expected)
    missing = None  # numbers of the source that did not arrive: the first, the last
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
        raise HeadMoved(
            f"Feed {feed} has grown, or another writer has claimed it, since its head was read, or "
            f"the append took over {MAX_RELEASE_AGE_S:g} s: read the head, and append after it."
        )
    return Appended(expected + 1, expected + len(events), missing=missing)


def stored_answer(feed: str, held: WriterRow, source: SourceId | None) -> Appended | None:
    """Return the answer to an append that repeats a stored one, None if it is new. Pure.

    Raise SourceConflict if the source sent other content under the number, or has sent a higher one
    and it is not known what it sent under this one.
    """
    if source is None or held.newest is None or source.number > held.newest:
        return None
    if held.sent_from is None or held.sent_to is None:
        raise SourceConflict(
            f"Source {source.source} of feed {feed} has already sent number {held.newest}, which is"
            f" not lower than {source.number}. Either number {source.number} was never recorded, or"
            " it was recorded so long ago that its content is no longer known. If its rows are new,"
            f" send them under a number over {held.newest}."
        )
    if held.sent_sha256 != source.sha256:
        raise SourceConflict(
            f"Source {source.source} of feed {feed} has sent number {source.number} with other"
            f" content (seq {held.sent_from} to {held.sent_to}): nothing was written. If two"
            " programs append under this source, give each a name of its own. If these rows are"
            f" new, send them under a number over {held.newest}."
        )
    return Appended(held.sent_from, held.sent_to, repeated=True)


def check_fence(feed: str, held: WriterRow, epoch: int, expected: int) -> None:
    """Raise WriterReplaced or HeadMoved, with the cause, if APPEND would write nothing. Pure."""
    if held.epoch != epoch:
        raise replaced_by(feed, held.writer, held.epoch, epoch)
    if held.head != expected:
        raise HeadMoved(
            f"Feed {feed} is at seq {held.head}, and this append follows seq {expected}: read the"
            " head, and append after it."
        )


def append_columns(held: WriterRow, expected: int, events: Sequence[Event]) -> dict[str, Any]:
    """Return parameters of APPEND: the records, and the links of the hash chain, in arrays."""
    chain = bytes(held.chain) or CHAIN_START
    seqs, encoded, segments, digests = [], [], [], []
    newest_times: dict[str, int] = {}  # symbol → time of its newest event with a price
    for seq, event in enumerate(events, start=expected + 1):
        data = encode_event(replace(event, seq=seq, released=held.now_us))
        chain = next_link(chain, data)
        seqs.append(seq)
        encoded.append(data)
        if event.symbol and event.has_price:
            newest_times[event.symbol] = event.time
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
        "timed": list(newest_times),
        "last": list(newest_times.values()),
    }
