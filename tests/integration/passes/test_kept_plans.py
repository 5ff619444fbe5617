"""Plans of prepared statements are kept until tables have grown or a migration outdates them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from psycopg.rows import namedtuple_row

from ginkgo_site.database import conninfo
from ginkgo_site.deadline import AsyncConnection, Connection, statement_limit
from scheduling.db import kept_plans
from scheduling.db.kept_plans import TABLES, KeptPlans
from scheduling.db.transaction import _run_steps
from scheduling.watcher import Watcher
from tests.support.factories import make_node

pytestmark = pytest.mark.django_db

Session = psycopg.Connection[Any]
PREPARES: dict[str, Any] = {"autocommit": True, "prepare_threshold": 1}
COUNT = b"SELECT count(*) FROM grown WHERE id > %(least)s"
EXPLAIN = b"EXPLAIN (FORMAT JSON) EXECUTE _pg3_0 (0)"


@pytest.fixture
def session() -> Iterator[Session]:
    """Return a session that prepares, with a small table that nothing ever analyzes."""
    with Connection.connect(conninfo(), **PREPARES) as session:
        session.row_factory = namedtuple_row
        session.execute("CREATE TEMP TABLE grown AS SELECT 1 AS id")
        yield session


def expected_rows(session: Session) -> int:
    """Return how many rows of the table the plan of COUNT was made for."""
    for _ in range(8):
        session.execute(COUNT, {"least": 0})
    (row,) = session.execute("SELECT generic_plans FROM pg_prepared_statements LIMIT 1").fetchall()
    assert row.generic_plans > 0
    ((plan,),) = session.execute(EXPLAIN, prepare=False).fetchall()
    return int(plan[0]["Plan"]["Plans"][0]["Plan Rows"])


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> KeptPlans:
    """Return plans that only the growth of the small table outdates."""
    monkeypatch.setattr(kept_plans, "TABLES", ["grown"])
    return KeptPlans()


def discards(session: Session, plans: KeptPlans) -> bool:
    # Else the session reports its rows a second later, which a slow machine takes here.
    session.execute("SELECT pg_stat_force_next_flush()")
    return _run_steps(session.cursor(), plans.discard_outgrown(), None)


def test_statement_plans_are_kept_until_a_table_doubles(session: Session, plans: KeptPlans) -> None:
    for_few = expected_rows(session)
    assert not discards(session, plans)
    session.execute("INSERT INTO grown SELECT generate_series(1, 100000)")
    assert expected_rows(session) == for_few  # nothing tells PostgreSQL
    assert discards(session, plans)
    assert expected_rows(session) > 30 * for_few
    assert not discards(session, plans)


def test_rows_that_take_the_space_of_deleted_ones_count_as_growth(
    session: Session, plans: KeptPlans
) -> None:
    session.execute("INSERT INTO grown SELECT generate_series(1, 20000)")
    session.execute("DELETE FROM grown WHERE id < 20000")
    session.execute("VACUUM ANALYZE grown")
    for_few = expected_rows(session)
    assert not discards(session, plans)
    session.execute("INSERT INTO grown SELECT generate_series(1, 19000)")
    assert expected_rows(session) == for_few  # nothing tells PostgreSQL
    assert discards(session, plans)


def test_each_tick_of_the_watcher_checks_its_kept_statement_plans() -> None:
    make_node("node-1")
    watcher = Watcher(30.0)
    watcher._kept_plans._made_for = [0] * 2 * len(TABLES)
    watcher._tick(rebalance=False)
    assert watcher._kept_plans._made_for[TABLES.index("scheduling_node")] > 0


def test_the_watcher_prepares_its_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    options = settings.DATABASES["default"]["OPTIONS"]
    monkeypatch.delitem(options, "prepare_threshold", raising=False)
    monkeypatch.setattr(Watcher, "watch", lambda self: None)
    monkeypatch.setattr("scheduling.management.commands.run_watcher.limit_statements", id)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    call_command("run_watcher")
    assert options["prepare_threshold"] == 1


@pytest.fixture
def migrated() -> Iterator[Session]:
    """Return another session, with a table that it may alter."""
    with psycopg.connect(conninfo(), autocommit=True) as other:
        other.execute("CREATE TABLE migrated AS SELECT 1 AS a")
        try:
            yield other
        finally:
            other.execute("DROP TABLE migrated")


READ = "SELECT a FROM migrated"
ALTER = "ALTER TABLE migrated ALTER a TYPE bigint"


def test_prepared_statement_that_a_migration_outdated_fails_once(migrated: Session) -> None:
    with Connection.connect(conninfo(), **PREPARES) as session, statement_limit(10):
        for _ in range(3):
            session.execute(READ)
        migrated.execute(ALTER)
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            session.execute(READ)
        assert session.execute(READ).fetchall() == [(1,)]


async def test_prepared_async_statement_that_a_migration_outdated_fails_once(
    migrated: Session,
) -> None:
    async with await AsyncConnection.connect(conninfo(), **PREPARES) as session:
        with statement_limit(10):
            for _ in range(3):
                await session.execute(READ)
            migrated.execute(ALTER)
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                await session.execute(READ)
            assert await (await session.execute(READ)).fetchall() == [(1,)]
