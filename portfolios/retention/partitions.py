"""Attach and detach partitions while commits go on.

Every change that needs an exclusive table lock only updates the catalogue, and gives up waiting for
the lock after LOCK_WAIT: a commit that queues behind it waits no longer than that, and a dump that
locks the table for an hour delays the change, not the commits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from django.conf import settings
from django.db import connection, transaction

from ginkgo_site import table_locks
from portfolios.recorded_releases import released_to
from portfolios.retention.kinds import ORDERS, RecordKind

T = TypeVar("T")

LOCK_WAIT = "200ms"
MAX_ATTEMPTS = 5  #: to get one lock
PARTITIONS_AHEAD = 2  #: partitions between the head and the end of the last one
MIN_WIDTH = 1_000  #: seqs of a partition at least, however slow its feed


class Partition(NamedTuple):
    """One partition, with the rows of [low, high). The first one has no lower bound."""

    name: str
    low: int | None
    high: int


class PortfolioRows(NamedTuple):
    """The rows of one portfolio in a table: which, and how many."""

    portfolio: int  #: its id
    is_deleted: bool
    first: int  #: lowest seq
    last: int  #: highest seq
    rows: int
    age_s: float  #: of its newest row
    open: int  #: open orders, if the portfolio is not deleted


class FeedHead(NamedTuple):
    """The newest seq of a feed, and its events a second."""

    feed: int  #: its id
    recorded: bool  #: False: packaged
    seq: int
    rate: float


#: The attached partitions of a table, each with its bounds as SQL.
PARTITIONS = """
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid)
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = %s::regclass AND NOT i.inhdetachpending
"""
#: A partition's bounds: group 1 is MINVALUE or the low one, 2 its number, 3 the high one.
BOUNDS = re.compile(r"FOR VALUES FROM \((MINVALUE|'?(-?\d+)'?)\) TO \('?(\d+)'?\)")

#: Feed, head and events a second of each packaged feed. A paused feed is expected to continue at
#: its last rate.
PACKAGED_HEADS = """
SELECT f.id, last.from_seq + floor(
           greatest(extract(epoch FROM clock_timestamp() - last.from_time), 0) * last.rate)::bigint,
       coalesce(nullif(last.rate, 0), before.rate)::float
FROM portfolios_feed f
CROSS JOIN LATERAL (SELECT * FROM portfolios_feedsegment s WHERE s.feed_id = f.id
                    ORDER BY s.id DESC LIMIT 1) last
LEFT JOIN LATERAL (SELECT s.rate FROM portfolios_feedsegment s WHERE s.feed_id = f.id AND s.rate > 0
                   ORDER BY s.id DESC LIMIT 1) before ON true
"""

#: Feed, head and the time in µs of each recorded feed.
RECORDED_HEADS = """
SELECT w.feed_id, w.head, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint
FROM portfolios_feedwriter w
"""
#: The rate of a recorded feed is its mean over this time: one import of many records counts little.
RATE_OVER_S = 30 * 86_400

#: One `PortfolioRows` for each portfolio that has rows in a table.
HOLDINGS = """
SELECT t.portfolio_id, p.id IS NULL OR p.archived_at IS NOT NULL, min(t.{seq}), max(t.{seq}),
       count(*), extract(epoch FROM clock_timestamp() - max(t.{at}))::float,
       count(*) FILTER (WHERE {is_open} AND p.archived_at IS NULL AND p.id IS NOT NULL)
FROM {table} t LEFT JOIN portfolios_portfolio p ON p.id = t.portfolio_id
WHERE {where} GROUP BY t.portfolio_id, p.id
"""

#: Tables that were detached for archiving and not dropped yet, since the task did not finish.
DETACHED = """
SELECT c.relname FROM pg_class c
WHERE c.relkind = 'r' AND NOT c.relispartition AND c.relnamespace = current_schema()::regnamespace
  AND c.relname ~ ('^' || %s || '_(first|rest|from_[0-9]+)$')
