"""The embedded server through stops, kills and stale files."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from chaos.harness.installation import budget_s
from ginkgo_site.env import CHECKOUT, embedded_url
from ginkgo_site.launcher.errors import StartupError
from ginkgo_site.launcher.postgres import POSTGRES_UID, EmbeddedPostgres, accounts, roles
from portfolios.runtime.unprivileged import STRATEGY_UID


@pytest.fixture
def home() -> Iterator[Path]:
    with a_home() as folder:
        yield folder


@contextmanager
def a_home() -> Iterator[Path]:
    # Not tmp_path: as root the server is another user, who must get there.
    folder = Path(tempfile.mkdtemp(prefix="ginkgo-pg-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def used_home() -> Iterator[Path]:
    """Return a home with data and a very long path, for those who leave it as sound as it is."""
    with a_home() as folder:
        server = started(folder / ("a" * 60) / ("b" * 60))
        server.stop()
        yield server.home
        shutil.rmtree(Path(server.url.partition("host=")[2]))


def started(home: Path) -> EmbeddedPostgres:
    return start(EmbeddedPostgres(home))


def start(server: EmbeddedPostgres) -> EmbeddedPostgres:
    server.start()
    server.wait_until_ready()
    return server


def launched(home: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Return a process whose server runs, and the server's URL."""
    program = ["-m", "ginkgo_site.launcher.postgres", "--home", str(home)]
    owner = subprocess.Popen([sys.executable, *program], cwd=CHECKOUT, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    return owner, owner.stdout.readline().decode().strip().removeprefix("DATABASE_URL=")


def query(url: str, sql: str) -> object:
    with psycopg.connect(url, autocommit=True) as db:
        row = db.execute(sql).fetchone()
    return row[0] if row else None


def test_the_server_starts_is_found_by_its_home_and_keeps_its_rows(home: Path) -> None:
    modes = [stat.S_IMODE(folder.stat().st_mode) for folder in (home, home.parent)]
    server = started(home)
    # Permissions of folders above the data are not widened.
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (home, home.parent)] == modes
    assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700
    assert embedded_url(home) == server.url
    with psycopg.connect(server.url, autocommit=True) as db:
        db.execute("CREATE TABLE kept (n int)")
        db.execute("INSERT INTO kept VALUES (7)")
    assert query(server.url, "SHOW fsync") == "on"
    assert query(server.url, "SHOW synchronous_commit") == "on"
    assert query(server.url, "SHOW listen_addresses") == ""
    server.stop()
    again = started(home)
    assert query(again.url, "SELECT n FROM kept") == 7
    again.stop()


def test_the_server_comes_back_after_kill_9(used_home: Path) -> None:
    server = started(used_home)
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    start(server)
    assert query(server.url, "SELECT 1") == 1
    server.stop()


def test_the_server_ends_with_its_killed_launcher_and_the_next_start_waits_for_its_end(
    used_home: Path,
) -> None:
    owner, url = launched(used_home)
    session = psycopg.connect(url, autocommit=True)
    owner.kill()
    owner.wait()
    server = started(used_home)
    assert query(server.url, "SELECT 1") == 1
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    server.stop()


def test_server_starts_despite_a_lock_file_with_the_pid_of_another_program(used_home: Path) -> None:
    server = started(used_home)
    lock = (server.data / "postmaster.pid").read_text().splitlines()
    server.stop()
    lock[0] = str(os.getpid())
    (server.data / "postmaster.pid").write_text("\n".join(lock) + "\n")
    again = started(used_home)
    assert query(again.url, "SELECT 1") == 1
    again.stop()


def test_a_server_that_cannot_start_says_why(used_home: Path) -> None:
    server = EmbeddedPostgres(used_home)
    settings = server.data / "postgresql.auto.conf"
    sound = settings.read_text()
    settings.write_text("work_mem = nonsense\n")
    with pytest.raises(StartupError, match="PostgreSQL did not start"):
        start(server)
    settings.write_text(sound)


def test_a_home_with_a_very_long_path_still_gets_a_socket(used_home: Path) -> None:
    server = started(used_home)
    assert len(str(used_home)) > 120 > len(server.url)
    assert query(server.url, "SELECT 1") == 1
    server.stop()


AS_ROOT = os.geteuid() == 0
AS_ROOT_ONLY = pytest.mark.skipif(not AS_ROOT, reason="only root hands the server to another user")


