"""Two real PostgreSQL servers: a primary and its streaming standby."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from chaos.harness.installation import eventually
from chaos.harness.processes import kill_processes, process_tree
from ginkgo_site.launcher.address import free_address
from ginkgo_site.launcher.postgres.programs import reachable_binaries
from ginkgo_site.launcher.spawn import Account, spawn

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


class Server:
    """A server. As root it runs as `nobody`, since PostgreSQL refuses to run as root."""

    def __init__(self, folder: Path, name: str) -> None:
        self.data = folder / name
        self.port = free_address("127.0.0.1", 0).port
        self._folder = folder
        nobody = pwd.getpwnam("nobody")
        self._account = Account(nobody.pw_uid, nobody.pw_gid) if os.geteuid() == 0 else None
        self._programs = reachable_binaries(self.data, self._account)
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs. Raise AssertionError if it fails within 60 s."""
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
        """Return whether the server accepts a superuser session."""
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
        return process_tree(psutil.Process(self._process.pid))

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
            kill_processes(self._family())
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
        source = f"host=127.0.0.1 port={self.primary.port} user=postgres application_name={STANDBY}"
        self.standby.run(
            *("pg_basebackup", "-D", str(self.standby.data), "-R", "-X", "stream"),
            *("--checkpoint=fast", "-d", source),
        )
        self.standby.start()
        self.wait_for_replication("async")

    def renew(self) -> None:
        """After a promotion: let `primary` name the promoted server, and make a new standby."""
        self.primary.kill()
        shutil.rmtree(self.primary.data)
        self.primary, self.standby = self.standby, self.primary
        self._start_standby()

    def wait_for_replication(self, *states: str) -> None:
        """Wait until the standby streams, `async` or `sync`; without a state until it does not."""
        found = "SELECT sync_state FROM pg_stat_replication"
        wanted = [(state,) for state in states]
        with self.primary.session() as session:
            eventually(
                lambda: session.execute(found).fetchall() == wanted, 30, f"replication {wanted}"
            )

    def make_synchronous(self) -> None:
        """Let commits wait for the standby, which waits for no one after its own promotion."""
        self.primary.execute(
            f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'", "SELECT pg_reload_conf()"
        )
        self.wait_for_replication("sync")

    def stop_replication(self) -> None:
        """Disconnect the standby; the primary continues without it."""
        self.standby.execute("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        self.wait_for_replication()

    def url(self, *ports: int) -> str:
        """Return the address of the database, by default with both servers."""
        ports = ports or (self.primary.port, self.standby.port)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql://ginkgo:{PASSWORD}@{hosts}/ginkgo"

    def end(self) -> None:
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