ORDER BY c.relname
"""


def feed_heads() -> list[FeedHead]:
    """Return head and rate of every feed. Two statements; one for each recorded feed's rate."""
    with connection.cursor() as cursor:
        cursor.execute(PACKAGED_HEADS)
        packaged = cursor.fetchall()
        cursor.execute(RECORDED_HEADS)
        recorded = cursor.fetchall()
    default_rate = settings.GINKGO.feed_rate  # of a feed that was only paused so far
    heads = [FeedHead(feed, False, seq, rate or default_rate) for feed, seq, rate in packaged]
    for feed, seq, now_us in recorded:
        before = released_to(feed, now_us - RATE_OVER_S * 1_000_000)
        heads.append(FeedHead(feed, True, seq, rate=(seq - before) / RATE_OVER_S))
    return heads


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


def detached_tables(kind: RecordKind) -> list[str]:
    """Return the names of the detached partitions of `kind`. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(DETACHED, [kind.table])
        return [name for (name,) in cursor.fetchall()]


def rows_by_portfolio(kind: RecordKind, table: str, where: str = "true") -> list[PortfolioRows]:
    """Return for each portfolio which of its rows in a table match the SQL condition `where`.

    Reads the whole table; a portfolio without such rows is absent.
    """
    statement = HOLDINGS.format(
        table=table, seq=kind.seq, at=kind.at, where=where,
        is_open="t.status = 'open'" if kind.table == ORDERS else "false",
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return [PortfolioRows(*row) for row in cursor.fetchall()]


def partition_width(kind: RecordKind, head: FeedHead) -> int:
    """Return how many seqs a partition for `kind.period_s` takes at the feed's current rate."""
    return max(round(head.rate * kind.period_s), MIN_WIDTH)


def attach_ahead(kind: RecordKind, head: FeedHead) -> list[str]:
    """Attach partitions up to PARTITIONS_AHEAD widths beyond `head`; return their names.

    Raise OperationalError if the lock is not available: until the next pass, rows go into the
    default partition.
    """
    detached = detached_tables(kind)  # their names are taken until the next pass archives them
    return [
        _with_lock_timeout(partial(_attach, kind, low, high))
        for low, high in missing_ranges(partitions(kind), head.seq, partition_width(kind, head))
        if _partition_name(kind, low) not in detached
    ]


def missing_ranges(attached: Sequence[Partition], head: int, width: int) -> list[tuple[int, int]]:
    """Return the ranges (low, high) of new partitions, from `head` to PARTITIONS_AHEAD widths on.

    If no partition contains the head, the ranges begin at the end of the last partition before it.
    Lower seqs without a partition are old, or of other feeds, which have calls of their own. Pure.
    """

    def containing(seq: int) -> Partition | None:
        return next((one for one in attached if (one.low or 0) <= seq < one.high), None)

    before = max((one.high for one in attached if one.high <= head), default=0)
    low = before if containing(head) is None else head
    ranges = []
    while low < head + PARTITIONS_AHEAD * width:
        inside = containing(low)
        if inside is not None:
            low = inside.high
            continue
        # If this task was paused or the rate was raised, one partition covers the gap to the head.
        high = max(low + width, head + width) if low < head else low + width
        high = min([high, *(one.low for one in attached if one.low is not None and one.low > low)])
        ranges.append((low, high))
        low = high
    return ranges


def _partition_name(kind: RecordKind, low: int) -> str:
    return f"{kind.table}_from_{low}"


def _attach(kind: RecordKind, low: int, high: int) -> str:
    """Attach a partition with its rows of the default partition, and return its name."""
    name, table, seq = _partition_name(kind, low), kind.table, kind.seq
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


def detach(
    kind: RecordKind, partition: Partition, held: Sequence[PortfolioRows], open_ids: Sequence[str]
) -> None:
    """Detach a partition, record whose rows it had, and leave its open orders in the table.

    Raise OperationalError if the lock is not available.
    """

    def detach_and_record() -> None:
        with connection.cursor() as cursor:
            # CONCURRENTLY is not possible with a default partition.
            cursor.execute(f"ALTER TABLE {kind.table} DETACH PARTITION {partition.name}")
            if open_ids:  # the table now puts them into its default partition
                cursor.execute(
                    f"INSERT INTO {kind.table} SELECT * FROM {partition.name} WHERE id = ANY(%s)",
                    [list(open_ids)],
                )
            record_archived(kind, held)

    _with_lock_timeout(detach_and_record)


