"""Retention of recorded feeds: drop old records that nobody needs, a bounded number at a time."""

from __future__ import annotations

from typing import NamedTuple

from portfolios.feeds.history import WARM_UP_SPAN
from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.enact.audit_log import audit


class DroppedRow(NamedTuple):
    rows: int


def _last_unneeded(feed: str) -> str:
    """Return a SELECT of the seq up to which no portfolio needs the records of a feed.

    Needed are those after its last commit, or after the newest verification anchor if that is
    earlier, and `warm_up` records before them. The seq is NULL if no portfolio trades on the
    feed. `feed` is an SQL expression of the feed's id. Parameter: warm_up.
    """
    return f"""SELECT min(least(r.last_seq, coalesce(
        (SELECT max(a.seq) FROM scheduling_verificationanchor a
         WHERE a.portfolio_id = p.id), p.first_seq - 1))) - %(warm_up)s AS seq
    FROM portfolios_portfolio p JOIN scheduling_run r ON r.portfolio_id = p.id
    WHERE p.feed_id = {feed} AND p.archived_at IS NULL"""


#: Drop the records before `below`, if nobody needs them: a portfolio reads from its last commit on,
#: and a verification from the newest anchor on, or without an anchor from the first event on. The
#: newest record stays: a portfolio that is created now begins with it.
DROP_RECORDS = Statement(
    "FEED_DROP_RECORDS",
    f"""
WITH needed AS MATERIALIZED (
    {_last_unneeded("%(feed)s")}
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


def drop_records(feed: int, below: int) -> Transaction[int | None]:
    """Drop the records before seq `below` and return how many; None if one is still needed.

    Needed are the records after the last commit or, if it is earlier, after the newest verification
    anchor of every portfolio of the feed; and WARM_UP_SPAN records before these, for warm-up.
    """
    row = yield from query_one(DROP_RECORDS, feed=feed, below=below, warm_up=WARM_UP_SPAN)
    return None if row is None else row.rows


class DueRow(NamedTuple):
    """A feed with records to drop: those from `first_seq` on that are before `below`."""

    feed: int
    name: str
    below: int
    first_seq: int


#: Records per statement, so that none holds locks for long.
DROP_AT_ONCE = 20_000

#: Of one feed, the next DROP_AT_ONCE old records at most, up to the first that is still needed.
DUE = Statement(
    "FEED_DUE",
    f"""
SELECT f.id AS feed, f.name, least(old.seq, needed.seq, w.head - 1) + 1 AS below,
       w.first_seq
FROM portfolios_feed f JOIN portfolios_feedwriter w ON w.feed_id = f.id
CROSS JOIN LATERAL (
    -- Release times do not go back, so that the rest of the feed is not read.
    SELECT max(x.seq) AS seq FROM (
        SELECT r.seq, r.released_us FROM portfolios_feedrecord r
        WHERE r.feed_id = f.id AND r.seq >= w.first_seq ORDER BY r.seq LIMIT {DROP_AT_ONCE}) x
    WHERE x.released_us < extract(epoch FROM clock_timestamp()
                                  - make_interval(days => f.keep_days)) * 1e6
) old
CROSS JOIN LATERAL (
    {_last_unneeded("f.id")}
) needed
WHERE f.keep_days IS NOT NULL AND old.seq IS NOT NULL
  AND least(old.seq, needed.seq, w.head - 1) >= w.first_seq
-- One feed in a transaction, since that holds the row of its writer. At random, so that no feed
-- waits until another has no old records left.
ORDER BY random() LIMIT 1
""",
    row=DueRow,
)


def drop_due() -> Transaction[dict[str, int]]:
    """Drop at most DROP_AT_ONCE old records of one feed that states how long it keeps them.

    Return name of the feed → number of records; {} if no feed has any to drop. The audit log gets a
    line: nothing is dropped silently.
    """
    dropped = {}
    for due in (yield from query(DUE, warm_up=WARM_UP_SPAN)):
        rows = yield from drop_records(due.feed, due.below)
        if rows:
            # Of a feed in a stream, these rows are marks: the worker drops the messages.
            records = dropped[due.name] = due.below - due.first_seq
            yield from audit(
                "feed_records_dropped", feed=due.name, records=records, first_seq=due.below
            )
    return dropped


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


def forget_appends() -> Transaction[int]:
    """Forget the source ids of appends that are older than 30 days. Return how many."""
    row = yield from query_one(FORGET_APPENDS)
    return 0 if row is None else row.rows


#: Drop records of one feed that was removed. The recursion finds that feed by one look-up for each
#: feed that has records. No concurrent writer: the row of the feed's writer is gone.
DROP_ORPHANS = Statement(
    "FEED_DROP_ORPHANS",
    """
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
                    ORDER BY x.seq LIMIT %(limit)s)
    RETURNING d.seq
)
SELECT count(*)::int AS rows FROM gone
""",
    row=DroppedRow,
)


def drop_orphans() -> Transaction[int]:
    """Drop at most DROP_AT_ONCE records of a removed feed. Return how many; 0: none is left."""
    row = yield from query_one(DROP_ORPHANS, limit=DROP_AT_ONCE)
    return 0 if row is None else row.rows
