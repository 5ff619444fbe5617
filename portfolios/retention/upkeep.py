"""One maintenance pass: attach partitions ahead of the head, archive and drop old ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from django.db import OperationalError, connection
from psycopg import sql

from ginkgo_site.table_locks import lock_was_refused
from portfolios.recorded_releases import released_at
from portfolios.retention.archive import ALL_ROWS, Archive, archive
from portfolios.retention.kinds import ORDERS, RecordKind, record_kinds
from portfolios.retention.partitions import (
    FeedHead,
    Partition,
    PortfolioRows,
    attach_ahead,
    detach,
    detached_tables,
    drop,
    feed_heads,
    move_rest,
    partitions,
    record_archived,
    rest_table,
    rows_by_portfolio,
)


@dataclass(frozen=True, slots=True)
class RetainedPartition:
    """An old partition that is kept, and why."""

    partition: str
    why: str


@dataclass(slots=True)
class MaintenanceOutcome:
    """The changes of one maintenance pass."""

    attached: list[str] = field(default_factory=list)  #: names of partitions
    archived: list[Archive] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)  #: names of tables
    kept: list[RetainedPartition] = field(default_factory=list)

    def sentence(self) -> str:
        """Return a summary in one line."""
        rows = sum(archive.rows for archive in self.archived)
        summary = f"{len(self.attached)} partitions attached, {len(self.dropped)} dropped"
        summary += f" ({rows} rows archived)" if rows else ""
        return "; ".join([summary, *(f"{kept.partition} stays: {kept.why}" for kept in self.kept)])


#: An unverified portfolio holds back partitions for at most this many times their retention time.
#: Its rows are in the archive, and the alert `archived_unverified` names the portfolio.
MAX_KEEP_FACTOR = 1.125

#: A partition with more open orders is kept: they would be moved out of it while commits wait.
MAX_OPEN = 10_000

#: When a packaged feed released a seq.
RELEASED = """
SELECT s.from_time + make_interval(secs => (%(seq)s - s.from_seq) / nullif(s.rate, 0))
FROM portfolios_feedsegment s WHERE s.feed_id = %(feed)s AND s.from_seq <= %(seq)s
ORDER BY s.from_seq DESC, s.id DESC LIMIT 1
"""

#: The open orders in a table, except for those of deleted portfolios.
OPEN_ORDERS = """
SELECT o.id FROM {table} o JOIN portfolios_portfolio p ON p.id = o.portfolio_id
WHERE o.status = 'open' AND p.archived_at IS NULL
"""

#: Orders that were open when their partition was detached: they are in the table itself again.
LEFT_OPEN = """
SELECT o.id FROM {table} o
JOIN portfolios_order_default d USING (portfolio_id, seq, index)
"""


def attach_partitions() -> list[str]:
    """Attach missing partitions of every kind whose lock is available; return their names."""
    done, heads = MaintenanceOutcome(), feed_heads()
    for kind in record_kinds():
        _attach_ahead(kind, heads, done)
    return done.attached


def has_expired_partitions() -> bool:
    """Return whether a partition has expired, or is detached and was not dropped yet."""
    heads = feed_heads()
    return any(
        detached_tables(kind) or any(_is_expired(kind, one, heads) for one in partitions(kind))
        for kind in record_kinds()
    )


def maintain(folder: Path, verified_to: Mapping[int, int]) -> MaintenanceOutcome:
    """Do one maintenance pass. `verified_to`: up to which seq each existing portfolio is verified.

    The next verification needs the rows after that seq: they are kept up to MAX_KEEP_FACTOR times
    their retention time. If a lock is not available, nothing fails: the next pass does the rest.
    """
    done, heads = MaintenanceOutcome(), feed_heads()
    for kind in record_kinds():
        for table in detached_tables(kind):  # left by an interrupted pass
            _archive_and_drop(kind, table, folder, done)
        _attach_ahead(kind, heads, done)
        dropped_before = len(done.dropped)
        _retire_expired(kind, heads, verified_to, folder, done)
        # Not in every pass: each time makes one more file, and files are kept indefinitely.
        if len(done.dropped) > dropped_before:
            _archive_rest(kind, folder, done)
    return done


def _retire_expired(
    kind: RecordKind,
    heads: Sequence[FeedHead],
    verified_to: Mapping[int, int],
    folder: Path,
    done: MaintenanceOutcome,
) -> None:
    """Retire every expired partition of a kind, or note in `done` why one is kept."""
    for partition in partitions(kind):
        if not _is_expired(kind, partition, heads):
            continue
        held = rows_by_portfolio(kind, partition.name)
        if any(rows.age_s < kind.keep_s for rows in held):
            continue  # young rows of another feed, or of a portfolio far behind its own
        why = _reason_to_keep(kind, partition, heads, held, verified_to)
        if why is not None:
            done.kept.append(RetainedPartition(partition.name, why))
        elif not _retire(kind, partition, held, folder, done):
            break  # the other partitions need the same lock


def _attach_ahead(kind: RecordKind, heads: Sequence[FeedHead], done: MaintenanceOutcome) -> None:
    """Attach the partitions that rows after these heads will need. Note them in `done`."""
    try:
        for head in heads:
            done.attached += attach_ahead(kind, head)
    except OperationalError as error:
        _record_lock_conflict(error, done, f"{kind.table} (without its next partition)")


def _is_expired(
    kind: RecordKind, partition: Partition, heads: Sequence[FeedHead], factor: float = 1.0
) -> bool:
    """Return whether a feed passed the partition over `factor` * its retention time ago.

    Asks the clocks of the feeds alone, so that rows are read only if it may have expired. A seq
    whose release time is not known counts as passed long ago.
    """
    limit = datetime.now(UTC).timestamp() - factor * kind.keep_s
    for head in heads:
        if partition.high <= head.seq:
            released = _release_time(head, partition.high)
            if released is None or released.timestamp() <= limit:
                return True
    return False


def _release_time(head: FeedHead, seq: int) -> datetime | None:
    """Return when the feed released a seq; None if that is not known."""
    if head.recorded:
        return released_at(head.feed, seq)
    with connection.cursor() as cursor:
        cursor.execute(RELEASED, {"feed": head.feed, "seq": seq})
        row = cursor.fetchone()
    return None if row is None else row[0]


def _reason_to_keep(
    kind: RecordKind,
    partition: Partition,
    heads: Sequence[FeedHead],
    held: Sequence[PortfolioRows],
    verified_to: Mapping[int, int],
) -> str | None:
    """Return why an expired partition without young rows is kept, or None if it can go."""
    # A deleted portfolio is not in `verified_to`: nobody will verify its rows.
    unverified = [one for one in held if one.last > verified_to.get(one.portfolio, one.last)]
    if kind.verified and unverified:
        is_overdue = all(one.age_s >= MAX_KEEP_FACTOR * kind.keep_s for one in unverified)
        if not is_overdue or not _is_expired(kind, partition, heads, MAX_KEEP_FACTOR):
            seq = min(verified_to[one.portfolio] for one in unverified)
            return f"its portfolios are verified up to seq {seq} only: verify them"
    waiting = sum(one.open for one in held)
    return f"{waiting:,} of its orders are still open" if waiting > MAX_OPEN else None


def _retire(
    kind: RecordKind,
    partition: Partition,
    held: Sequence[PortfolioRows],
    folder: Path,
    done: MaintenanceOutcome,
) -> bool:
    """Archive, detach and drop a partition. Return False if the lock is not available.

    An order that is open stays in the table, and is archived after its end.
    """
    open_ids = _order_ids(OPEN_ORDERS, partition.name) if any(one.open for one in held) else []
    written = None
    if sum(one.rows for one in held) > len(open_ids):  # it has a row besides open orders
        written = archive(kind, partition.name, folder, _excluding(open_ids))
    try:
        detach(kind, partition, held, open_ids)
    except OperationalError as error:
        _record_lock_conflict(error, done, partition.name)
        return False
    if written is not None and _count_rows(partition.name) == written.rows + len(open_ids):
        done.archived.append(written)
        _drop(partition.name, done)
    else:  # a row was added meanwhile, or there was none
        _archive_and_drop(kind, partition.name, folder, done)
    return True


def _archive_and_drop(kind: RecordKind, table: str, folder: Path, done: MaintenanceOutcome) -> None:
    """Archive a detached table, without orders that were left open in the partitioned one.

    Drop it if the lock is available. Nothing else writes to a detached table.
    """
    held = rows_by_portfolio(kind, table)
    left_open = _order_ids(LEFT_OPEN, table) if kind.table == ORDERS and held else []
    if sum(one.rows for one in held) > len(left_open):  # it has a row that is nowhere else
        done.archived.append(archive(kind, table, folder, _excluding(left_open)))
    record_archived(kind, held)
    _drop(table, done)


def _archive_rest(kind: RecordKind, folder: Path, done: MaintenanceOutcome) -> None:
    """Archive the old rows that are in no partition of their age.

    These are orders that outlived their partition and have ended, and rows of portfolios that were
    far behind their feed. They are few.
    """
    if detached_tables(kind):
        # A detached table is still there, since a dump reads it. If it is the rest table, its name
        # is taken. Otherwise it may hold copies of open orders that are in the default partition
        # too: were these moved now, they would be archived twice. Wait for the next pass.
        return
    held = move_rest(kind)
    if held:
        _archive_and_drop(kind, rest_table(kind), folder, done)


def _order_ids(statement: str, table: str) -> list[str]:
    """Return the ids of the orders that OPEN_ORDERS or LEFT_OPEN finds in a table."""
    with connection.cursor() as cursor:
        cursor.execute(statement.format(table=table))
        return [name for (name,) in cursor.fetchall()]


def _excluding(ids: Sequence[str]) -> sql.Composable:
    """Return the condition that leaves out the orders with these ids."""
    return sql.SQL("t.id <> ALL({})").format(sql.Literal(list(ids))) if ids else ALL_ROWS


def _drop(table: str, done: MaintenanceOutcome) -> None:
    """Drop a detached table; if the lock is not available, it stays until the next pass."""
    try:
        drop(table)
    except OperationalError as error:
        _record_lock_conflict(error, done, table)
    else:
        done.dropped.append(table)


def _count_rows(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        (rows,) = cursor.fetchone()
    return int(rows)


def _record_lock_conflict(error: OperationalError, done: MaintenanceOutcome, what: str) -> None:
    """Record that `what` stays until the next pass. Raise `error` if it is not a refused lock."""
    if not lock_was_refused(error):
        raise error
    done.kept.append(
        RetainedPartition(what, "another session holds its table; tried again in the next pass")
    )
