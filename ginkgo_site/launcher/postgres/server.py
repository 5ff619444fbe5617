"""The embedded PostgreSQL: real server binaries from a wheel, kept under GINKGO_HOME.

The package's own server helper is not used: it makes every parent folder world-accessible, creates
an operating system user and shares one lock file in /tmp.

The server listens on a socket in a folder that only its user and root can enter, and accepts only
the operating system user who started it: as `ginkgo`, which owns the database and is not a
superuser, or as `postgres`, which is. Strategies run as neither of these users.

Installations of earlier releases, where `nobody` owned the data and `ginkgo` was the superuser, are
converted at their next start.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from ginkgo_site.env import EMBEDDED_URL_FILE
from ginkgo_site.launcher.errors import StartupError
from ginkgo_site.launcher.logfiles import append_to, last_error, last_line
from ginkgo_site.launcher.postgres import accounts, roles
from ginkgo_site.launcher.postgres.accounts import (
    account_for,
    can_enter,
    give_away,
    make_private_folder,
    with_a_name,
)
from ginkgo_site.launcher.postgres.leftover import wait_out_old_server
from ginkgo_site.launcher.postgres.programs import ELSEWHERE, reachable_binaries
from ginkgo_site.launcher.spawn import Account, name_of, spawn

_START_LIMIT_S = 180  #: crash recovery after a busy hour takes seconds, on a slow machine minutes
#: sockaddr_un holds 107 characters, PostgreSQL appends "/.s.PGSQL.5432.lock".
_SOCKET_FOLDER_MAX = 85

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "jit": "off",
}


class EmbeddedPostgres:
    """The server of one home. Call `start`, `wait_until_ready` and finally `stop`.

    `notes` holds sentences to print, such as where the data is and why.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.notes: list[str] = []  #: sentences for the user who starts it
        self._log = home / "logs" / "postgres.log"
        self._account = account_for(home / "postgres")  #: runs the server; None: the present user
        self._base = home / "postgres"  #: holds the data; `locate` may choose another folder
        self._binaries = Path()
        self._socket_folder = Path()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The libpq URL of the `ginkgo` database. Known after `prepare`."""
        return self._url("ginkgo")

    @property
    def admin_url(self) -> str:
        """The libpq URL of that database for its superuser: for maintenance only."""
        return self._url("ginkgo", roles.SUPERUSER)

    @property
    def data(self) -> Path:
        """The data directory. Known after `prepare`."""
        return self._base / "data"

    def locate(self) -> Path:
        """Find the folder for data and socket, and return it."""
        self.home.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._base = self._reachable_base()
        return self._base

    def prepare(self) -> None:
        """Wait for an old server to exit, and create what a server of this home needs to start.

        Record the URL by which other processes of this home find the database. Costs 0.6 s the
        first time and milliseconds afterwards.
        """
        self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.locate()
        wait_out_old_server(self.data)
        self._take_over_old_data()
        make_private_folder(self._base, self._account)
        self._binaries = reachable_binaries(self.data, self._account)
        self._socket_folder = self._make_socket_folder()
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        self._write_access_rules()
        self._record_url()

    def start(self) -> subprocess.Popen[bytes]:
        """Prepare and start the server process; return it. It is not ready yet."""
        self.prepare()
        argv = [str(self._binaries / "postgres"), "-D", str(self.data)]
        sockets = {"unix_socket_directories": str(self._socket_folder)}
        for name, value in (SETTINGS | sockets).items():
            argv += ["-c", f"{name}={value}"]
        # A fast shutdown: it ends its sessions and leaves nothing to recover.
        self.process = self._spawn(argv, self._account, death_signal=signal.SIGINT)
        return self.process

    def wait_until_ready(
        self, limit_s: float = _START_LIMIT_S, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Return when the `ginkgo` database answers; `meanwhile` is called between tries.

        Raises `StartupError` with the log's last error when the server ends or does not answer.
        """
        deadline = time.monotonic() + limit_s
        while True:
            try:
                roles.create_database(self._connect)
                roles.take_ownership(self._connect)
                break
            except psycopg.OperationalError as error:
                if self.process is not None and self.process.poll() is not None:
                    raise StartupError(
                        f"PostgreSQL did not start: {last_error(self._log)} (log: {self._log})"
                    ) from error
                if time.monotonic() > deadline:
                    raise StartupError(
                        f"PostgreSQL did not answer within {limit_s:g} s: "
                        f"{last_line(self._log)} (log: {self._log})"
                    ) from error
                meanwhile()
                time.sleep(0.03)

    def stop(self, limit_s: float = 20, hurry: Callable[[], bool] = lambda: False) -> None:
        """End the server by a fast shutdown, which ends its sessions.

        After `limit_s`, or once `hurry()` is true, by an immediate one; 5 s later by SIGKILL.
        """
        if self.process is None:
            return
        for sign, patience_s in (signal.SIGINT, limit_s), (signal.SIGQUIT, 5), (signal.SIGKILL, 5):
            if self.process.poll() is None:
                self.process.send_signal(sign)
            deadline = time.monotonic() + patience_s
            while self.process.poll() is None and time.monotonic() < deadline:
                if sign == signal.SIGINT and hurry():
                    break
                time.sleep(0.02)

    # --- folders ---------------------------------------------------------------------

    def _reachable_base(self) -> Path:
        """Return the folder for data and socket: one elsewhere if its owner cannot enter the home.

        Raise StartupError if another user owns the data and this process may not become that user.
        """
        base = self.home / "postgres"
        if self._account is None:
            if base.exists() and base.stat().st_uid != os.geteuid():
                owner = name_of(base.stat().st_uid)
                # Starts as root give the data to POSTGRES_UID, and in earlier releases to `nobody`.
                is_of_root = owner in ("nobody", str(accounts.POSTGRES_UID))
                raise StartupError(
                    f"The data in {base} belongs to user {owner}: start as "
                    f"{'root' if is_of_root else 'that user'}, or choose another folder with "
                    "GINKGO_HOME."
                )
            return base
        base.mkdir(mode=0o700, exist_ok=True)
        if can_enter(self.home, self._account):
            return base
        mark = hashlib.sha256(str(self.home.resolve()).encode()).hexdigest()[:12]
        elsewhere = ELSEWHERE / mark
        ELSEWHERE.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.notes.append(
            f"PostgreSQL runs as user {self._account.name}, who cannot reach {self.home}: "
            f"its data is kept in {elsewhere}."
        )
        return elsewhere

    def _make_socket_folder(self) -> Path:
        """Create the folder of the socket, in /tmp if its path would be too long for a socket."""
        folder = self._base / "socket"
        if len(str(folder)) > _SOCKET_FOLDER_MAX:
            mark = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
            folder = Path(tempfile.gettempdir()) / f"ginkgo-{os.geteuid()}-{mark}"
        make_private_folder(folder, self._account)
        return folder

    # --- creation ----------------------------------------------------------------------------

    def _initdb(self) -> None:
        """Make the data directory as a draft, renamed when done: a half-made one is never used."""
        draft = self._base / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        argv = [str(self._binaries / "initdb"), "-D", str(draft)]
        argv += ["-U", roles.SUPERUSER, "-E", "UTF8"]
        argv += ["--no-locale", "--auth-local=peer", "--auth-host=reject", "--no-instructions"]
        # initdb asks for the name of its user, which must have one.
        maker = with_a_name(self._account)
        if maker is not None:
            os.chown(self._base, maker.uid, maker.gid)
        done = self._spawn(argv, maker, death_signal=signal.SIGKILL).wait()
        if self._account is not None:
            give_away(self._base, self._account)
        if done != 0:
            raise StartupError(
                f"PostgreSQL could not make its data folder {draft}: {last_error(self._log)} "
                f"(log: {self._log})"
            )
        draft.rename(self.data)

    def _write_access_rules(self) -> None:
        """Write pg_hba.conf and pg_ident.conf.

        The server accepts connections only through its socket: from the user who runs the launcher,
        and if that is root, also from the person who owns the data, if any.
        """
        people = {name_of(os.geteuid())}
        # An account other than POSTGRES_UID is a person, who may also start Ginkgo without root.
        if self._account is not None and self._account.uid != accounts.POSTGRES_UID:
            people.add(self._account.name)
        rules = "local all all peer map=ginkgo\n"
        accepted = (roles.OWNER, roles.SUPERUSER, roles.UPGRADER)
        names = "".join(f"ginkgo {name} {role}\n" for name in sorted(people) for role in accepted)
        (self.data / "pg_hba.conf").write_text(rules, encoding="ascii")
        (self.data / "pg_ident.conf").write_text(names, encoding="utf-8")

    def _connect(self, database: str, role: str) -> psycopg.Connection:
        return psycopg.connect(self._url(database, role), autocommit=True, connect_timeout=20)

    def _record_url(self) -> None:
        target = self.home / EMBEDDED_URL_FILE
        draft = target.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.chmod(0o600)
        draft.write_text(self.url + "\n", encoding="utf-8")
        draft.replace(target)

    def _url(self, database: str, role: str = roles.OWNER) -> str:
        return f"postgresql://{role}@/{database}?host={self._socket_folder}"

    # --- an older home ------------------------------------------------------------------------

    def _take_over_old_data(self) -> None:
        """Give the data of another user, such as `nobody` in earlier releases, to POSTGRES_UID."""
        if self._account is None or self._account.uid != accounts.POSTGRES_UID:
            return
        if self._base.exists() and self._base.stat().st_uid not in (0, accounts.POSTGRES_UID):
            give_away(self._base, self._account)

    def _spawn(
        self, argv: list[str], account: Account | None, death_signal: signal.Signals
    ) -> subprocess.Popen[bytes]:
        """Start a program of PostgreSQL that appends to the log."""
        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "TMPDIR", "TZ"}}
        with append_to(self._log) as output:
            return spawn(
                argv,
                environment=kept | {"LC_ALL": "C", "HOME": str(self._base)},
                output=output,
                folder=self._base,
                account=account,
                death_signal=death_signal,
            )