#: Ranges that follow each other become one, unless rows between them are kept. No concurrent
#: writer: one process archives at a time.
RECORD_ARCHIVED = """
WITH gone AS (
    SELECT * FROM unnest(%(portfolios)s::bigint[], %(first)s::bigint[], %(last)s::bigint[])
        AS x(portfolio_id, from_seq, to_seq)
), before AS (
    SELECT g.portfolio_id, max(a.from_seq) AS from_seq FROM gone g
    JOIN portfolios_archivedrange a ON a.portfolio_id = g.portfolio_id AND a.kind = %(kind)s
        AND a.from_seq <= g.from_seq
    GROUP BY g.portfolio_id
), joined AS (
    UPDATE portfolios_archivedrange a SET to_seq = greatest(a.to_seq, g.to_seq)
    FROM gone g JOIN before b ON b.portfolio_id = g.portfolio_id
    WHERE a.portfolio_id = g.portfolio_id AND a.kind = %(kind)s AND a.from_seq = b.from_seq
      AND NOT EXISTS (SELECT FROM {table} t WHERE t.portfolio_id = g.portfolio_id
                      AND t.{seq} > a.to_seq AND t.{seq} < g.from_seq)
    RETURNING a.portfolio_id
)
INSERT INTO portfolios_archivedrange (portfolio_id, kind, from_seq, to_seq)
SELECT portfolio_id, %(kind)s, from_seq, to_seq FROM gone
WHERE portfolio_id NOT IN (SELECT portfolio_id FROM joined)
ON CONFLICT (portfolio_id, kind, from_seq) DO UPDATE
    SET to_seq = greatest(portfolios_archivedrange.to_seq, excluded.to_seq)
"""


def record_archived(kind: RecordKind, held: Sequence[PortfolioRows]) -> None:
    """Record which rows left the table, so that a verification does not look for them."""
    with connection.cursor() as cursor:
        cursor.execute(
            RECORD_ARCHIVED.format(table=kind.table, seq=kind.seq),
            {
                "kind": kind.table,
                "portfolios": [one.portfolio for one in held],
                "first": [one.first for one in held],
                "last": [one.last for one in held],
            },
        )


def rest_table(kind: RecordKind) -> str:
    """Return the name of the table into which old rows of the default partition are moved."""
    return f"{kind.table}_rest"


@transaction.atomic
def move_rest(kind: RecordKind) -> list[PortfolioRows]:
    """Move old rows of the default partition into `rest_table`, and return which these were.

    Open orders stay, except for those of deleted portfolios, which nothing will end.
    """
    default, rest = f"{kind.table}_default", rest_table(kind)
    old = f"t.{kind.at} < clock_timestamp() - make_interval(secs => {kind.keep_s})"
    if kind.table == ORDERS:
        old += (
            " AND (t.status <> 'open' OR t.portfolio_id NOT IN"
            " (SELECT id FROM portfolios_portfolio WHERE archived_at IS NULL))"
        )
    if not rows_by_portfolio(kind, default, old):
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {rest} (LIKE {kind.table} INCLUDING DEFAULTS INCLUDING STORAGE)"
        )
        # Concurrent writer: a commit that ends an order. It is open in this snapshot, so it stays.
        cursor.execute(
            f"WITH moved AS (DELETE FROM {default} t WHERE {old} RETURNING *)"
            f" INSERT INTO {rest} SELECT * FROM moved"
        )
        held = rows_by_portfolio(kind, rest)
        record_archived(kind, held)
    return held


def drop(table: str) -> None:
    """Drop a detached table. Raise OperationalError if the lock is not available."""
    with connection.cursor() as cursor:
        _with_lock_timeout(lambda: cursor.execute(f"DROP TABLE {table}"))


def _with_lock_timeout(act: Callable[[], T]) -> T:
    """Run `act` in a transaction with a lock timeout.

    Raise OperationalError if MAX_ATTEMPTS attempts did not get the lock.
    """
    return table_locks.patiently(act, LOCK_WAIT, MAX_ATTEMPTS)
