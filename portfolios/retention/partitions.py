"""Attach and detach partitions while commits go on.

Every change that needs an exclusive table lock only updates the catalogue, and gives up waiting for
the lock after LOCK_WAIT: a commit that queues behind it waits no longer than that, and a dump that
locks the table for an hour delays the change, not the commits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

from django.db import connection

from ginkgo_site import table_locks
from portfolios.retention.kinds import RecordKind

T = TypeVar("T")

LOCK_WAIT = "200ms"
MAX_ATTEMPTS = 5
PARTITIONS_AHEAD = 2  #: partitions between the head and the end of the last one
MIN_WIDTH = 1_000  #: seqs


class Partition(NamedTuple):
    """One partition, with the rows of [low, high). The first one has no lower bound."""

    name: str
    low: int | None
    high: int


class FeedHead(NamedTuple):
    """The newest seq of the fastest feed, and its events a second."""

    seq: int
    rate: float


PARTITIONS = """
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid)
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = %s::regclass AND NOT i.inhdetachpending
"""
BOUNDS = re.compile(r"FOR VALUES FROM \((MINVALUE|'?(-?\d+)'?)\) TO \('?(\d+)'?\)")

#: A paused feed is expected to continue at its last rate.
FEED_HEAD = """
SELECT coalesce(max(last.from_seq + floor(
           greatest(extract(epoch FROM clock_timestamp() - last.from_time), 0) * last.rate)), 0)
           ::bigint AS head,
       max(coalesce(nullif(last.rate, 0), before.rate))::float AS rate
FROM portfolios_feed f
CROSS JOIN LATERAL (SELECT * FROM portfolios_feedsegment s WHERE s.feed_id = f.id
                    ORDER BY s.id DESC LIMIT 1) last
LEFT JOIN LATERAL (SELECT s.rate FROM portfolios_feedsegment s WHERE s.feed_id = f.id AND s.rate > 0
                   ORDER BY s.id DESC LIMIT 1) before ON true
"""

#: Tables detached for archiving by a task that did not finish.
DETACHED = """
SELECT c.relname FROM pg_class c
WHERE c.relkind = 'r' AND NOT c.relispartition AND c.relnamespace = current_schema()::regnamespace
  AND c.relname ~ ('^' || %s || '_(first|from_[0-9]+)$')
ORDER BY c.relname
"""


def feed_head() -> FeedHead:
    """Return the head of the fastest feed. One statement."""
    from django.conf import settings

    with connection.cursor() as cursor:
        cursor.execute(FEED_HEAD)
        seq, rate = cursor.fetchone()
    return FeedHead(seq, rate or settings.GINKGO.feed_rate)


def partitions(kind: RecordKind) -> list[Partition]:
    """Return the attached partitions except the default one, lowest first. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(PARTITIONS, [kind.table])
        rows = cursor.fetchall()
    found = []
    for name, text in rows:
        bounds = BOUNDS.fullmatch(text)
        if bounds:  # the default partition has the bound DEFAULT
            low = None if bounds[1] == "MINVALUE" else int(bounds[2])
            found.append(Partition(name, low, int(bounds[3])))
    return sorted(found, key=lambda partition: partition.high)


def detached(kind: RecordKind) -> list[str]:
    """Return the names of detached partitions of `kind`. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(DETACHED, [kind.table])
        return [name for (name,) in cursor.fetchall()]


def width(kind: RecordKind, at: FeedHead) -> int:
    """Return the number of seqs per partition at the current rate of the feed."""
    return max(round(at.rate * kind.period_s), MIN_WIDTH)


def attach_ahead(kind: RecordKind, at: FeedHead) -> list[str]:
    """Attach partitions up to PARTITIONS_AHEAD widths beyond the head; return their names.

    Raise OperationalError if the lock is not available: until the next pass, rows go into the
    default partition.
    """
    wide = width(kind, at)
    attached = partitions(kind)
    low = attached[-1].high if attached else 0
    made = []
    while low < at.seq + PARTITIONS_AHEAD * wide:
        # If this task was paused or the rate was raised, one partition covers the gap to the head.
        high = max(low + wide, at.seq + wide) if low < at.seq else low + wide
        made.append(patiently(partial(_attach, kind, low, high)))
        low = high
    return made


def _attach(kind: RecordKind, low: int, high: int) -> str:
    """Attach a partition, and move its rows from the default partition into it."""
    name, table, seq = f"{kind.table}_from_{low}", kind.table, kind.seq
    with connection.cursor() as cursor:
        # LIKE and ATTACH, since PARTITION OF would lock the table itself.
        cursor.execute(
            f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS "
            "INCLUDING INDEXES INCLUDING STORAGE)"
        )
        # The concurrent writer: a commit into the default partition. This lock excludes commits
        # until the end of the transaction, in which only a few rows are moved.
        cursor.execute(f"LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {table}_default WHERE {seq} >= %s AND {seq} < %s "
            f"RETURNING *) INSERT INTO {name} SELECT * FROM moved",
            [low, high],
        )
        cursor.execute(
            f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({low}) TO ({high})"
        )
    return name


def detach(kind: RecordKind, partition: Partition) -> None:
    """Detach a partition. CONCURRENTLY is not possible with a default partition."""
    patiently(partial(_execute, f"ALTER TABLE {kind.table} DETACH PARTITION {partition.name}"))


def drop(table: str) -> None:
    """Drop a detached table."""
    patiently(partial(_execute, f"DROP TABLE {table}"))


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def patiently(act: Callable[[], T]) -> T:
    """Run `act` in a transaction with a lock timeout. Raise OperationalError if every try fails."""
    return table_locks.patiently(act, LOCK_WAIT, MAX_ATTEMPTS)
