"""Two real PostgreSQL servers: a primary and its streaming standby."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from ginkgo_site.launcher.spawn import Account, spawn
from tests.support.documented_commands import postgres_programs

#: The standby's application name, for `synchronous_standby_names`.
STANDBY = "standby"
PASSWORD = "for-tests"

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 32MB
max_connections = 60
wal_level = replica
max_wal_senders = 4
log_min_messages = warning
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 500ms
"""
ACCESS = """
host all postgres 127.0.0.1/32 trust
host replication postgres 127.0.0.1/32 trust
host all ginkgo 127.0.0.1/32 scram-sha-256
"""


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server. As root it runs as `nobody`, since PostgreSQL refuses to run as root."""

    def __init__(self, folder: Path, name: str) -> None:
        self.data = folder / name
        self.port = free_port()
        self._folder = folder
        nobody = pwd.getpwnam("nobody")
        self._account = Account(nobody.pw_uid, nobody.pw_gid) if os.geteuid() == 0 else None
        self._programs = _reachable_programs(folder)
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, and wait for it."""
        done = self._spawn(program, *arguments)
        assert done.wait(60) == 0, (self._folder / "log").read_text()

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self._folder / "log", "ab") as log:
            return spawn(
                [str(self._programs / program), *arguments],
                environment={"LC_ALL": "C", "HOME": str(self._folder), "PATH": os.environ["PATH"]},
                output=log,
                folder=self._folder,
                account=self._account,
                death_signal=signal.SIGKILL,
            )

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self._process = self._spawn("postgres", "-D", str(self.data), "-p", str(self.port))
        deadline = time.monotonic() + 60
        while not self.answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.05)

    def answers(self) -> bool:
        """Return whether it accepts a superuser session."""
        with suppress(psycopg.OperationalError), self.session():
            return True
        return False

    def session(self, database: str = "postgres") -> psycopg.Connection:
        """Return a superuser's session."""
        return psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=postgres dbname={database} connect_timeout=2",
            autocommit=True,
        )

    def execute(self, *statements: str) -> None:
        """Run statements as superuser."""
        with self.session() as session:
            for statement in statements:
                session.execute(statement.encode())

    def _family(self) -> list[psutil.Process]:
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        return [server, *server.children(recursive=True)]

    def freeze(self) -> None:
        """Suspend the whole server. Its sockets stay open, and the kernel accepts connections."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def promote(self) -> float:
        """Promote the standby. Return the monotonic time of its answer."""
        self.execute("SELECT pg_promote()")
        return time.monotonic()

    def kill(self) -> None:
        """Kill every process of the server, also frozen ones."""
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            for process in self._family():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait(10)


class Pair:
    """A primary and a standby with the empty database `ginkgo`, owned by an ordinary role."""

    def __init__(self, folder: Path) -> None:
        self.primary = Server(folder, "primary")
        self.standby = Server(folder, STANDBY)

    def start(self) -> None:
        """Create and start both servers, and wait until the standby streams."""
        first = self.primary
        first.run("initdb", "-D", str(first.data), "-U", "postgres", "-E", "UTF8", "--no-locale")
        with open(first.data / "postgresql.conf", "a", encoding="utf-8") as settings:
            settings.write(SETTINGS)
        (first.data / "pg_hba.conf").write_text(ACCESS, encoding="utf-8")
        first.start()
        first.execute(
            f"CREATE ROLE ginkgo LOGIN PASSWORD '{PASSWORD}' NOSUPERUSER NOCREATEDB NOCREATEROLE",
            "CREATE DATABASE ginkgo OWNER ginkgo",
        )
        self._start_standby()

    def _start_standby(self) -> None:
        port = self.primary.port
        source = f"host=127.0.0.1 port={port} user=postgres application_name={STANDBY}"
        self.standby.run(
            *("pg_basebackup", "-D", str(self.standby.data), "-R", "-X", "stream"),
            *("--checkpoint=fast", "-d", source),
        )
        self.standby.start()
        self.wait_for_replication("async")

    def renew(self) -> None:
        """After the promotion of the standby: let it be the primary, and replace the server that
        failed by a new standby."""
        self.primary.kill()
        shutil.rmtree(self.primary.data)
        self.primary, self.standby = self.standby, self.primary
        self._start_standby()

    def wait_for_replication(self, state: str) -> None:
        """Wait until the standby streams, `async` or `sync`."""
        deadline = time.monotonic() + 30
        with self.primary.session() as session:
            while session.execute("SELECT sync_state FROM pg_stat_replication").fetchall() != [
                (state,)
            ]:
                assert time.monotonic() < deadline, "the standby does not stream"
                time.sleep(0.05)

    def make_synchronous(self) -> None:
        """Let commits wait for the standby, which waits for no one after its own promotion."""
        self.primary.execute(
            f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'", "SELECT pg_reload_conf()"
        )
        self.wait_for_replication("sync")

    def stop_replication(self) -> None:
        """Disconnect the standby; the primary continues without it."""
        self.standby.execute("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        deadline = time.monotonic() + 30
        with self.primary.session() as session:
            while session.execute("SELECT 1 FROM pg_stat_replication").fetchall():
                assert time.monotonic() < deadline, "the standby still streams"
                time.sleep(0.05)

    def url(self, *ports: int) -> str:
        """Return the address of the database, by default with both servers."""
        ports = ports or (self.primary.port, self.standby.port)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql://ginkgo:{PASSWORD}@{hosts}/ginkgo"

    def end(self) -> None:
        """Kill both servers."""
        self.standby.kill()
        self.primary.kill()


@contextmanager
def postgres_pair() -> Iterator[Pair]:
    """Run both servers; kill them and delete their data afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ginkgo-pair-"))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
    pair = Pair(folder)
    try:
        pair.start()
        yield pair
    finally:
        pair.end()
        shutil.rmtree(folder, ignore_errors=True)


def _reachable_programs(folder: Path) -> Path:
    """Return the folder of the programs, or a copy that another user may execute."""
    programs = postgres_programs()
    if os.geteuid() != 0 or _nobody_may_run(programs / "postgres"):
        return programs
    package = programs.parent.parent
    copy = folder / "programs" / package.name
    if not copy.exists():
        shutil.copytree(programs.parent, copy / programs.parent.name)
        shutil.copytree(
            package.parent / f"{package.name}.libs", copy.parent / f"{package.name}.libs"
        )
    return copy / programs.parent.name / "bin"


def _nobody_may_run(program: Path) -> bool:
    tried = subprocess.run(
        [str(program), "--version"], user="nobody", group="nogroup", extra_groups=[], cwd="/",
        capture_output=True, check=False,
    )  # fmt: skip
    return tried.returncode == 0
