"""The lines of docs/mechanisms/backup.md on an external server, by the owner of the database."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg

from tests.support.documented_commands import run_lines, sh_blocks, without_dump
from tests.support.postgres_pair import postgres_pair


def test_remote_owner_without_createdb_can_restore_and_keeps_the_earlier_tables(
    tmp_path: Path,
) -> None:
    backup, restore = sh_blocks("docs/mechanisms/backup.md")
    with postgres_pair() as pair:
        url = pair.url(pair.primary.port)
        environment = {**os.environ, "DATABASE_URL": url, "GINKGO_HOME": str(tmp_path)}
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("CREATE TABLE kept (n int PRIMARY KEY)")
            owner.execute("INSERT INTO kept VALUES (1)")
            run_lines(backup, environment, tmp_path)
            owner.execute("INSERT INTO kept VALUES (2)")
            owner.execute("CREATE TABLE later ()")
        run_lines(without_dump(backup) + restore, environment, tmp_path)
        with psycopg.connect(url, autocommit=True) as owner:
            assert owner.execute("SELECT n FROM kept").fetchall() == [(1,)]
            assert owner.execute("SELECT to_regclass('later')").fetchone() == (None,)
            kept = owner.execute("SELECT n FROM before_restore.kept ORDER BY n").fetchall()
            assert kept == [(1,), (2,)]
