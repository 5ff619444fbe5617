"""Sizes of tables, database, WAL and disk, and the age of the oldest snapshot."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError

from scheduling.db.statements import TABLE_SIZES
from scheduling.db.transaction import django_cursor
from scheduling.errors import SnapshotUnavailable

#: Size of the database, bytes of WAL written, and seconds since the oldest open snapshot was taken.
FACTS = """
SELECT pg_database_size(current_database()) AS database_bytes,
       pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS wal_bytes,
       (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(a.xact_start)), 0)::float
        FROM pg_stat_activity a
        WHERE a.backend_xmin IS NOT NULL AND a.backend_type = 'client backend'
          AND a.pid <> pg_backend_pid()) AS oldest_snapshot_s
"""


@dataclass(frozen=True, slots=True)
class Storage:
    """Sizes in bytes, and the age of the oldest snapshot in seconds."""

    database_bytes: int
    wal_bytes: int  #: written since the database was created
    oldest_snapshot_s: float
    disk_free_bytes: int | None  #: None: the database is on another machine
    tables: list[Any]  #: rows of TABLE_SIZES (`name`, `bytes`, `rows`), by name


def read_storage() -> Storage:
    """Return the present sizes, and the age of the oldest snapshot. Two statements.

    Raise SnapshotUnavailable if the database cannot be read.
    """
    try:
        with django_cursor() as cursor:
            tables = cursor.execute(TABLE_SIZES.encode()).fetchall()
            (facts,) = cursor.execute(FACTS.encode()).fetchall()
    except (DatabaseError, psycopg.Error) as error:
        raise SnapshotUnavailable(f"the sizes of the tables could not be read: {error}") from error
    return Storage(
        facts.database_bytes,
        facts.wal_bytes,
        facts.oldest_snapshot_s,
        disk_free(),
        sorted(tables, key=lambda table: table.name),
    )


def disk_free() -> int | None:
    """Return the free bytes of the database's disk; None if it is on another machine."""
    env = settings.GINKGO
    if not env.database_is_embedded or not env.home.exists():
        return None
    return shutil.disk_usage(env.home).free
