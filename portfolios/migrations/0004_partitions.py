"""Orders, fills and equity points become tables that are partitioned by position in the log.

Runs on a live system. What takes long (building an index, checking the rows that are there) happens
under locks that let commits through; what needs the table for itself touches the catalogue only, in
one transaction of milliseconds that gives way after LOCK_WAIT and is tried again. Each table that
was there becomes the first partition as it is: no row is copied. Can be repeated from any step.

Why by seq and not by a time: docs/decisions/0009-partitions-by-seq.md.
"""

from __future__ import annotations

import random
import time
from typing import Any, NamedTuple

import django.db.models.deletion
from django.conf import settings
from django.db import OperationalError, migrations, models

LOCK_WAIT = "300ms"  #: commits that queue behind the conversion wait at most this long at a time
TRIES = 200
DAY_S = 86_400
AHEAD = 2  #: partitions made beyond the first
#: The first partition ends no nearer to the head than this. Until the swap its bound is a check on
#: the table itself: of a migration that was interrupted it stays, and would refuse every commit
#: once the feed has passed it.
MARGIN_S = 2 * DAY_S
NARROWEST = 1_000


class Table(NamedTuple):
    name: str
    seq: str  #: the column that partitions it
    kept: str  #: the setting that says for how many days, and into how many parts it is cut
    parts: int
    before: str  #: CONCURRENTLY, or under a lock that lets commits through; {bound} is its end
    swap: str  #: within the one transaction, before the new parent exists
    parent: str  #: and after


#: The seq stands in the id and decides the partition: one id can only meet one index.
ORDER = Table(
    name="portfolios_order",
    seq="seq",
    kept="keep_orders_days",
    parts=24,
    before="""
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS portfolios_order_once_ever
    ON portfolios_order (id, seq);
ALTER TABLE portfolios_order DROP CONSTRAINT IF EXISTS order_id_names_seq;
ALTER TABLE portfolios_order ADD CONSTRAINT order_id_names_seq
    CHECK (right(id, 2 + length(seq::text) + length(index::text)) = '-' || seq || '-' || index)
    NOT VALID;
ALTER TABLE portfolios_order VALIDATE CONSTRAINT order_id_names_seq;
""",
    swap="""
ALTER TABLE portfolios_order_first DROP CONSTRAINT portfolios_order_pkey;
ALTER TABLE portfolios_order_first ADD CONSTRAINT portfolios_order_first_pkey
    PRIMARY KEY USING INDEX portfolios_order_once_ever;
ALTER TABLE portfolios_order_first RENAME CONSTRAINT order_once TO portfolios_order_first_once;
""",
    parent="""
ALTER TABLE portfolios_order ADD CONSTRAINT portfolios_order_pkey PRIMARY KEY (id, seq);
ALTER TABLE portfolios_order ADD CONSTRAINT order_once UNIQUE (portfolio_id, seq, index);
""",
)

FILL = Table(
    name="portfolios_fill",
    seq="fill_seq",
    kept="keep_orders_days",
    parts=24,
    before="",
    swap="""
ALTER TABLE portfolios_fill_first DROP CONSTRAINT IF EXISTS portfolios_fill_pkey;
ALTER TABLE portfolios_fill_first RENAME CONSTRAINT fill_once TO portfolios_fill_first_once;
""",
    parent="""
ALTER TABLE portfolios_fill ADD CONSTRAINT fill_once UNIQUE (portfolio_id, fill_seq, index);
""",
)

EQUITY = Table(
    name="portfolios_equitypoint",
    seq="seq",
    kept="keep_equity_days",
    parts=6,
    before="",
    swap="""
ALTER TABLE portfolios_equitypoint_first DROP CONSTRAINT IF EXISTS portfolios_equitypoint_pkey;
ALTER TABLE portfolios_equitypoint_first
    RENAME CONSTRAINT equity_point_once TO portfolios_equitypoint_first_once;
""",
    parent="""
ALTER TABLE portfolios_equitypoint
    ADD CONSTRAINT equity_point_once UNIQUE (portfolio_id, seq);
""",
)

#: Fills first: they refer to orders, and that key has to go before the orders' own does.
TABLES = (FILL, ORDER, EQUITY)

NEWEST = """
SELECT max(s.from_seq + floor(greatest(extract(epoch FROM clock_timestamp() - s.from_time), 0)
                              * s.rate))::bigint,
       max(s.rate)
FROM portfolios_feedsegment s
WHERE s.id IN (SELECT max(id) FROM portfolios_feedsegment GROUP BY feed_id)
"""

FOREIGN_KEYS = """
SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f'
"""

#: Kept by Django for LIKE 'x%' on keys that are text; nothing asks so, and a row cost 80 bytes.
UNUSED_INDEXES = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s::regclass AND NOT i.indisunique AND c.relname LIKE '%%\\_order_id\\_%%'
   OR i.indrelid = %s::regclass AND c.relname LIKE '%%\\_like'
