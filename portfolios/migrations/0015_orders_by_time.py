"""An index of orders by the time of their commit, for the list of all portfolios' orders.

The table is partitioned: the index of each partition is built while commits go on, and attached to
that of the table, which takes a moment. Can be repeated from any step.
"""

from __future__ import annotations

import random
import time
from typing import Any

from django.db import OperationalError, migrations, models

LOCK_WAIT, TRIES = "300ms", 200
NAME = "order_committed"

PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'portfolios_order'::regclass ORDER BY c.relname
"""

ATTACHED = """
SELECT EXISTS (SELECT FROM pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid
               WHERE i.inhparent = to_regclass(%s) AND x.indrelid = %s::regclass)
"""

INVALID = """
SELECT EXISTS (SELECT FROM pg_index x WHERE x.indexrelid = to_regclass(%s) AND NOT x.indisvalid)
"""


def forward(apps: Any, editor: Any) -> None:
    """Make the index of the table, then those of its partitions."""
    with editor.connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{LOCK_WAIT}'; SET statement_timeout = 0")
        try:
            # Of the table alone: it holds no rows. A partition made meanwhile gets its own at once.
            patiently(
                cursor, f"CREATE INDEX IF NOT EXISTS {NAME} ON ONLY portfolios_order (committed_at)"
            )
            cursor.execute(PARTITIONS)
            for (partition,) in cursor.fetchall():
                index_partition(cursor, partition)
        finally:
            cursor.execute("RESET lock_timeout; RESET statement_timeout")


def index_partition(cursor: Any, partition: str) -> None:
    """Build the index of one partition and attach it, unless it has one."""
    cursor.execute(ATTACHED, [NAME, partition])
    if cursor.fetchone()[0]:
        return
    name = f"{partition}_committed"
    cursor.execute(INVALID, [name])
    if cursor.fetchone()[0]:  # of an attempt that was interrupted
        patiently(cursor, f"DROP INDEX {name}")
    patiently(
        cursor, f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {partition} (committed_at)"
    )
    patiently(cursor, f"ALTER INDEX {NAME} ATTACH PARTITION {name}")


def patiently(cursor: Any, sql: str) -> None:
    """Run `sql`, again after each lock that it did not get in time."""
    for attempt in range(TRIES):
        try:
            cursor.execute(sql)
            return
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") != "55P03" or attempt == TRIES - 1:
                raise
            time.sleep(random.uniform(0.05, 0.5))


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("portfolios", "0014_records_outlive_feed")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunPython(forward, migrations.RunPython.noop, elidable=False)
            ],
            state_operations=[
                migrations.AddIndex(
                    model_name="order",
                    index=models.Index(fields=["committed_at"], name=NAME),
                )
            ],
        ),
    ]
