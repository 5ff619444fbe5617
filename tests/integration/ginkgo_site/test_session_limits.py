"""Session limits of the database, and their exceptions for migrations and other preparation."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from ginkgo_site.database import PREPARATION_LIMITS, conninfo, django_database, lift_session_limits
from ginkgo_site.deadline import AsyncConnection, Connection
from ginkgo_site.sessions import SESSION_LIMITS
from tests.support.python_process import run_python

LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")


def limits_of_the_session() -> dict[str, str]:
    with connection.cursor() as cursor:
        settings = "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)"
        cursor.execute(settings, [list(LIMITS)])
        return dict(cursor.fetchall())


@pytest.mark.django_db
def test_migrate_lifts_the_session_limits_and_restores_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[dict[str, str]] = []

    def look(*_: object, **__: object) -> None:
        seen.append(limits_of_the_session())

    before = limits_of_the_session()
    monkeypatch.setattr("django.core.management.commands.migrate.Command.handle", look)
    call_command("migrate", verbosity=0)
    assert seen == [PREPARATION_LIMITS]
    assert limits_of_the_session() == before == {name: SESSION_LIMITS[name] for name in LIMITS}


@pytest.mark.django_db
def test_database_session_asks_the_server_for_tcp_keepalives() -> None:
    """On a Unix socket the value in effect is 0; what a reset would set is what was asked for."""
    with connection.cursor() as cursor:
        settings = "SELECT name, reset_val FROM pg_settings WHERE name LIKE 'tcp\\_keepalives%'"
        cursor.execute(settings)
        asked = dict(cursor.fetchall())
    assert asked == {n: v for n, v in SESSION_LIMITS.items() if n.startswith("tcp_keepalives")}
    assert len(asked) == 3


def test_preparation_steps_of_a_start_override_the_session_limits_of_commits() -> None:
    database = django_database("postgresql://u@h/d?options=-c%20statement_timeout%3D1s")
    lift_session_limits(database)
    options = database["OPTIONS"]["options"]
    for name, value in PREPARATION_LIMITS.items():
        assert options.rindex(f"{name}={value}") > options.rindex(f"{name}={SESSION_LIMITS[name]}")
    assert "synchronous_commit=on" in options


#: Of a start whose migration takes longer than the limits of a session, with limits that every
#: machine exceeds.
START = """
import sys
import ginkgo_site.database as database
database.SESSION_LIMITS |= {
    "statement_timeout": "1ms", "idle_in_transaction_session_timeout": "1ms"
}
from ginkgo_site.launcher import bootstrap

def migrate():
    from django.db import connection
    connection.cursor().execute("SELECT pg_sleep(0.1)")
    raise bootstrap.Refused("it migrated")

bootstrap._check_database = lambda: None  # the tests' server has fsync off
bootstrap._migrate = migrate
sys.argv = ["bootstrap", "start"]
sys.exit(bootstrap.main())
"""


@pytest.mark.django_db
def test_a_start_lifts_the_session_limits_for_its_migrations(tmp_path: Path) -> None:
    url = os.environ["GINKGO_TEST_DATABASE_URL"]
    done = run_python("-c", START, DATABASE_URL=url, GINKGO_HOME=str(tmp_path))
    assert done.stdout.strip() == '{"refused": "it migrated"}', done.stderr[-2000:]


@pytest.mark.django_db
@pytest.mark.parametrize("behind_pooler", [False, True])
def test_a_session_has_the_name_of_its_process_and_its_limits_even_behind_a_pooler(
    behind_pooler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if behind_pooler:  # which names another process at the connection, and keeps sessions apart
        monkeypatch.setattr("psycopg.ConnectionInfo.backend_pid", 999_999_999)
        monkeypatch.setattr("ginkgo_site.sessions._session_poolers", set())
    monkeypatch.setattr("ginkgo_site.sessions._process_kind", "test")
    # The limits are lost on the way, as behind a pooler.
    monkeypatch.setattr("ginkgo_site.deadline.limits_in", lambda options: SESSION_LIMITS)
    with Connection.connect(re.sub(r"options='[^']*'", "", conninfo())) as session:
        assert not session.autocommit
        session.rollback()  # limits of a transaction that failed would be gone
        seen = dict(session.execute("SELECT name, setting FROM pg_settings").fetchall())
        assert seen["statement_timeout"] == "30000"
        assert seen["application_name"].startswith("ginkgo test ")
        assert seen["application_name"].endswith(f" {os.getpid()}")


@pytest.mark.django_db
async def test_an_async_session_of_the_gateway_has_its_limits_behind_a_pooler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("psycopg.ConnectionInfo.backend_pid", 999_999_999)
    monkeypatch.setattr("ginkgo_site.sessions._session_poolers", set())
    async with await AsyncConnection.connect(conninfo(), autocommit=True) as session:
        assert session.autocommit
        shown = await session.execute("SHOW statement_timeout")
        assert await shown.fetchone() == ("30s",)