"""


def forward(apps: Any, editor: Any) -> None:
    """Partition each table that is not yet."""
    connection = editor.connection
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{LOCK_WAIT}'; SET statement_timeout = 0")
        try:
            for table in TABLES:
                if kind_of(cursor, table.name) == "r":
                    partition(connection, cursor, table)
        finally:
            cursor.execute("RESET lock_timeout; RESET statement_timeout")


def kind_of(cursor: Any, name: str) -> str:
    cursor.execute("SELECT relkind::text FROM pg_class WHERE oid = %s::regclass", [name])
    kind: str = cursor.fetchone()[0]
    return kind


def partition(connection: Any, cursor: Any, table: Table) -> None:
    """Turn one table into the first partition of a new one of its name."""
    name = table.name
    drop_invalid_indexes(cursor, name)
    for statement in filter(str.strip, table.before.split(";")):
        patiently(cursor, statement)
    head, rate = newest(cursor)
    days = getattr(settings.GINKGO, table.kept) / table.parts
    width = max(round(rate * days * DAY_S), NARROWEST)
    bound = end_of_first(head, rate, width)
    within = f"{name}_first_within"
    patiently(cursor, f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {within}")
    patiently(
        cursor,
        f"ALTER TABLE {name} ADD CONSTRAINT {within} CHECK ({table.seq} < {bound}) NOT VALID",
    )
    patiently(cursor, f"ALTER TABLE {name} VALIDATE CONSTRAINT {within}")
    patiently(cursor, swap(cursor, table, bound, width), whole=True)


def end_of_first(head: int, rate: float, width: int) -> int:
    """Return where the first partition ends: a multiple of the width, MARGIN_S ahead or more.

    No more than one width is added for that: rows that are kept for hours are cut by hours.
    """
    return ((head + min(round(rate * MARGIN_S), width)) // width + 1) * width


def newest(cursor: Any) -> tuple[int, float]:
    """Return the head of the fastest feed and its rate."""
    cursor.execute(NEWEST)
    head, rate = cursor.fetchone()
    return int(head or 0), float(rate or settings.GINKGO.feed_rate)


def drop_invalid_indexes(cursor: Any, name: str) -> None:
    """Drop what a CREATE INDEX CONCURRENTLY that was interrupted left behind."""
    cursor.execute(
        "SELECT i.indexrelid::regclass::text FROM pg_index i "
        "WHERE i.indrelid = %s::regclass AND NOT i.indisvalid",
        [name],
    )
    for (index,) in cursor.fetchall():
        patiently(cursor, f"DROP INDEX {index}")


def swap(cursor: Any, table: Table, bound: int, width: int) -> str:
    """Return the statements of the short transaction. Nothing in it reads a row of the table."""
    name, first, seq = table.name, f"{table.name}_first", table.seq
    cursor.execute(FOREIGN_KEYS, [name])
    keys = [row[0] for row in cursor.fetchall()]
    cursor.execute(UNUSED_INDEXES, [name, name])
    indexes = [row[0] for row in cursor.fetchall()]
    steps = [f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"]
    steps += [f'ALTER TABLE {name} DROP CONSTRAINT "{key}"' for key in keys]
    steps += [f'DROP INDEX "{index}"' for index in indexes]
    steps += [f"ALTER TABLE {name} RENAME TO {first}", table.swap]
    steps += own_numbers(cursor, table)
    steps += [
        f"CREATE TABLE {name} (LIKE {first} INCLUDING DEFAULTS INCLUDING STORAGE "
        f"INCLUDING CONSTRAINTS) PARTITION BY RANGE ({seq})",
        f"ALTER TABLE {name} DROP CONSTRAINT {first}_within",
        table.parent,
        f"ALTER TABLE {name} ATTACH PARTITION {first} FOR VALUES FROM (MINVALUE) TO ({bound})",
        f"ALTER TABLE {first} DROP CONSTRAINT {first}_within",
        f"CREATE TABLE {name}_default PARTITION OF {name} DEFAULT",
    ]
    steps += [
        f"CREATE TABLE {name}_from_{low} PARTITION OF {name} FOR VALUES FROM ({low}) "
        f"TO ({low + width})"
        for low in range(bound, bound + AHEAD * width, width)
    ]
    if table is not ORDER:
        steps.append(f"ALTER SEQUENCE {name}_number OWNED BY {name}.id")
    return ";".join(steps)


def own_numbers(cursor: Any, table: Table) -> list[str]:
    """Return what gives the ids of all partitions from one sequence: an identity is a table's."""
    if table is ORDER:
        return []
    first = f"{table.name}_first"
    cursor.execute(f"SELECT last_value + 1000 FROM {table.name}_id_seq")
    beyond = cursor.fetchone()[0]  # of what commits take until the swap
    return [
        f"CREATE SEQUENCE {table.name}_number AS bigint START {beyond}",
        f"SELECT setval('{table.name}_number', (SELECT last_value FROM {table.name}_id_seq))",
        f"ALTER TABLE {first} ALTER COLUMN id DROP IDENTITY",
        f"ALTER TABLE {first} ALTER COLUMN id SET DEFAULT nextval('{table.name}_number')",
    ]


def patiently(cursor: Any, sql: str, whole: bool = False) -> None:
    """Run `sql`, again after each lock that it did not get in time; `whole`: as one transaction."""
    for attempt in range(TRIES):
        try:
            cursor.execute(f"BEGIN;{sql};COMMIT" if whole else sql)
            return
        except OperationalError as error:
            if whole:
                cursor.execute("ROLLBACK")
            if getattr(error.__cause__, "sqlstate", "") != "55P03" or attempt == TRIES - 1:
                raise
            time.sleep(random.uniform(0.05, 0.5))


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("portfolios", "0003_changed_in")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(forward, elidable=False)],
            state_operations=[
                migrations.AlterField(
                    model,
                    "portfolio",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name=related,
                        to="portfolios.portfolio",
                    ),
                )
                for model, related in (
                    ("order", "orders"),
                    ("fill", "fills"),
                    ("equitypoint", "equity_points"),
                )
            ]
            + [
                migrations.AlterField(
                    "fill",
                    "order",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="fills",
                        to="portfolios.order",
                    ),
                )
            ],
        )
    ]
