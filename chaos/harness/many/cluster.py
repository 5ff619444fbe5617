"""The fleet `many` under test: which process serves whom, which server is the primary."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from chaos.harness.cluster import Cluster
from chaos.harness.many import network
from chaos.harness.many.layout import PATRONI_PORT, POSTGRES, WEBS, Layout
from chaos.harness.processes import kill_processes
from ginkgo_site.deadline import Connection

#: Roles, in Patroni's description of its cluster, of the standbys that it may promote.
SUCCESSOR_ROLES = ("sync_standby", "quorum_standby")


class ObserverConnection(Connection):
    """A connection of the test, which gives up a frozen primary after 3 s."""

    limit_s = 3.0


class ManyCluster(Cluster):
    """An installation of the fleet `many`."""

    def __init__(self, home: Path, *options: str, **environment: str) -> None:
        self.layout = Layout(network.free_number(), home)
        # Read by `launch`: Python's arguments that start the launcher.
        self.LAUNCHER = ("-m", "chaos.harness.many.launcher", str(self.layout.number))
        super().__init__(
            home,
            *options,
            **environment,
            DATABASE_URL=self.layout.database_url,
            REDIS_URL=self.layout.redis_url,
            GINKGO_TRUSTED_PROXIES=self.layout.front,
        )

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """Keep the networks up from before the installation starts until after it ends."""
        with network.networks(self.layout):
            yield

    @property
    def admin_url(self) -> str:
        """The address of the database as superuser."""
        return self.layout.admin_url

    def connect(self) -> psycopg.Connection[Any]:
        """Connect to the primary of this moment."""
        return ObserverConnection.connect(self.admin_url, autocommit=True)

    connect_monitor = connect

    # --- servers --------------------------------------------------------------------------------

    def is_primary(self, server: int) -> bool:
        """Whether a server answers as the primary."""
        with suppress(psycopg.Error), self.session(server) as session:
            return session.execute("SELECT pg_is_in_recovery()").fetchall() == [(False,)]
        return False

    def session(self, server: int) -> psycopg.Connection[Any]:
        """A superuser's session on one server."""
        return ObserverConnection.connect(self.layout.server_url(server), autocommit=True)

    def primary(self) -> int | None:
        """The number of the primary, None if no server answers as one."""
        return next((server for server in POSTGRES if self.is_primary(server)), None)

    def standbys(self) -> list[tuple[str, str]]:
        """(`db-2`, `sync`, `quorum` or `async`) of each standby that streams."""
        return [
            (str(name), str(state))
            for name, state in self.query(
                "SELECT application_name, sync_state FROM pg_stat_replication"
                " WHERE state = 'streaming' ORDER BY 1"
            )
        ]

    def successors(self, primary: int) -> list[str]:
        """The standbys that Patroni may promote: those that its own store lists as synchronous.

        A standby is listed there some seconds after PostgreSQL reports it as synchronous.
        """
        host = self.layout.postgres_host(primary)
        with urllib.request.urlopen(f"http://{host}:{PATRONI_PORT}/cluster", timeout=5) as answer:
            members = json.load(answer)["members"]
        return [each["name"] for each in members if each["role"] in SUCCESSOR_ROLES]

    def postgres_processes(self) -> list[psutil.Process]:
        """Every PostgreSQL, with its Patroni."""
        return [each for server in POSTGRES for each in self.server_processes(server)]

    def server_processes(self, server: int) -> list[psutil.Process]:
        """One PostgreSQL with its Patroni: everything on that host."""
        return network.processes_in(self.layout.postgres_space(server))

    # --- web processes --------------------------------------------------------------------------

    def web_process(self, web: int) -> psutil.Process:
        """The web process of this number. Raise ValueError while it is being restarted."""
        (found,) = self.processes_of("ginkgo_site.asgi:application", self.layout.web_host(web))
        return found

    def web_of(self, node: str) -> int:
        """The number of the web process that holds the socket of a node; 0 for none."""
        ((pid,),) = self.query(
            "SELECT g.pid FROM scheduling_node n JOIN scheduling_lease l ON l.node_id = n.id"
            " LEFT JOIN scheduling_gateway g ON g.id = l.socket_gateway_id"
            " AND l.connection IS NOT NULL WHERE n.name = %s",
            node,
        )
        return next((web for web, web_pid in self._web_pids().items() if web_pid == pid), 0)

    def _web_pids(self) -> dict[int, int]:
        """Return number → pid of the web processes, without those that are being restarted."""
        found = {}
        for web in WEBS:
            with suppress(ValueError):
                found[web] = self.web_process(web).pid
        return found

    def serving_webs(self) -> set[int]:
        """Numbers of the web processes whose pulse is younger than 3 s."""
        pids = {
            pid
            for (pid,) in self.query(
                "SELECT pid FROM scheduling_gateway WHERE left_at IS NULL"
                " AND pulsed_at > clock_timestamp() - interval '3 s'"
            )
        }
        return {web for web, pid in self._web_pids().items() if pid in pids}

    def kill_everything(self) -> None:
        """Kill every process, those of the PostgreSQL servers last."""
        super().kill_everything()
        everything = self.postgres_processes()
        kill_processes(everything)
        psutil.wait_procs(everything, timeout=10)
