"""One maintenance pass: attach partitions ahead of the head, archive and drop old ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from django.db import OperationalError, connection

from ginkgo_site.table_locks import lock_was_taken
from portfolios.retention.archive import Archive, archive
from portfolios.retention.kinds import RecordKind, record_kinds
from portfolios.retention.partitions import (
    FeedHead,
    Partition,
    attach_ahead,
    detach,
    detached,
    drop,
    feed_head,
    partitions,
)


@dataclass(frozen=True, slots=True)
class RetainedPartition:
    """An old partition that is kept, and why."""

    partition: str
    why: str


@dataclass(slots=True)
class MaintenanceOutcome:
    """The changes of one pass."""

    attached: list[str] = field(default_factory=list)
    archived: list[Archive] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
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

#: Age of a seq: its release by the fastest feed precedes all rows of partitions that end there.
RELEASED = """
SELECT min(extract(epoch FROM clock_timestamp() - s.from_time)
           - (%(seq)s - s.from_seq) / nullif(s.rate, 0))
FROM portfolios_feedsegment s
WHERE s.id = (SELECT l.id FROM portfolios_feedsegment l WHERE l.from_seq <= %(seq)s
              ORDER BY l.from_seq DESC, l.id DESC LIMIT 1)
"""

AGE = """
SELECT count(*), count(*) FILTER (WHERE {at} >= clock_timestamp() - make_interval(secs => %s))
FROM {table}
"""

OPEN_ORDERS = """
SELECT count(*) FROM {table} o JOIN portfolios_portfolio p ON p.id = o.portfolio_id
WHERE o.status = 'open' AND p.archived_at IS NULL
"""


def attach_partitions() -> list[str]:
    """Attach missing partitions of every kind; return their names. Takes milliseconds."""
    done, at = MaintenanceOutcome(), feed_head()
    for kind in record_kinds():
        _attach_ahead(kind, at, done)
    return done.attached


def has_expired_partitions() -> bool:
    """Return whether a partition may have expired, or an earlier pass left a detached one."""
    at = feed_head()
    return any(
        bool(detached(kind))
        or (bool(found := partitions(kind)) and _is_expired(kind, found[0], at))
        for kind in record_kinds()
    )


def maintain(folder: Path, verified_to: int | None) -> MaintenanceOutcome:
    """Do one pass. Rows after `verified_to` (None: no rows) are needed by a verification, and kept
    up to MAX_KEEP_FACTOR times their retention time.

    A lock that is not available is no failure: the next pass does the rest.
    """
    done, at = MaintenanceOutcome(), feed_head()
    for kind in record_kinds():
        _attach_ahead(kind, at, done)
        for table in detached(kind):  # left by an interrupted pass
            _archive_and_drop(kind, table, folder, done)
        for partition in partitions(kind):
            why = _reason_to_keep(kind, partition, at, verified_to)
            if why is None:
                if not _retire(kind, partition, folder, done):
                    break
                continue
            if why:
                done.kept.append(RetainedPartition(partition.name, why))
            if kind.verified:
                break  # a verification knows one seq from which on all rows are kept
            # Else it knows the age: rows of a slow feed keep a low partition young.
    return done


def _attach_ahead(kind: RecordKind, at: FeedHead, done: MaintenanceOutcome) -> None:
    try:
        done.attached += attach_ahead(kind, at)
    except OperationalError as error:
        _record_lock_conflict(error, done, f"{kind.table}, without a partition ahead,")


def _is_expired(kind: RecordKind, partition: Partition, at: FeedHead, times: float = 1.0) -> bool:
    """Return whether the feed passed the partition `times` the retention time ago.

    Uses the feed's clock alone, so that rows are read only if it may have expired.
    """
    if partition.high > at.seq:
        return False
    with connection.cursor() as cursor:
        cursor.execute(RELEASED, {"seq": partition.high})
        (age_s,) = cursor.fetchone()
    return age_s is None or age_s >= times * kind.keep_s


def _reason_to_keep(
    kind: RecordKind, partition: Partition, at: FeedHead, verified_to: int | None
) -> str | None:
    """Return why an expired partition is kept, "" if it has not expired, None if it can go."""
    if not _is_expired(kind, partition, at):
        return ""
    with connection.cursor() as cursor:
        cursor.execute(AGE.format(at=kind.at, table=partition.name), [kind.keep_s])
        rows, young = cursor.fetchone()
        if young:
            return ""
        unverified = verified_to is not None and partition.high - 1 > verified_to
        if (
            rows
            and kind.verified
            and unverified
            and not _is_expired(kind, partition, at, MAX_KEEP_FACTOR)
        ):
            return f"its portfolios are verified up to seq {verified_to} only"
        if rows and kind.table == "portfolios_order":
            cursor.execute(OPEN_ORDERS.format(table=partition.name))
            (waiting,) = cursor.fetchone()
            if waiting:
                return f"{waiting} of its orders are still open"
    return None


def _retire(kind: RecordKind, partition: Partition, folder: Path, done: MaintenanceOutcome) -> bool:
    """Archive, detach and drop a partition. Return False if the lock is not available."""
    written = archive(kind, partition.name, folder) if _count(partition.name) else None
    try:
        detach(kind, partition)
    except OperationalError as error:
        _record_lock_conflict(error, done, partition.name)
        return False
    if written is not None and _count(partition.name) == written.rows:
        done.archived.append(written)
        _drop(partition.name, done)
    else:  # a row was added meanwhile, or there was none
        _archive_and_drop(kind, partition.name, folder, done)
    return True


def _archive_and_drop(kind: RecordKind, table: str, folder: Path, done: MaintenanceOutcome) -> None:
    """Archive and drop a detached table, which has no writers."""
    if _count(table):
        done.archived.append(archive(kind, table, folder))
    _drop(table, done)


def _drop(table: str, done: MaintenanceOutcome) -> None:
    drop(table)
    done.dropped.append(table)


def _count(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        (rows,) = cursor.fetchone()
    return int(rows)


def _record_lock_conflict(error: OperationalError, done: MaintenanceOutcome, what: str) -> None:
    if not lock_was_taken(error):
        raise error
    done.kept.append(
        RetainedPartition(what, "another session holds its table; tried again in the next pass")
    )