def as_user(uid: int, url: str) -> str:
    """Return what a process of this user hears when it connects, or OK."""
    program = (
        "import os, sys, socket\n"
        "os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))\n"
        "try:\n"
        "    socket.socket(socket.AF_UNIX).connect(sys.argv[1]); print('OK')\n"
        "except OSError as error: print(type(error).__name__)\n"
    )
    path = url.partition("host=")[2] + "/.s.PGSQL.5432"
    done = subprocess.run(
        [sys.executable, "-c", program, path, str(uid)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_database_user_of_ginkgo_is_owner_and_no_superuser(used_home: Path) -> None:
    server = started(used_home)
    assert query(server.url, "SELECT current_user") == "ginkgo"
    assert query(server.url, "SELECT rolsuper FROM pg_roles WHERE rolname = 'ginkgo'") is False
    owner = "SELECT datdba::regrole::text FROM pg_database WHERE datname = 'ginkgo'"
    assert query(server.url, owner) == "ginkgo"
    assert query(server.admin_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(server.url, "SELECT pg_read_file('/etc/hostname')")
    assert stat.S_IMODE((used_home / "database.url").stat().st_mode) == 0o600
    assert stat.S_IMODE((used_home / "logs").stat().st_mode) == 0o700
    server.stop()


@AS_ROOT_ONLY
def test_the_socket_is_closed_to_other_users_of_the_machine(used_home: Path) -> None:
    server = started(used_home)
    assert server.process is not None
    assert psutil.Process(server.process.pid).uids().real == POSTGRES_UID
    for uid in (STRATEGY_UID, 65534):
        assert as_user(uid, server.url) == "PermissionError"
    assert "nobody" not in (server.data / "pg_ident.conf").read_text()
    server.stop()


def test_a_home_of_an_earlier_release_is_changed_at_its_next_start(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(roles, "SUPERUSER", "ginkgo")
        earlier.setattr(accounts, "POSTGRES_UID", 65534 if AS_ROOT else POSTGRES_UID)
        server = started(home)
        assert query(server.url, "SELECT rolsuper FROM pg_roles WHERE rolname = 'ginkgo'")
        with psycopg.connect(server.url, autocommit=True) as db:
            db.execute("CREATE TABLE kept (id bigint GENERATED BY DEFAULT AS IDENTITY, n int)")
            db.execute("CREATE TABLE parts (n int) PARTITION BY RANGE (n)")
            db.execute("CREATE TABLE part PARTITION OF parts DEFAULT")
            db.execute("CREATE SEQUENCE alone")
            db.execute("CREATE VIEW seen AS SELECT n FROM kept")
            db.execute("CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'")
            db.execute("INSERT INTO kept (n) VALUES (7)")
        server.stop()
    for _ in range(2):
        server = started(home)
        assert query(server.url, "SELECT n FROM kept") == 7
        assert not query(server.url, "SELECT rolsuper FROM pg_roles WHERE rolname = 'ginkgo'")
        left = query(
            server.admin_url,
            "SELECT string_agg(relname, ' ') FROM pg_class"
            " WHERE relowner <> 'ginkgo'::regrole AND relnamespace = 'public'::regnamespace",
        )
        assert left is None
        role_names = (
            "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'"
        )
        assert query(server.admin_url, role_names) == "ginkgo postgres"
        with psycopg.connect(server.url, autocommit=True) as db:
            db.execute("ALTER TABLE kept ADD COLUMN IF NOT EXISTS more int")
            db.execute("CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 2'")
            db.execute("CREATE TABLE IF NOT EXISTS new (n int)")
        server.stop()
    if AS_ROOT:
        assert server.data.stat().st_uid == POSTGRES_UID


@AS_ROOT_ONLY
def test_data_is_kept_elsewhere_with_a_note_if_the_user_of_the_server_cannot_reach_the_home(
    home: Path,
) -> None:
    home.chmod(0o700)
    server = started(home)
    (note,) = server.notes
    assert f"cannot reach {home}: its data is kept in /var/lib/ginkgo/" in note
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert query(embedded_url(home), "SELECT 1") == 1
    server.stop()
    shutil.rmtree(server.data.parent)


def test_ctrl_c_stops_the_server_cleanly(used_home: Path) -> None:
    owner, _ = launched(used_home)
    began = time.monotonic()
    owner.send_signal(signal.SIGINT)
    owner.wait(120)
    assert time.monotonic() - began < budget_s(15)
    assert not (used_home / "postgres" / "data" / "postmaster.pid").exists()
