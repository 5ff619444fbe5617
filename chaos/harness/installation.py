"""An installation under test: `bin/up` with its own home and port, and access to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import psycopg

from chaos.harness.processes import processes_with
from ginkgo_site.env import CHECKOUT, embedded_admin_url, embedded_url
from ginkgo_site.launcher.instance_lock import OWNER_ENV

T = TypeVar("T")

#: Time limit for events that have no budget in the design: a busy machine needs many times what a
#: quiet one does. Events with a budget are given `budget_s`.
SLOW_MACHINE_S = 120.0


def budget_s(seconds: float) -> float:
    """Return how long to wait for an event that the design gives `seconds`: twice that, and longer
    while more processes want to run than there are processors."""
    return 2 * seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def is_starved() -> bool:
    """Return whether over twice as many processes want to run as there are processors.
    Then any may wait for seconds, and a heartbeat for longer than a short lease."""
    return os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


def wait_for(
    read: Callable[[], T], holds: Callable[[T], object], what: str, limit_s: float = SLOW_MACHINE_S
) -> tuple[T, float]:
    """Poll `read` until `holds` is true of its value. Return the value and the elapsed seconds.

    Fail after `limit_s`, naming the expectation and the last value.
    """
    began = time.monotonic()
    while True:
        found = read()
        took_s = time.monotonic() - began
        if holds(found):
            return found, took_s
        assert took_s < limit_s, f"not within {took_s:.1f} s: {what}; found: {found!r}"
        # The longer the wait, the less precision it needs: polls load the installation under test.
        time.sleep(min(0.03 + took_s / 20, 0.25))


def eventually(
    read: Callable[[], T], limit_s: float = SLOW_MACHINE_S, what: str = "a true value"
) -> T:
    """Poll `read` until it returns a true value, and return that. Fail after `limit_s`."""
    return wait_for(read, bool, what, limit_s)[0]


class ApiResponse:
    """A response of the API to a request, such as `GET /api/nodes/`."""

    def __init__(self, request: str, status: int, body: bytes) -> None:
        self.request = request
        self.status = status
        self.text = body.decode()

    def must_be(self, *statuses: int) -> ApiResponse:
        """Return this response. Raise AssertionError if its status is none of these."""
        wanted = " or ".join(map(str, statuses))
        assert self.status in statuses, f"{self.request}: {self.status}, not {wanted}: {self.text}"
        return self

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.text)


class Installation:
    """One `bin/up`: start it, query it, find its processes, stop it."""

    #: Python's arguments that start the launcher.
    LAUNCHER: tuple[str, ...] = ("-m", "ginkgo_site.launcher")

    def __init__(self, home: Path, *options: str, **environment: str) -> None:
        self.home = home
        self._options = options
        self._environment = environment
        self.process: subprocess.Popen[str] | None = None

    def environment(self) -> dict[str, str]:
        """Return the environment of the installation's processes and of `manage.py` commands."""
        kept = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
        return {**kept, **self._environment, "GINKGO_HOME": str(self.home)}

    def spawn(self, argv: Sequence[str], log: str, **environment: str) -> subprocess.Popen[str]:
        """Start a process with these further variables. Its output goes to `log` in the home."""
        with open(self.home / log, "a", encoding="utf-8") as output:
            return subprocess.Popen(
                argv,
                cwd=CHECKOUT,
                env={**self.environment(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # a Ctrl-C at the terminal must reach only the tests
            )

    def launch(self) -> None:
        """Start the launcher without waiting."""
        argv = [sys.executable, *self.LAUNCHER, "--port", "0", *self._options]
        self.process = self.spawn(argv, "up.txt")

    def start(self, limit_s: float = 3 * SLOW_MACHINE_S) -> float:
        """Start, wait until ready, and return the elapsed seconds."""
        began = time.monotonic()
        (self.home / "access.json").unlink(missing_ok=True)  # left by a killed launcher
        self.launch()

        def is_ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"the launcher has ended: {self.output()}"
            return (self.home / "access.json").exists()

        eventually(is_ready, limit_s, "access.json")
        return time.monotonic() - began

    def output(self) -> str:
        """Return what the launcher has printed so far."""
        return (self.home / "up.txt").read_text(encoding="utf-8")

    def log(self, name: str) -> str:
        """Return the log of one process of the installation: `log("web")`."""
        return (self.home / "logs" / f"{name}.log").read_text(encoding="utf-8")

    def stop(self, limit_s: float = 2 * SLOW_MACHINE_S) -> int:
        """Stop in order, as Ctrl-C does. Return the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(limit_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the launcher with kill -9."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def access(self) -> dict[str, str]:
        """Content of access.json."""
        found: dict[str, str] = json.loads((self.home / "access.json").read_text())
        return found

    def call(self, method: str, path: str, body: Any = None) -> ApiResponse:
        """Send an API request as the operator: `call("POST", "/api/portfolios/x/stop/", {})`.
        A body of bytes is sent as it is, any other as JSON."""
        is_raw = isinstance(body, bytes)
        request = urllib.request.Request(
            self.access["url"] + path,
            method=method,
            data=body if is_raw or body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.access['token']}",
                "Content-Type": "application/octet-stream" if is_raw else "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=SLOW_MACHINE_S) as answer:
                return ApiResponse(f"{method} {path}", answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return ApiResponse(f"{method} {path}", error.code, error.read())

    def get(self, path: str) -> Any:
        """Return the body of a GET, which must succeed."""
        return self.call("GET", path).must_be(200).json

    def manage(self, *arguments: str, check: bool = True) -> Any:
        """Run `manage.py … --json`. Return the decoded output, None if nothing was printed.
        Raise AssertionError if the command fails, unless `check` is False."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments, "--json"],
            cwd=CHECKOUT,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    @property
    def database_url(self) -> str:
        """The address of the installation's database, as Ginkgo uses it."""
        return self._environment.get("DATABASE_URL") or embedded_url(self.home)

    @property
    def admin_url(self) -> str:
        """The address of the installation's database; as superuser, if the server is embedded."""
        return self._environment.get("DATABASE_URL") or embedded_admin_url(self.home)

    def query(self, sql: str, *parameters: object) -> list[tuple]:
        """Return the rows of one statement, run over `admin_url`."""
        with psycopg.connect(self.admin_url, autocommit=True) as db:
            return db.execute(sql, parameters).fetchall()

    def processes(self) -> list[psutil.Process]:
        """All running processes of this installation except PostgreSQL."""
        return processes_with(OWNER_ENV, str(self.home))

    def process_of(self, *words: str) -> psutil.Process:
        """The oldest process with all of `words` on its command line: `process_of("node-2")`.
        Raise AssertionError if there is none."""
        matching = [p for p in self.processes() if all(word in p.cmdline() for word in words)]
        assert matching, f"no running process has {words} on its command line"
        return min(matching, key=lambda p: p.create_time())

    def node_process(self, name: str) -> psutil.Process:
        """The daemon of one demo node."""
        return self.process_of("scheduling.node_daemon", name)


def make_home(prefix: str) -> Path:
    """Return a new home directory that the database's user can reach."""
    home = Path(tempfile.mkdtemp(prefix=prefix))
    home.chmod(0o755)
    return home


@contextmanager
def temporary_home() -> Iterator[Path]:
    """Yield a new home directory, and delete it afterwards unless GINKGO_KEEP_HOMES is set."""
    home = make_home("ginkgo-installation-")
    try:
        yield home
    finally:
        if os.environ.get("GINKGO_KEEP_HOMES"):
            print(f"kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
