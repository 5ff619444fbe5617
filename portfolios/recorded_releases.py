"""When the records of a recorded feed were released, without reading them all."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

#: Release times do not go back, so that the newest record up to a time is found by halving: about
#: 24 look-ups by key, whatever the length of the feed. Of a feed in a stream there are rows for
#: some records only: records between two rows count as released at the time of the first row.
RELEASED_TO = """
WITH RECURSIVE halved AS (
    SELECT w.feed_id, w.first_seq - 1 AS low, w.head AS high
    FROM portfolios_feedwriter w WHERE w.feed_id = %(feed)s
  UNION ALL
    SELECT h.feed_id, CASE WHEN r.released_us <= %(at_us)s THEN r.seq ELSE h.low END,
           CASE WHEN r.released_us <= %(at_us)s THEN h.high ELSE m.seq - 1 END
    FROM halved h
    CROSS JOIN LATERAL (SELECT (h.low + h.high + 1) / 2 AS seq) m
    LEFT JOIN LATERAL (
        SELECT c.seq, c.released_us FROM portfolios_feedrecord c
        WHERE c.feed_id = h.feed_id AND c.seq >= m.seq ORDER BY c.seq LIMIT 1) r ON true
    WHERE h.low < h.high
)
SELECT coalesce(
    (SELECT c.seq - 1 FROM portfolios_feedrecord c
     WHERE c.feed_id = %(feed)s AND c.seq > (SELECT max(low) FROM halved) ORDER BY c.seq LIMIT 1),
    (SELECT w.head FROM portfolios_feedwriter w WHERE w.feed_id = %(feed)s), 0)
"""

RELEASED_AT = """
SELECT to_timestamp(released_us / 1e6) FROM portfolios_feedrecord
WHERE feed_id = %(feed)s AND seq >= %(seq)s ORDER BY seq LIMIT 1
"""


def released_to(feed: int, at_us: int) -> int:
    """Return the newest seq released by `at_us`; if all records are newer, the seq before them.

    0 if the feed is not recorded. `at_us` is a Unix time in microseconds.
    """
    with connection.cursor() as cursor:
        cursor.execute(RELEASED_TO, {"feed": feed, "at_us": at_us})
        return int(cursor.fetchone()[0])


def released_at(feed: int, seq: int) -> datetime | None:
    """Return when record `seq` was released; if it has no row, when the next record with one was.

    None if no such row follows.
    """
    with connection.cursor() as cursor:
        cursor.execute(RELEASED_AT, {"feed": feed, "seq": seq})
        row = cursor.fetchone()
    return None if row is None else row[0]
