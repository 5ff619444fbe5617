"""Django's connection pool replaces all idle connections after it found a dead one."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection as django_connection

from chaos.harness.installation import eventually
from ginkgo_site.database import conninfo, share_connections
from ginkgo_site.deadline import Connection
from ginkgo_site.postgresql.base import DatabaseWrapper

pytestmark = pytest.mark.django_db

IDLE = 6
NAME = "pool_renewal"


@pytest.fixture
def pooled() -> Iterator[DatabaseWrapper]:
    """Return a connection of the web process's kind, with a pool of its own."""
    database = copy.deepcopy(django_connection.settings_dict)
    database["OPTIONS"]["application_name"] = NAME
    share_connections(database)
    wrapper = DatabaseWrapper(database, alias=NAME)
    try:
        yield wrapper
    finally:
        wrapper.close()
        wrapper.close_pool()
        # The pool may be connecting yet, and a database with a session cannot be dropped.
        eventually(lambda: not sessions("pid"), what="the end of the pool's sessions")


def sessions(column: str) -> list[tuple]:
    """Select from the sessions of the pool."""
    with psycopg.connect(conninfo(), autocommit=True) as admin:
        return admin.execute(
            f"SELECT {column} FROM pg_stat_activity WHERE application_name = %s", [NAME]
        ).fetchall()


def test_a_dead_connection_makes_the_pool_renew_its_idle_connections(
    pooled: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pooled.pool
    assert pool is not None
    pool.open()
    for each in [pool.getconn() for _ in range(IDLE)]:
        pool.putconn(each)
    assert len(sessions("pg_terminate_backend(pid, 5000)")) == IDLE
    died = 0
    check = Connection.check

    def counted(self: Connection) -> None:
        nonlocal died
        try:
            check(self)
        except psycopg.OperationalError:
            died += 1
            raise

    monkeypatch.setattr(Connection, "check", counted)
    monkeypatch.setattr(Connection, "is_fresh", False)  # else one answered just now is not asked
    with pooled.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    assert died == 1
