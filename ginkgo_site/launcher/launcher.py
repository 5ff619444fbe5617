"""`bin/up`: start an installation, supervise it, stop it.

lock → kill orphans → PostgreSQL, bootstrap → web, watcher, worker, nodes → ready → watch → stop
"""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from ginkgo_site.env import CHECKOUT, Environment
from ginkgo_site.launcher import logfiles
from ginkgo_site.launcher.address import Address, free_address, is_loopback
from ginkgo_site.launcher.bootstrap_process import BootstrapProcess
from ginkgo_site.launcher.cli import Options
from ginkgo_site.launcher.command_link import link_command
from ginkgo_site.launcher.errors import StartupError
from ginkgo_site.launcher.instance_lock import OWNER_ENV, InstanceLock, kill_orphans
from ginkgo_site.launcher.postgres import EmbeddedPostgres
from ginkgo_site.launcher.readiness import Readiness
from ginkgo_site.launcher.state_files import delete_data, write_private
from ginkgo_site.launcher.supervised_process import Program, Service, wait_for_end
from ginkgo_site.launcher.web import web_command
from portfolios.runtime.environment import HIDES_VARIABLE

#: The longest time without progress during a start: a migration applied, a node registered, a
#: portfolio committed. A limit on the whole start would depend on the speed of the machine.
READY_LIMIT_S = 120
MIGRATION_LIMIT_S = 3600  #: the same while migrating: a migration may rewrite a large table
_LOOK_EVERY_S = 0.05
_ASK_EVERY_S = 0.2
_NODE_CAPACITY = 5
_LONE_NODE_CAPACITY = 10

# Limits for a busy machine. A quiet one needs 0.2 s for nodes, 0.8 s for passes, 0.2 s for web
# and 2 s for the freeze. A second Ctrl-C stops at once.
_NODE_STOP_LIMIT_S = 45.0  #: 8 s of handing off, then releasing in place
_PASS_STOP_LIMIT_S = 30.0
_WEB_STOP_LIMIT_S = 30.0  #: uvicorn's own limit is 10 s
_FREEZE_LIMIT_S = 45.0

#: Variables of the control plane. Addresses may hold passwords.
_NOT_FOR_NODES = {
    *("DATABASE_URL", "REDIS_URL", "GINKGO_SECRET_KEY", "GINKGO_ENCRYPTION_KEYS"),
    *("GINKGO_ALERT_URL", "GINKGO_NATS_URL", "GINKGO_NATS_URL_FILE", "DJANGO_SETTINGS_MODULE"),
}


class ShutdownRequested(Exception):
    """Raised when a signal arrives before everything has started."""


