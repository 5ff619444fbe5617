"""The migration that partitions the records of a system that trades: nothing is lost, nothing waits
long, and what was unique stays so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from importlib import import_module
from typing import NamedTuple
from uuid import uuid4

import psycopg
import pytest

from tests.integration.test_live_migrations import Migrator
from tests.support.databases import new_database

ROWS = 20_000
MAX_WAIT_S = 1.0  #: of a commit; the reload of a portfolio pauses it for 0.5 s at most

OLD_ROWS = """
INSERT INTO portfolios_feed (name, sha256, length) VALUES ('bars', 'x', 1000);
INSERT INTO portfolios_feedsegment (feed_id, from_seq, from_time, rate)
    SELECT id, 1, now() - interval '1 day', 100 FROM portfolios_feed;
INSERT INTO portfolios_portfolio (name, uid, weight, priority, selector, spread_group, spread_hard,
    catch_up, revision, first_seq, starting_cash, created_at, desired_state, feed_id)
    SELECT 'old', %(uid)s, 1, 0, '{}', '', false, 'state_only', 1, 1, 100000, now(), 'running', id
    FROM portfolios_feed;
"""

COMMITTED = """
WITH seqs AS (SELECT generate_series(%(low)s::bigint, %(high)s::bigint) AS seq),
p AS (SELECT id, uid FROM portfolios_portfolio WHERE name = 'old'),
o AS (
    INSERT INTO portfolios_order (id, portfolio_id, seq, index, symbol, side, quantity, price,
        status, reason, epoch, node, revision, decided_at, committed_at)
    SELECT p.uid || '-' || seq || '-0', p.id, seq, 0, 'IBM', 'buy', 1, 60, 'open', '', 1, 'n', 1,
           now(), now() FROM seqs, p RETURNING id
), f AS (
    INSERT INTO portfolios_fill (portfolio_id, order_id, fill_seq, index, symbol, side, quantity,
        price, epoch, at)
    SELECT p.id, p.uid || '-' || seq || '-0', seq, 0, 'IBM', 'buy', 1, 60, 1, now() FROM seqs, p
)
INSERT INTO portfolios_equitypoint (portfolio_id, seq, at, equity)
SELECT p.id, seq, now(), 1 FROM seqs, p
"""


@contextmanager
def old_database() -> Iterator[Migrator]:
    """Yield the migration of a database with rows, as it was before."""
    with new_database() as url, Migrator(url) as migrator:
        migrator.migrate("portfolios", "0003_changed_in")
        with psycopg.connect(url, autocommit=True) as session:
            for statement in filter(str.strip, OLD_ROWS.split(";")):
                session.execute(statement.encode(), {"uid": uuid4()})
            session.execute(COMMITTED.encode(), {"low": 1, "high": ROWS})
        yield migrator


FILES = """
SELECT relname, relfilenode FROM pg_class
WHERE relkind = 'r' AND relname ~ '^portfolios_(order|fill)'
"""


class Partitioned(NamedTuple):
    """A database that was partitioned while it traded."""

    migrator: Migrator
    last_seq: int
    waits_s: list[float]  #: of its commits meanwhile
    elsewhere_s: list[float]  #: of commits to a table that no migration touches


@pytest.fixture(scope="module")
def partitioned() -> Iterator[Partitioned]:
    """Return a database for those who look at its rows, and add some behind those that it has."""
    waits: list[float] = []
    elsewhere: list[float] = []
    ended = threading.Event()
    seq = ROWS

    def stand_by() -> None:
        with psycopg.connect(migrator.url, autocommit=True) as session:
            session.execute("CREATE TABLE bystander AS SELECT 1 AS n")
            while not ended.is_set():
                began = time.monotonic()
                session.execute("UPDATE bystander SET n = n + 1")
                elsewhere.append(time.monotonic() - began)
                ended.wait(0.01)

    def trade() -> None:
        nonlocal seq
        with psycopg.connect(migrator.url, autocommit=True) as session:
            while not ended.is_set():
                began = time.monotonic()
                session.execute(COMMITTED.encode(), {"low": seq + 1, "high": seq + 1})
                waits.append(time.monotonic() - began)
                seq += 1

    with old_database() as migrator:
        threads = [threading.Thread(target=act) for act in (trade, stand_by)]
        for thread in threads:
            thread.start()
        try:
            migrator.migrate("portfolios", "0004_partitions")
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        yield Partitioned(migrator, seq, waits, elsewhere)


def test_tables_are_partitioned_while_portfolios_commit(partitioned: Partitioned) -> None:
    migrator, seq, waits, elsewhere = partitioned
    assert len(waits) > 100
    limit_s = max(MAX_WAIT_S, 2 * max(elsewhere, default=0.0))
    assert max(waits) < limit_s, f"{max(waits):.3f} s of {len(waits)} commits"
    with psycopg.connect(migrator.url, autocommit=True) as session:
        for table, column in (("order", "seq"), ("fill", "fill_seq"), ("equitypoint", "seq")):
            name = f"portfolios_{table}"
            kind = session.execute(
                b"SELECT relkind::text FROM pg_class WHERE relname = %s", [name]
            ).fetchone()
            assert kind == ("p",), name
            rows = session.execute(
                f"SELECT count(*), max({column}), count(DISTINCT tableoid) FROM {name}"
                f" WHERE {column} <= %s".encode(),
                [seq],
            ).fetchone()
            assert rows == (seq, seq, 1), name


def test_unique_constraints_hold_in_every_partition(partitioned: Partitioned) -> None:
    with psycopg.connect(partitioned.migrator.url, autocommit=True) as session:
        bounds = session.execute(
            b"SELECT relname FROM pg_class WHERE relname LIKE 'portfolios\\_order\\_from\\_%' "
            b"AND relkind = 'r' ORDER BY length(relname), relname"
        ).fetchall()
        ahead = [int(str(name).rsplit("_", 1)[1]) for (name,) in bounds]
        assert len(ahead) == 2
        beyond = 2 * ahead[1]
        for seq in (*ahead, beyond):  # the last has no partition of its own
            session.execute(COMMITTED.encode(), {"low": seq, "high": seq})
        for seq in (1, ROWS, *ahead, beyond):
            with pytest.raises(psycopg.errors.UniqueViolation):
                session.execute(COMMITTED.encode(), {"low": seq, "high": seq})
        # An id cannot be there again under another seq, in whatever partition.
        with pytest.raises(psycopg.errors.CheckViolation, match="order_id_names_seq"):
            session.execute(
                b"INSERT INTO portfolios_order SELECT id, seq + %s, index, symbol, side, quantity, "
                b"price, status, reason, epoch, node, revision, decided_at, committed_at, "
                b"portfolio_id FROM portfolios_order WHERE seq = 5",
                [ahead[0]],
            )
        places = session.execute(
            b"SELECT tableoid::regclass::text FROM portfolios_order WHERE seq >= %s ORDER BY seq",
            [ahead[0]],
        ).fetchall()
        assert [name for (name,) in places] == [
            *(f"portfolios_order_from_{low}" for low in ahead),
            "portfolios_order_default",
        ]


def test_migration_to_prices_of_more_decimal_places_rewrites_no_table(
    partitioned: Partitioned,
) -> None:
    with psycopg.connect(partitioned.migrator.url, autocommit=True) as session:
        before: dict[str, int] = dict(session.execute(FILES.encode()).fetchall())
        partitioned.migrator.migrate("portfolios", "0007_price_places")
        assert dict(session.execute(FILES.encode()).fetchall()) == before
        assert any(table.startswith("portfolios_order_from_") for table in before)
        session.execute(b"UPDATE portfolios_fill SET price = '1.07083' WHERE fill_seq = 5")
        found = session.execute(b"SELECT price FROM portfolios_fill WHERE fill_seq = 5").fetchone()
    assert found == (Decimal("1.07083"),)


def test_first_partition_ends_beyond_the_head_by_a_day_or_a_partition_whichever_is_less() -> None:
    """An interrupted migration leaves this end as a check on commits, until it is repeated."""
    migration = import_module("portfolios.migrations.0004_partitions")
    day = 100 * 86_400
    for width in (1_000, 5 * day, 30 * day):
        for head in (0, width - 1, 50 * width - day // 20):
            bound = migration.end_of_first(head, 100.0, width)
            assert bound % width == 0
            assert min(day, width) < bound - head <= width + min(2 * day, width)


def test_partition_migration_repeated_after_an_interruption_completes() -> None:
    """As if the process had died between the building of the index and the swap."""
    with old_database() as migrator, psycopg.connect(migrator.url, autocommit=True) as session:
        session.execute(
            b"CREATE UNIQUE INDEX portfolios_order_once_ever ON portfolios_order (id, seq)"
        )
        session.execute(
            b"ALTER TABLE portfolios_order ADD CONSTRAINT portfolios_order_first_within "
            b"CHECK (seq < 1000000) NOT VALID"
        )
        migrator.migrate("portfolios", "0004_partitions")
        row = session.execute(b"SELECT count(*) FROM portfolios_order_first").fetchone()
        assert row == (ROWS,)
        # Numbers go on beyond those of before.
        session.execute(COMMITTED.encode(), {"low": ROWS + 1, "high": ROWS + 1})
        row = session.execute(
            b"SELECT count(*) = count(DISTINCT id) FROM portfolios_fill"
        ).fetchone()
        assert row == (True,)
