"""An installation as its operator sees it: owners, handoffs, events, and checks of the history."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import psutil
import psycopg

from chaos.checkers import history
from chaos.harness import reference_feed
from chaos.harness.installation import SLOW_MACHINE_S, Installation, pause_s
from chaos.harness.pg_clock import IS_SET, restore_clock, set_clock
from chaos.harness.pg_notify import LOSING, replace_pg_notify, restore_pg_notify
from ginkgo_site.env import CHECKOUT, embedded_url

T = TypeVar("T")

DEMO_NODES = ("node-1", "node-2", "node-3")
CANARIES = ("canary-1", "canary-2", "canary-3")
#: Part of the control plane → the word that identifies it on a command line.
PROCESS_MATCH = {
    "web": "ginkgo_site.asgi:application",
    "watcher": "run_watcher",
    "worker": "qcluster",
}
#: One of them has an event every 0.25 s: what is bad at its third fails before it is good.
SHARES = (
    *("IBM", "GE", "HD", "XOM", "CVX", "JPM", "MS", "WFC"),
    *("KO", "PEP", "PG", "MO", "JNJ", "MRK", "BAC", "C"),
)
ENDED = {"done", "failed", "rolled_back", "superseded"}

#: The product's time limits, shortened in proportion.
SHORT_LIMITS = {
    "GINKGO_HEARTBEAT_INTERVAL_S": "1",
    "GINKGO_LEASE_TTL_S": "4",
    "GINKGO_SOCKET_GRACE_S": "2",
    "GINKGO_BALANCE_INTERVAL_S": "2",
    "GINKGO_GOOD_AFTER_S": "3",
    "GINKGO_STRATEGIES": "chaos.faults.faulty_strategies",
}

_RUNS = """
SELECT p.name, n.name, r.incarnation::text, r.epoch, r.revision, r.last_seq, r.phase, r.reason,
       r.last_commit_at
FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
LEFT JOIN scheduling_node n ON n.id = r.node_id
WHERE p.archived_at IS NULL ORDER BY p.name
"""


def wait_for(
    read: Callable[[], T], holds: Callable[[T], object], limit_s: float, what: str
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
        assert took_s < limit_s, f"not within {took_s:.1f} s: {what}; found: {found}"
        time.sleep(pause_s(took_s))


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
        """Owner and epoch, which a fault that moves nothing must not change."""
        return self.node, self.incarnation, self.epoch


class Cluster(Installation):
    """An installation with methods for tests: read, wait, operate, check."""

    def __init__(self, home: Path, *options: str, **environment: str) -> None:
        super().__init__(home, *options, **environment)
        self._database: psycopg.Connection[Any] | None = None
        self._clock_off_s = 0.0

    def is_running(self) -> bool:
        """Whether its launcher runs."""
        return self.process is not None and self.process.poll() is None

    def kill_everything(self) -> None:
        """Kill every process; faster than an orderly stop."""
        everything = self.processes()
        self.kill()
        for process in still_running(everything):
            with suppress(psutil.NoSuchProcess):  # it has ended with its parent
                process.kill()
        psutil.wait_procs(everything, timeout=5)

    # --- read ---------------------------------------------------------------------------------

    def query(self, sql: str, *parameters: object) -> list[tuple]:
        """Query the database over one connection, reopened once if it was cut."""
        for is_last in (False, True):
            try:
                if self._database is None or self._database.closed:
                    self._database = psycopg.connect(
                        self.admin_url, autocommit=True, connect_timeout=20
                    )
                cursor = self._database.execute(sql, parameters or None)
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                if self._database is not None:
                    self._database.close()
                if is_last:
                    raise
        raise AssertionError("not reached")

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
        """Lines of the audit log, newest first."""
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
        return [
            (row[0], row[1], row[2])
            for row in self.query(
                "SELECT id, kind, state FROM scheduling_handoff"
                " WHERE state IN ('requested', 'preparing', 'draining', 'activating') ORDER BY id"
            )
        ]

    # --- wait ---------------------------------------------------------------------------------

    def wait_until_converged(
        self, nodes: tuple[str, ...] = DEMO_NODES, limit_s: float = SLOW_MACHINE_S
    ) -> None:
        """Wait until all nodes are alive, every portfolio commits, and the balancer plans no move.

        First undo what an earlier test may have left: pins, drains, cordons, and the record of lost
        nodes, which would delay placements on them.
        """
        self.query("UPDATE scheduling_node SET lost_times = '[]'")
        for portfolio in self.get("/api/portfolios/?limit=1000")["results"]:
            if portfolio["pinned_node"]:
                self.call("POST", f"/api/portfolios/{portfolio['name']}/unpin/", {})
        for node in nodes:
            self.call("POST", f"/api/nodes/{node}/undrain/", {})
            self.call("POST", f"/api/nodes/{node}/uncordon/", {})
        wait_for(lambda: self._unsettled(nodes), lambda found: not found, limit_s, "converged")
        self.wait_for_progress()

    def _unsettled(self, nodes: tuple[str, ...]) -> list[str]:
        """Phrases on what has not yet converged."""
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
        if all(phrase.endswith("has no portfolio") for phrase in found):
            moves = self.get("/api/schedule/plan/")["move"]
            found += [f"{move['portfolio']} should move" for move in moves]
            if moves:  # the next pass may be half a minute away
                self.call("POST", "/api/schedule/rebalance/", {})
        return found

    def wait_for_progress(self, limit_s: float = SLOW_MACHINE_S) -> float:
        """Wait until every running portfolio has committed new events. Return the seconds."""
        before = {name: run.last_seq for name, run in self.runs().items() if run.node}
        _, took_s = wait_for(
            self.runs,
            lambda runs: all(runs[name].last_seq > seq for name, seq in before.items()),
            limit_s,
            "further commits of every portfolio",
        )
        return took_s

    def wait_for_commits_elsewhere(self, names: list[str], node: str, limit_s: float) -> float:
        """Wait until all of `names` have committed on a node other than `node`."""
        _, took_s = wait_for(
            lambda: [self.runs()[name] for name in names],
            lambda runs: all(
                r.node not in (None, node) and r.phase == "running" and r.committed_at for r in runs
            ),
            limit_s,
            f"{', '.join(names)} committing elsewhere than on {node}",
        )
        return took_s

    def wait_for_handoff(self, number: int, limit_s: float) -> dict[str, Any]:
        """Wait until a handoff has ended, and return it."""
        found, _ = wait_for(
            lambda: self.handoff(number),
            lambda handoff: handoff["state"] in ENDED,
            limit_s,
            f"the end of handoff {number}",
        )
        return found

    # --- operate ------------------------------------------------------------------------------

    def migrate(self, name: str, target: str, limit_s: float = SLOW_MACHINE_S) -> dict[str, Any]:
        """Migrate a portfolio through the API. Return the handoff, which must succeed."""
        address, body = (
            f"/api/portfolios/{name}/migrate/",
            {"target_node": target, "reason": "test"},
        )
        answer = self.call("POST", address, body)
        for _ in range(5):
            if answer.status != 409 or answer.json["code"] != "handoff_in_progress":
                break
            # The balancer was first. Its move may have led there too.
            moved = self.wait_for_handoff(answer.json["handoff"], limit_s)
            if moved["state"] == "done" and self.run(name).node == target:
                return moved
            answer = self.call("POST", address, body)
        assert answer.status == 202, answer.text
        done = self.wait_for_handoff(answer.json["id"], limit_s)
        assert done["state"] == "done", done
        return done

    def other_node(self, name: str) -> str:
        """Return the least loaded demo node that does not own the portfolio."""
        runs = self.runs()
        load = {node: sum(r.node == node for r in runs.values()) for node in DEMO_NODES}
        del load[str(runs[name].node)]
        return min(load, key=lambda node: (load[node], node))

    def patch(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Change a portfolio and return the response."""
        answer = self.call("PATCH", f"/api/portfolios/{name}/", changes)
        assert answer.status == 202, answer.text
        found: dict[str, Any] = answer.json
        return found

    def revision(self, name: str, number: int) -> dict[str, Any]:
        """One revision of a portfolio."""
        found = self.get(f"/api/portfolios/{name}/revisions/?limit=1000")["results"]
        by_number: dict[int, dict[str, Any]] = {row["number"]: row for row in found}
        return by_number[number]

    @contextmanager
    def feed_at(self, rate: float) -> Iterator[None]:
        """Release `rate` events a second, and as many as before at the end."""
        ((before,),) = self.query(
            "SELECT rate FROM portfolios_feedsegment ORDER BY id DESC LIMIT 1"
        )
        self._run_feed(rate)
        try:
            yield
        finally:
            self._run_feed(before)

    def _run_feed(self, rate: float) -> None:
        code = f"from scheduling.operations import run_feed; run_feed({rate}, actor='cast')"
        subprocess.run(
            [sys.executable, "manage.py", "shell", "-c", code],
            cwd=CHECKOUT,
            env=self.environment(),
            capture_output=True,
            check=True,
        )

    def checkpoint(self, name: str) -> dict[str, Any]:
        """The checkpoint of a portfolio, as the API shows it."""
        found: dict[str, Any] = self.get(f"/api/portfolios/{name}/checkpoint/")
        return found

    def postgres_processes(self) -> list[psutil.Process]:
        """The PostgreSQL server and its backends, found by the server's pid file."""
        pid = int((self.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        server = psutil.Process(pid)
        return [server, *server.children(recursive=True)]

    @contextmanager
    def pushes_lost(self) -> Iterator[None]:
        """Lose every push: replace `pg_notify` inside the database by a function without effect.

        No product code is changed, and all processes of the installation are affected alike.
        """
        with psycopg.connect(embedded_url(self.home), autocommit=True) as listening:
            listening.execute("LISTEN ginkgo")
            self._in_one_transaction(replace_pg_notify(LOSING))
            for _ in listening.notifies(timeout=0.3):
                pass  # drain pushes sent before
            try:
                yield
                received = [push.payload for push in listening.notifies(timeout=0.3)]
                assert received == [], "pushes were not lost"
            finally:
                self._in_one_transaction(restore_pg_notify())

    @contextmanager
    def pushes_replaced(self, body: str) -> Iterator[None]:
        """Replace `pg_notify` by REPEATING or REORDERING."""
        self._in_one_transaction(replace_pg_notify(body))
        try:
            yield
        finally:
            self._in_one_transaction(restore_pg_notify())

    @contextmanager
    def clock_jump(self, seconds: float) -> Iterator[None]:
        """Shift the database's clock by `seconds`, and back at the end."""
        self.shift_clock(seconds)
        try:
            yield
        finally:
            self.shift_clock(-seconds)

    def shift_clock(self, seconds: float) -> None:
        """Shift the database's clock by `seconds`. Shifts add up; a sum of 0 restores the clock."""
        self._clock_off_s += seconds
        again = self.query(IS_SET) == [(1,)]
        if self._clock_off_s:
            off = f"make_interval(secs => {self._clock_off_s})"
            self._in_one_transaction(set_clock(off, again=again))
        elif again:
            self._in_one_transaction(restore_clock())

    def _in_one_transaction(self, statements: Sequence[str]) -> None:
        with psycopg.connect(self.admin_url) as db:
            for statement in statements:
                db.execute(statement)

    @contextmanager
    def extra_node(
        self, name: str, server: str = "", token: str = "", *options: str
    ) -> Iterator[subprocess.Popen[str]]:
        """Run one more node daemon, and terminate it at the end."""
        process = self.launch_node(
            name, server or self.access["url"], token or self.create_node_token(name), *options
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(SLOW_MACHINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise

    def create_node_token(self, name: str) -> str:
        """Create a token for a node, and the node if it does not exist."""
        return str(self.manage("create_node_token", name)["token"])

    def launch_node(
        self,
        name: str,
        server: str,
        token: str,
        *options: str,
        program: str = "scheduling.node_daemon",
    ) -> subprocess.Popen[str]:
        """Start a node daemon. Its output goes to logs/NAME.txt in the home."""
        with open(self.home / "logs" / f"{name}.txt", "a", encoding="utf-8") as output:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", program),
                    *("--name", name, "--server", server),
                    *options,
                ],
                cwd=CHECKOUT,
                env={**self.environment(), "GINKGO_NODE_TOKEN": token},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    # --- check --------------------------------------------------------------------------------

    def assert_canaries_clean(self) -> None:
        """Assert that each canary saw every event once, in order, with its price."""
        for name in CANARIES:
            state = self.checkpoint(name)["state"]
            first, last = state["first_seq"], state["last_seq"]
            assert (state["gaps"], state["duplicates"]) == (0, 0), (name, state)
            assert state["events"] == last - first + 1, (name, state)
            ((first_seq,),) = self.query(
                "SELECT first_seq FROM portfolios_portfolio WHERE name = %s", name
            )
            assert first == first_seq, (name, state)
            assert state["digest"] == reference_feed.digest_of(first, last), (name, state)

    def assert_history_whole(self) -> None:
        """Assert that tenures tile, epochs rise, and orders and fills lie in their tenures."""
        assert history.history_violations(self.query) == []

    def assert_nothing_moved(self, before: dict[str, ClusterRun], since: datetime) -> None:
        """Assert that no portfolio changed owner or epoch, and no handoff was requested."""
        after = self.runs()
        moved = [
            f"{name}: {before[name].ownership} → {run.ownership}"
            for name, run in after.items()
            if run.ownership != before[name].ownership
        ]
        events = [
            f"{event['at']} {event['kind']} {event['portfolio'] or event['node']}:"
            f" {event['reason']} {event['data']}"
            for kind in ("node_lost", "handoff_requested", "granted")
            for event in self.events(kind, since)
        ]
        assert not moved + events, "\n".join([*moved, *sorted(events)])


@contextmanager
def suspended(processes: list[psutil.Process]) -> Iterator[None]:
    """Suspend processes with SIGSTOP, and resume them at the end, even if one has ended."""
    try:
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            try:
                process.send_signal(signal.SIGCONT)
            except psutil.NoSuchProcess:
                continue


def process_tree(process: psutil.Process) -> list[psutil.Process]:
    """A process and all of its descendants."""
    return [process, *process.children(recursive=True)]


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that have not ended."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