class Launcher:
    """Start, supervise and stop all processes of one GINKGO_HOME."""

    def __init__(self, options: Options, environment: Environment) -> None:
        self._options = options
        self._env = environment
        self._home = environment.home
        self._logs = self._home / "logs"
        self._lock = InstanceLock(self._home)
        self._address = Address(options.host, options.port)
        self._postgres: EmbeddedPostgres | None = None
        self._database: Service | None = None
        self._bootstrap: BootstrapProcess | None = None
        self._web: list[Service] = []
        self._pass_services: list[Service] = []  #: watcher and worker
        self._nodes: list[Service] = []
        self._asked_to_stop = 0  #: number of requests to stop
        self._began = time.monotonic()
        #: (reports of the bootstrap, minus the number of missing things): progress raises it.
        self._progress: tuple[int, int] | None = None
        self._progressed_at = self._began
        self._readiness = Readiness(environment.database_url)
        self._logs_measured_at = 0.0

    def run(self) -> int:
        """Start, supervise and stop; return the exit code. No child process is left behind."""
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sign, self._on_signal)
        try:
            self._start()
            self._watch()
        except ShutdownRequested:
            pass
        except StartupError as reason:
            self._stop(in_order=False)
            print(f"ginkgo: {reason}", file=sys.stderr, flush=True)
            return 1
        except BaseException:
            self._stop(in_order=False)
            raise
        self._stop(in_order=True)
        return 0

    # --- start --------------------------------------------------------------------------------

    def _start(self) -> None:
        self._lock.acquire()
        self._access_file.unlink(missing_ok=True)
        kill_orphans(self._home)  # before the port is checked: an orphan may hold it
        self._address = free_address(self._options.host, self._options.port)
        self._lock.note(self._address.url)
        if self._options.fresh:
            self._delete_data()
        logfiles.rotate(self._logs)
        self._start_database()
        # Before the database answers: importing Django takes as long as PostgreSQL does.
        self._bootstrap = self._start_bootstrap()
        self._wait_for_database()
        started_at = self._readiness.database_now()
        self._start_web()
        prepared = self._wait_for("prepared", "the preparation of the database")
        self._start_nodes(prepared["node_tokens"])
        self._start_watcher()
        settled = self._wait_for("settled", "the registration of the nodes")
        self._bootstrap.end()
        self._wait_until_ready(settled["portfolios"], started_at)
        self._start_worker()  # last: readiness does not need it
        self._announce(prepared["login"], self._waiting())

    def _start_bootstrap(self) -> BootstrapProcess:
        arguments = ["start", "--nodes", str(self._options.nodes)]
        if not self._options.demo:
            arguments.append("--no-demo")
        return BootstrapProcess(
            arguments, self._environment(), self._logs / "prepare.log", self._say
        )

    def _wait_for(self, report: str, what: str) -> dict[str, Any]:
        """Supervise the processes until the bootstrap sends `report`, and return it."""
        assert self._bootstrap is not None
        while (found := self._bootstrap.report(report)) is None:
            self._raise_if_asked_to_stop()
            self._poll_services()
            self._check_progress([f"{what} (log: {self._logs / 'prepare.log'})"])
        answer: dict[str, Any] = found
        return answer

    def _delete_data(self) -> None:
        if not self._env.database_is_embedded:
            raise StartupError(
                "--fresh deletes only the embedded database, but DATABASE_URL names another one: "
                "unset it, or empty that database yourself and leave out --fresh."
            )
        self._say(f"Deleting the data of earlier starts in {self._home}.")
        delete_data(self._home, EmbeddedPostgres(self._home).locate())

    def _start_database(self) -> None:
        if not self._env.database_is_embedded:
            return
        self._postgres = EmbeddedPostgres(self._home)
        self._postgres.prepare()
        self._readiness = Readiness(self._postgres.url)
        for note in self._postgres.notes:
            self._say(note)
        self._database = Service("PostgreSQL", self._postgres, self._say)
        self._database.start(time.monotonic())

    def _wait_for_database(self) -> None:
        if self._postgres is not None:
            self._postgres.wait_until_ready(meanwhile=self._raise_if_asked_to_stop)

    def _start_web(self) -> None:
        argv = web_command(self._address.host, self._address.port)
        self._web.append(self._start_service("web", argv))

    def _start_watcher(self) -> None:
        argv = [sys.executable, str(CHECKOUT / "manage.py"), "run_watcher"]
        self._pass_services.append(self._start_service("watcher", argv))

    def _start_worker(self) -> None:
        argv = [sys.executable, str(CHECKOUT / "manage.py"), "qcluster"]
        # The worker stops its forks on SIGTERM, not when it is killed.
        self._pass_services.append(self._start_service("worker", argv, death_signal=signal.SIGTERM))

    def _start_nodes(self, tokens: dict[str, str]) -> None:
        # A single node gets more capacity, since the demo would not fit otherwise.
        capacity = _NODE_CAPACITY if len(tokens) > 1 else _LONE_NODE_CAPACITY
        self._nodes = [self._node_service(name, token, capacity) for name, token in tokens.items()]
        for node in self._nodes:
            node.start(time.monotonic())

    def _node_service(self, name: str, token: str, capacity: int) -> Service:
        argv = [sys.executable, "-m", "scheduling.node_daemon", "--name", name]
        argv += ["--server", self._address.url, "--capacity", str(capacity)]
        # Not on the command line, which every user of the machine can read.
        environment = self._node_environment() | {"GINKGO_NODE_TOKEN": token}
        program = Program(argv, environment, self._logs / f"{name}.log")
        return Service(name, program, self._say, restart_after_s=self._options.node_restart_s)

    def _start_service(
        self, name: str, argv: list[str], death_signal: signal.Signals = signal.SIGKILL
    ) -> Service:
        """Start a process of the control plane. Return the service that keeps it running."""
        program = Program(argv, self._environment(), self._logs / f"{name}.log", death_signal)
        service = Service(name, program, self._say)
        service.start(time.monotonic())
        return service

    def _environment(self) -> dict[str, str]:
        """Return the environment of the control-plane processes."""
        environment = {
            **os.environ,
            OWNER_ENV: str(self._home),
            "GINKGO_HOME": str(self._home),
            "DJANGO_SETTINGS_MODULE": "ginkgo_site.settings",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
        }
        if not environment.get("GINKGO_ALLOWED_HOSTS") and not is_loopback(self._options.host):
            names = [*self._address.names, "localhost", "127.0.0.1"]
            environment["GINKGO_ALLOWED_HOSTS"] = ",".join(dict.fromkeys(names))
        return environment

    def _node_environment(self) -> dict[str, str]:
        """Return the environment of a node: without the secrets of the control plane.

        HIDES_VARIABLE names the files with such secrets; the node hides them from strategies.
        """
        given = self._environment()
        names = (HIDES_VARIABLE, "GINKGO_NATS_URL_FILE", "PGPASSFILE", "PGSERVICEFILE")
        hidden = os.pathsep.join(filter(None, map(given.get, names)))
        # libpq reads the variables that begin with PG.
        kept = {k: v for k, v in given.items() if k not in _NOT_FOR_NODES and k[:2] != "PG"}
        return kept | {HIDES_VARIABLE: hidden}

    # --- ready --------------------------------------------------------------------------------

    def _wait_until_ready(self, portfolios: list[str], since: datetime) -> None:
        while missing := self._missing(portfolios, since):
            deadline = time.monotonic() + _ASK_EVERY_S
            while time.monotonic() < deadline:
                self._raise_if_asked_to_stop()
                self._poll_services()
                time.sleep(_LOOK_EVERY_S)
            self._check_progress(missing)

    def _missing(self, portfolios: list[str], since: datetime) -> list[str]:
        """Return a phrase for each thing that a ready installation lacks yet, [] if it is ready."""
        if not self._address.answers():
            return ["the web process does not answer (log: logs/web.log)"]
        try:
            return self._readiness.missing(portfolios, since)
        except psycopg.OperationalError:
            return ["the database does not answer (log: logs/postgres.log)"]

    def _waiting(self) -> list[str]:
        """Return a sentence for each unassigned portfolio; the start does not wait for them."""
        try:
            return self._readiness.waiting()
        except psycopg.OperationalError:  # it answered a moment ago, and nothing depends on this
            return []

    def _announce(self, login: dict[str, Any], unassigned: list[str]) -> None:
        """Print a sentence for each unassigned portfolio, and how to log in; store the latter."""
        password = login["password"] or "(as you changed it)"
        for sentence in unassigned:
            self._say(sentence)
        self._say(f"Ready after {time.monotonic() - self._began:.1f} s: {self._address.url}/")
        self._say(f"Log in as {login['username']} with password {password}")
        self._say(f"Command line: {self._command()} status")
        self._say(f"Logs: {self._logs}    Stop: Ctrl-C")
        write_private(self._access_file, {"url": self._address.url, **login})

    def _command(self) -> str:
        """Return what a person types to run `ginkgo`.

        Only the installation in the checkout's own home links the command in `~/.local/bin`.
        """
        command = CHECKOUT / "bin" / "ginkgo"
        if self._home != CHECKOUT / ".ginkgo":  # a second installation, a test, a service
            return str(command)
        return link_command(command, Path.home(), os.get_exec_path())

    @property
    def _access_file(self) -> Path:
        return self._home / "access.json"

    # --- watch --------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Keep the processes running until a stop is requested."""
        self._readiness.close()  # only the start asks the database
        while not self._asked_to_stop:
            self._poll_services()
            time.sleep(_LOOK_EVERY_S)

    def _poll_services(self) -> None:
        now = time.monotonic()
        for service in self._all_services():
            service.poll(now)
        if now - self._logs_measured_at > 60:
            self._logs_measured_at = now
            logfiles.shorten(self._logs)

    def _all_services(self) -> list[Service]:
        database = [self._database] if self._database else []
        return [*database, *self._web, *self._pass_services, *self._nodes]

    # --- stop ---------------------------------------------------------------------------------

    def _stop(self, in_order: bool) -> None:
        """Stop everything; in order: freeze moves, then nodes, passes, web, PostgreSQL."""
        self._asked_to_stop = max(self._asked_to_stop, 1)
        if self._lock.is_held:
            self._access_file.unlink(missing_ok=True)
        if self._bootstrap is not None:
            self._bootstrap.end()
        if in_order and self._nodes:
            self._say("Stopping in order; Ctrl-C again stops at once.")
            # Watcher and worker of this machine end first; the freeze holds for other machines.
            for service in self._pass_services:
                service.terminate()
            self._freeze_moves_and_feed()
        for services, limit_s in (
            (self._nodes, _NODE_STOP_LIMIT_S),
            (self._pass_services, _PASS_STOP_LIMIT_S),
            (self._web, _WEB_STOP_LIMIT_S),
        ):
            for service in services:
                service.terminate()
            wait_for_end(services, limit_s if in_order else 0, self._is_hurried)
        self._readiness.close()
        if self._postgres is not None:
            self._postgres.stop(hurry=self._is_hurried)

    def _freeze_moves_and_feed(self) -> None:
        """Freeze automatic moves and the feed, so that leaving nodes cause no failover."""
        bootstrap = BootstrapProcess(
            ["stop"], self._environment(), self._logs / "prepare.log", self._say
        )
        deadline = time.monotonic() + _FREEZE_LIMIT_S
        try:
            while bootstrap.report("settled") is None:
                if time.monotonic() > deadline or self._is_hurried():
                    break
        except StartupError as reason:
            # Nodes still release their portfolios; at worst the next start begins with a failover.
            self._say(f"Moves are not frozen, so the next start may begin with failovers: {reason}")
        finally:
            bootstrap.end()

    # --- signals and messages --------------------------------------------------------------------

    def _on_signal(self, *_: object) -> None:
        self._asked_to_stop += 1

    def _is_hurried(self) -> bool:
        """Return whether a stop was requested twice: waits for orderly ends are then cut short."""
        return self._asked_to_stop > 1

    def _raise_if_asked_to_stop(self) -> None:
        if self._asked_to_stop:
            raise ShutdownRequested

    def _check_progress(self, missing: list[str]) -> None:
        """Raise `StartupError` if no report came and `missing` did not shrink for too long."""
        reported = self._bootstrap.progress if self._bootstrap is not None else 0
        progress = (reported, -len(missing))
        now = time.monotonic()
        if self._progress is None or progress > self._progress:
            self._progress, self._progressed_at = progress, now
        elif now - self._progressed_at > self._progress_limit_s:
            raise StartupError(
                f"Not ready after {now - self._began:.0f} s, and nothing progressed in the last "
                f"{self._progress_limit_s:g} s. Missing: {', '.join(missing)}. Logs: {self._logs}"
            )

    @property
    def _progress_limit_s(self) -> float:
        """The longest time that may pass without progress now."""
        run = self._bootstrap
        migrating = run is not None and run.has("migrating") and not run.has("prepared")
        return MIGRATION_LIMIT_S if migrating else READY_LIMIT_S

    def _say(self, sentence: str) -> None:
        try:
            print(sentence, flush=True)
        except OSError:
            pass  # the terminal is gone; the orderly shutdown must go on
