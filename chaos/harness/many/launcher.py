"""`bin/up` with several web processes behind HAProxy, two watchers and workers, and all servers.

python -m chaos.harness.many.launcher NUMBER --port 0 …   (NUMBER: see `main`)
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

import psycopg
from typing_extensions import override

from chaos.harness.many import servers
from chaos.harness.many.layout import PASSWORD, POSTGRES, REDIS_PORT, WEB_PORT, WEBS, Layout
from ginkgo_site.env import Environment, read_environment
from ginkgo_site.launcher.cli import Options, parse
from ginkgo_site.launcher.errors import StartupError
from ginkgo_site.launcher.instance_lock import OWNER_ENV
from ginkgo_site.launcher.launcher import Launcher
from ginkgo_site.launcher.supervised_process import Program, Service, wait_for_end
from ginkgo_site.launcher.web import web_command
from portfolios.runtime.open_files import raise_open_file_limit

SERVERS_LIMIT_S = 240.0  #: until one of the servers is ready

_ROLE = (
    f"CREATE ROLE ginkgo LOGIN PASSWORD '{PASSWORD}' NOSUPERUSER NOCREATEDB NOCREATEROLE",
    "CREATE DATABASE ginkgo OWNER ginkgo",
)


class ManyLauncher(Launcher):
    """Start and supervise the servers too, each restarted at once like a unit of systemd."""

    def __init__(self, options: Options, environment: Environment, layout: Layout) -> None:
        super().__init__(options, environment)
        self._layout = layout
        self._servers: list[Service] = []

    @override
    def _start_database(self) -> None:
        servers.prepare(self._layout)
        self._serve("etcd", servers.etcd(self._layout))
        self._serve("redis", servers.redis(self._layout))  # PostgreSQL is awaited later
        self._await(lambda: servers.answers(self._layout.front, REDIS_PORT), "Redis")
        for server in POSTGRES:
            self._serve(f"pg-{server}", servers.patroni(self._layout, server))

    @override
    def _wait_for_database(self) -> None:
        self._await(self._prepare_primary, "The primary of PostgreSQL")
        self._await(self._has_standby, "A synchronous standby of PostgreSQL")

    def _prepare_primary(self) -> bool:
        """Create role and database on the primary. Return False if there is no primary yet."""
        for server in POSTGRES:
            url = self._layout.server_url(server, "postgres")
            try:
                with psycopg.connect(url, autocommit=True) as session:
                    if session.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
                        continue
                    known = session.execute("SELECT FROM pg_roles WHERE rolname = 'ginkgo'")
                    if not known.fetchall():
                        for statement in _ROLE:
                            session.execute(statement.encode())
                    return True
            except psycopg.Error:
                continue
        return False

    def _has_standby(self) -> bool:
        synchronous = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'"
        try:
            with psycopg.connect(self._layout.admin_url) as session:
                return bool(session.execute(synchronous).fetchall())
        except psycopg.Error:
            return False

    @override
    def _start_web(self) -> None:
        for web in WEBS:
            argv = web_command(self._layout.web_host(web), WEB_PORT)
            self._web.append(
                self._start_service(f"web-{web}", servers.in_web_space(self._layout, web, argv))
            )
        self._serve(
            "haproxy", servers.haproxy(self._layout, self._address.host, self._address.port)
        )

    @override
    def _start_watcher(self) -> None:
        self._start_two(super()._start_watcher, "watcher")

    @override
    def _start_worker(self) -> None:
        self._start_two(super()._start_worker, "worker")

    def _start_two(self, start: Callable[[], None], name: str) -> None:
        """Start a service twice, and number the two."""
        start()
        start()  # each appends its service to `_pass_services`
        first, second = self._pass_services[-2:]
        first.name, second.name = f"{name}-1", f"{name}-2"

    def _serve(self, name: str, argv: list[str]) -> None:
        """Start and supervise a server, which gets none of Ginkgo's variables but OWNER_ENV.
        By that variable the processes of an installation are found."""
        environment = {
            OWNER_ENV: str(self._home),
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "LC_ALL": "C",
        }
        program = Program(argv, environment, self._logs / f"{name}.log", signal.SIGKILL)
        service = Service(name, program, self._say)
        service.start(time.monotonic())
        self._servers.append(service)

    def _await(self, is_ready: Callable[[], bool], server: str) -> None:
        """Wait until `is_ready()`. Raise StartupError about `server` after SERVERS_LIMIT_S."""
        deadline = time.monotonic() + SERVERS_LIMIT_S
        while not is_ready():
            self._raise_if_asked_to_stop()
            self._poll_services()
            if time.monotonic() > deadline:
                raise StartupError(
                    f"{server} is not ready after {SERVERS_LIMIT_S:g} s: see the logs in"
                    f" {self._logs}."
                )
            time.sleep(0.2)

    @override
    def _all_services(self) -> list[Service]:
        return [*self._servers, *super()._all_services()]

    @override
    def _stop(self, in_order: bool) -> None:
        super()._stop(in_order)
        for service in reversed(self._servers):
            service.terminate()
        wait_for_end(self._servers, 30.0 if in_order else 0.0, self._is_hurried)


def main() -> int:
    """Run the fleet until a signal.

    The first argument is the third octet of its networks (`Layout.number`); the others are those of
    `bin/up`.
    """
    number = int(sys.argv[1])
    environment = read_environment()
    raise_open_file_limit()
    layout = Layout(number, environment.home)
    return ManyLauncher(parse(sys.argv[2:]), environment, layout).run()


if __name__ == "__main__":
    sys.exit(main())
