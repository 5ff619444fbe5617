"""An installation as it is observed: runs, handoffs, events and processes, and waits for them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from chaos.harness.installation import SLOW_MACHINE_S, Installation, wait_for

DEMO_NODES = ("node-1", "node-2", "node-3")
ENDED = {"done", "failed", "rolled_back", "superseded"}

#: Names of the pinned portfolios.
_PINNED = """
SELECT p.name FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
WHERE r.pinned_node_id IS NOT NULL AND p.archived_at IS NULL
"""
#: Nodes that take no new portfolio: name, and whether they drain.
_CLOSED = """
SELECT name, true FROM scheduling_node WHERE draining
UNION ALL SELECT name, false FROM scheduling_node WHERE cordoned
"""
_RUNS = """
SELECT p.name, n.name, r.incarnation::text, r.epoch, r.revision, r.last_seq, r.phase, r.reason,
       r.last_commit_at
FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
LEFT JOIN scheduling_node n ON n.id = r.node_id
WHERE p.archived_at IS NULL ORDER BY p.name
"""


@dataclass(frozen=True)
class ClusterRun:
    """The run of a portfolio: its owner and its progress."""

    name: str
    node: str | None
    incarnation: str | None
    epoch: int
    revision: int
    last_seq: int
    phase: str
    reason: str
    committed_at: datetime | None

    @property
    def ownership(self) -> tuple[str | None, str | None, int]:
        """Node, incarnation and epoch: they stay the same under a fault that moves no portfolio."""
        return self.node, self.incarnation, self.epoch


class ObservedInstallation(Installation):
    """An installation with methods that read its state, and that wait until it is as expected."""

    def __init__(self, home: Path, *options: str, **environment: str) -> None:
        super().__init__(home, *options, **environment)
        self._database: psycopg.Connection[Any] | None = None

    # --- read ---------------------------------------------------------------------------------

    def query(self, sql: str, *parameters: object) -> list[tuple]:
        """Return the rows of a statement, [] if it has none. All statements use one connection,
        reopened once if it was cut."""
        try:
            return self._query_once(sql, parameters)
        except psycopg.OperationalError:
            if self._database is not None:
                self._database.close()
            return self._query_once(sql, parameters)

    def _query_once(self, sql: str, parameters: tuple[object, ...]) -> list[tuple]:
        if self._database is None or self._database.closed:
            self._database = self.connect()
        cursor = self._database.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def connect(self) -> psycopg.Connection[Any]:
        """Open a session as superuser, where the server is the embedded one."""
        return psycopg.connect(self.admin_url, autocommit=True, connect_timeout=20)

    def follow_database(self, url: str) -> None:
        """Query the database at this address from now on, after the former server has failed."""
        self._environment["DATABASE_URL"] = url
        self._database = None

    def now(self) -> datetime:
        """Time by the database's clock."""
        ((now,),) = self.query("SELECT clock_timestamp()")
        return now

    def runs(self) -> dict[str, ClusterRun]:
        """Runs of all portfolios that are not deleted, by name."""
        return {row[0]: ClusterRun(*row) for row in self.query(_RUNS)}

    def run(self, name: str) -> ClusterRun:
        """The run of one portfolio."""
        return self.runs()[name]

    def portfolios_on(self, node: str) -> list[str]:
        """Names of the portfolios owned by `node`."""
        return [run.name for run in self.runs_on(node)]

    def wait_for_portfolios_on(self, node: str) -> list[str]:
        """Wait until a node is alive and owns portfolios. Return their names."""
        alive = "SELECT 1 FROM scheduling_node WHERE name = %s AND status = 'alive'"
        names, _ = wait_for(
            lambda: self.portfolios_on(node) if self.query(alive, node) else [],
            bool,
            f"portfolios on {node}",
        )
        return names

    def runs_on(self, node: str) -> list[ClusterRun]:
        """Runs of the portfolios owned by `node`."""
        return [run for run in self.runs().values() if run.node == node]

    def node(self, name: str) -> dict[str, Any]:
        """A node as the API shows it."""
        found: dict[str, Any] = self.get(f"/api/nodes/{name}/")
        return found

    def handoff(self, number: int) -> dict[str, Any]:
        """A handoff as the API shows it."""
        found: dict[str, Any] = self.get(f"/api/handoffs/{number}/")
        return found

    def events(self, kind: str, since: datetime, **filters: str) -> list[dict[str, Any]]:
        """Return the lines of this kind in the audit log since a time, at most 1,000, newest first.
        `filters` are further parameters of the API: `portfolio="ibm-sma"`."""
        wanted = "".join(f"&{key}={value}" for key, value in filters.items())
        at = since.isoformat().replace("+00:00", "Z")
        found: list[dict[str, Any]] = self.get(
            f"/api/events/?kind={kind}&since={at}&limit=1000{wanted}"
        )["results"]
        return found

    def daemon(self, node: str) -> psutil.Process:
        """The daemon process that holds the node's lease."""
        ((pid,),) = self.query("SELECT pid FROM scheduling_node WHERE name = %s", node)
        return psutil.Process(pid)

    def is_ready(self) -> bool:
        """Whether the web process and its database answer."""
        try:
            return self.call("GET", "/api/readyz").status == 200
        except OSError:
            return False

    def processes_of(self, *words: str) -> list[psutil.Process]:
        """Running processes whose command line has all of `words`."""
        found = []
        for process in self.processes():
            try:
                if all(word in process.cmdline() for word in words):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue  # it has just ended
        return found

    def open_handoffs(self) -> list[tuple[int, str, str]]:
        """Open handoffs: id, kind, state."""
        return self.query(
            "SELECT id, kind, state FROM scheduling_handoff"
            " WHERE state IN ('requested', 'preparing', 'draining', 'activating') ORDER BY id"
        )

    # --- wait ---------------------------------------------------------------------------------

    def wait_until_converged(
        self, nodes: tuple[str, ...] = DEMO_NODES, limit_s: float = SLOW_MACHINE_S
    ) -> None:
        """Wait until all nodes are alive, every portfolio commits, and the balancer plans no move.

        First undo what an earlier test may have left: pins, drains, cordons, and the record of lost
        nodes, which would delay placements on them.
        """
        self.query("UPDATE scheduling_node SET lost_times = '[]'")
        # Asked of the database, since most tests leave nothing and each request costs.
        for (name,) in self.query(_PINNED):
            self.call("POST", f"/api/portfolios/{name}/unpin/", {})
        for name, is_drained in self.query(_CLOSED):
            if name in nodes:
                end = "undrain" if is_drained else "uncordon"
                self.call("POST", f"/api/nodes/{name}/{end}/", {})
        until = time.monotonic() + limit_s
        while True:
            left_s = until - time.monotonic()
            wait_for(lambda: self._unsettled(nodes), lambda found: not found, "converged", left_s)
            self.wait_for_progress()
            # A slow machine may have starved a node meanwhile.
            if not self._unsettled(nodes):
                return

    def _unsettled(self, nodes: tuple[str, ...]) -> list[str]:
        """Return a phrase for everything that has not converged yet.

        Where only moves of the balancer are missing, request them.
        """
        found = [
            f"{name} is {status}, pid {pid}"
            for name, status, pid in self.query("SELECT name, status, pid FROM scheduling_node")
            if name in nodes and (status != "alive" or not psutil.pid_exists(pid))
        ]
        runs = self.runs().values()
        used = {run.node for run in runs}
        found += [f"{node} has no portfolio" for node in nodes if node not in used]
        found += [
            f"{run.name} is {run.phase} on {run.node}: {run.reason}"
            for run in runs
            if run.phase != "running"
        ]
        found += [
            f"handoff {number} ({kind}) is {state}" for number, kind, state in self.open_handoffs()
        ]
        # A node without a portfolio gets one only by a move of the balancer.
        if all(phrase.endswith("has no portfolio") for phrase in found):
            moves = self.get("/api/schedule/plan/")["move"]
            found += [f"{move['portfolio']} should move" for move in moves]
            if moves:  # the next pass may be half a minute away
                self.call("POST", "/api/schedule/rebalance/", {})
        return found

    def wait_for_progress(self) -> float:
        """Wait until every owned portfolio has committed new events. Return the seconds it took."""
        before = {name: run.last_seq for name, run in self.runs().items() if run.node}
        _, took_s = wait_for(
            self.runs,
            lambda runs: all(runs[name].last_seq > seq for name, seq in before.items()),
            "further commits of every portfolio",
        )
        return took_s

    def wait_for_newer_commits(self) -> None:
        """Wait until some portfolio has committed two events newer than any committed now."""

        def newest() -> int:
            return max(run.last_seq for run in self.runs().values())

        seen = newest()
        wait_for(newest, lambda seq: seq > seen + 1, "newer events committed")

    def wait_for_commits_elsewhere(self, names: list[str], node: str, limit_s: float) -> float:
        """Wait until each of `names` was seen running on a node other than `node`.

        A run becomes `running` with the first commit of its epoch. Return the seconds it took. A
        portfolio that was seen once counts from then on: it may be back on `node` before a slow
        machine has placed the last one.
        """
        left = set(names)

        def not_yet_elsewhere() -> set[str]:
            runs = self.runs()
            for run in (runs[name] for name in sorted(left)):
                if run.node not in (None, node) and run.phase == "running":
                    left.discard(run.name)
            return left

        _, took_s = wait_for(
            not_yet_elsewhere,
            lambda missing: not missing,
            f"{', '.join(names)} committing elsewhere than on {node}",
            limit_s,
        )
        return took_s

    def wait_for_handoff(self, number: int, limit_s: float) -> dict[str, Any]:
        """Wait until a handoff has ended, in whatever state, and return it as the API shows it."""
        found, _ = wait_for(
            lambda: self.handoff(number),
            lambda handoff: handoff["state"] in ENDED,
            f"the end of handoff {number}",
            limit_s,
        )
        return found
