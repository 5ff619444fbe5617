"""Migrations of a system that trades: while another session holds the tables, commits go on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import psycopg
import pytest
from django.db.migrations.loader import MigrationLoader

from chaos.harness.installation import SLOW_MACHINE_S
from ginkgo_site.env import CHECKOUT
from ginkgo_site.table_locks import PatientMigration
from tests.support.databases import new_database

#: Those before are of releases that nothing traded on, or give way in their own way (0004).
PATIENT_FROM = {"scheduling": 11, "portfolios": 5}
#: What each of them alters is written by every commit or every beat.
ALTER_HOT_TABLES = {
    "0011_unique_incarnations",
    "0012_commits_stand",
    "0013_python",
    "0014_tokens_and_origin",
    "0017_behind",
    "0026_gateways",
    "0007_price_places",
}
#: Gives way in its own way: it builds the index of each partition while commits go on.
OWN_WAY = {"0015_orders_by_time"}
#: Of a commit, where 0.3 s for each of its tables are allowed. A busy machine is as late with
#: commits to a table that no migration touches.
MAX_WAIT_S = 2.0

#: Migrates to each name that it reads, and answers when it is done; under the limits of
#: `manage.py migrate`, whose Python may be idle in its transaction for long.
MIGRATE = """
import sys
import django
django.setup()
from django.db import connection
from ginkgo_site.database import lift_session_limits
lift_session_limits(connection.settings_dict)
from django.db.migrations.executor import MigrationExecutor
executor, state = MigrationExecutor(connection), None
for line in sys.stdin:
    plan = executor.migration_plan([tuple(line.split())])
    state = executor.migrate([], plan, state)
    executor.loader.applied_migrations |= {(m.app_label, m.name): m for m, _ in plan}
    print("done", flush=True)
"""

TABLES = """
SELECT string_agg(quote_ident(relname), ', ') FROM pg_class
WHERE relkind IN ('r', 'p') AND NOT relispartition AND relname ~ '^(scheduling|portfolios)_'
"""
WAITING = """
SELECT min(query_start) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
  AND query ~* '^(alter|drop|create|lock|set constraints)'
"""
COMMIT = """
UPDATE scheduling_run SET last_seq = last_seq + 1;
UPDATE scheduling_lease SET renewals = renewals + 1;
UPDATE scheduling_node SET version = version;
UPDATE scheduling_gatewaypulse SET last_beat_at = last_beat_at;
INSERT INTO scheduling_event (at, kind, actor, reason, data) VALUES (now(), 'x', '', '', '{}')
"""


def of_app(app: str) -> list[str]:
    """Return the names of its migrations that have to be patient, in order."""
    names = sorted(name for of, name in MigrationLoader(None).disk_migrations if of == app)
    return [name for name in names if int(name[:4]) >= PATIENT_FROM[app]]


class Migrator:
    """A process that migrates when told, and a session into the same database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._process = subprocess.Popen(
            [sys.executable, "-c", MIGRATE], cwd=CHECKOUT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "DATABASE_URL": url,
                 "DJANGO_SETTINGS_MODULE": "ginkgo_site.settings"},
        )  # fmt: skip

    def begin(self, app: str, name: str) -> threading.Thread:
        """Migrate to `name`; the thread ends with it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{app} {name}\n")
        self._process.stdin.flush()
        thread = threading.Thread(target=self._expect_done)
        thread.start()
        return thread

    def _expect_done(self) -> None:
        assert self._process.stdout is not None
        self.answer = self._process.stdout.readline()

    def migrate(self, app: str, name: str) -> None:
        """Migrate to `name`."""
        self.begin(app, name).join()
        assert self.answer == "done\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def migrator() -> Iterator[Migrator]:
    """Return one of a database as it was before the first of these migrations."""
    with new_database() as url, Migrator(url) as migrator:
        migrator.migrate("scheduling", "0010_changed_in")
        yield migrator


BYSTANDER = "CREATE TABLE bystander AS SELECT 1 AS n"
COMMIT_ELSEWHERE = "UPDATE bystander SET n = n + 1"


@contextmanager
def commits(url: str, sql: str = COMMIT) -> Iterator[list[float]]:
    """Commit to the hot tables within the context, at least once; yield each one's seconds."""
    waits: list[float] = []
    ended = threading.Event()

    def write() -> None:
        with psycopg.connect(url, autocommit=True) as session:
            while not (waits and ended.wait(0.01)):  # once, however fast the migration is
                began = time.monotonic()
                session.execute(sql.encode())
                waits.append(time.monotonic() - began)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield waits
    finally:
        ended.set()
        thread.join()


@pytest.mark.slow
def test_every_migration_gives_way_to_commits_while_a_transaction_holds_its_tables(
    migrator: Migrator,
) -> None:
    waited = set()
    migrator.migrate("portfolios", "0004_partitions")
    steps = [(app, name) for app in ("portfolios", "scheduling") for name in of_app(app)]
    with (
        psycopg.connect(migrator.url) as holder,
        psycopg.connect(migrator.url, autocommit=True) as watcher,
    ):
        watcher.execute(BYSTANDER.encode())
        for app, name in steps:
            (tables,) = holder.execute(TABLES.encode()).fetchone() or ("",)
            holder.execute(f"LOCK TABLE {tables} IN ROW EXCLUSIVE MODE".encode())
            with (
                commits(migrator.url) as waits,
                commits(migrator.url, COMMIT_ELSEWHERE) as elsewhere,
            ):
                migration = migrator.begin(app, name)
                seen: set[str] = set()
                while migration.is_alive() and len(seen) < 2:
                    (since,) = watcher.execute(WAITING.encode()).fetchone() or (None,)
                    if since is not None:
                        seen.add(since)
                    migration.join(0.02)
                # It waited, gave way and came again; now the holder ends.
                holder.rollback()
                migration.join(SLOW_MACHINE_S)
                assert migrator.answer == "done\n", name
            if len(seen) == 2:
                waited.add(name)
            limit_s = max(MAX_WAIT_S, 2 * max(elsewhere))
            assert max(waits) < limit_s, f"{name}: {max(waits):.2f} s"
    assert waited >= ALTER_HOT_TABLES


def test_new_migrations_inherit_from_patient_migration() -> None:
    """A new one that fails here: inherit from PatientMigration."""
    migrations = MigrationLoader(None).disk_migrations
    for app in PATIENT_FROM:
        for name in of_app(app):
            if name not in OWN_WAY:
                assert isinstance(migrations[app, name], PatientMigration), name
