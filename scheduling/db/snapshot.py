"""Read one snapshot of the database by several statements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import psycopg
from django.db import Error as DjangoDatabaseError
from django.db import connection, transaction

from scheduling.db.transaction import django_cursor
from scheduling.errors import SnapshotUnavailable


@contextmanager
def repeatable_read(subject: str) -> Iterator[psycopg.Cursor[Any]]:
    """Yield a cursor whose statements all read one snapshot, and write nothing.

    Within a caller's transaction (tests) the isolation level is that of the caller. Raise
    SnapshotUnavailable if the database cannot be read; its message names `subject`.
    """
    nested = connection.in_atomic_block
    try:
        with nullcontext() if nested else transaction.atomic(), django_cursor() as cursor:
            if not nested:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # A third of the time of the text format, whose dates Django parses in Python.
            cursor.format = psycopg.pq.Format.BINARY
            yield cursor
    except (DjangoDatabaseError, psycopg.Error) as error:
        if not nested:
            connection.close()  # possibly broken, and a long-lived process would keep it
        raise SnapshotUnavailable(f"{subject} could not be read: {error}") from error
