"""A house as its operator sees it: who runs what, what moved, and whether history is whole."""

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
from chaos.harness.pg_clock import IS_SET, right_clock, set_clock
from chaos.harness.pg_notify import LOSING, right_speech, set_speech
from ginkgo_site.env import CHECKOUT, embedded_url

T = TypeVar("T")

DEMO_NODES = ("node-1", "node-2", "node-3")
CANARIES = ("canary-1", "canary-2", "canary-3")
#: The words that a process of the control plane is known by on its command line.
PROCESS_MATCH = {
    "web": "ginkgo_site.asgi:application",
    "watcher": "run_watcher",
    "worker": "qcluster",
}
ENDED = {"done", "failed", "rolled_back", "superseded"}

#: Everything that is waited for in seconds, shortened; the proportions stay those of the product.
QUICK = {
    "GINKGO_HEARTBEAT_INTERVAL_S": "1",
    "GINKGO_LEASE_TTL_S": "4",
    "GINKGO_SOCKET_GRACE_S": "2",
    "GINKGO_BALANCE_INTERVAL_S": "2",
    "GINKGO_GOOD_AFTER_S": "3",
    "GINKGO_FEED_RATE": "300",  # a bar of each symbol every 1.3 s
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
    look: Callable[[], T], holds: Callable[[T], object], limit_s: float, what: str
) -> tuple[T, float]:
    """Look until what is found holds; return it and the seconds that took.

    Fail after `limit_s` with what was promised and what was found last.
    """
    began = time.monotonic()
    while True:
        found = look()
        took_s = time.monotonic() - began
        if holds(found):
            return found, took_s
        assert took_s < limit_s, f"after {took_s:.1f} s not yet {what}; found: {found}"
        time.sleep(pause_s(took_s))


@dataclass(frozen=True)
class RunNow:
    """Who owns a portfolio now, and how far it is."""

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
        """What no fault that moves nothing may change."""
        return self.node, self.incarnation, self.epoch


class Cluster(Installation):
    """A house with words for what its tests do with it."""

    def __init__(self, home: Path, *options: str, **environment: str) -> None:
        super().__init__(home, *options, **environment)
        self._database: psycopg.Connection[Any] | None = None
        self._clock_off_s = 0.0

    def is_up(self) -> bool:
        """Whether its launcher lives."""
        return self.process is not None and self.process.poll() is None

    def end(self) -> None:
        """Kill everything, which is quicker than an ordered stop."""
        everything = self.processes()
        self.kill()
        for process in alive(everything):
            with suppress(psutil.NoSuchProcess):  # it ended with its parent meanwhile
                process.kill()
        psutil.wait_procs(everything, timeout=5)

    # --- look ---------------------------------------------------------------------------------

    def query(self, sql: str, *parameters: object) -> list[tuple]:
        """Ask its database, over one connection that is opened again when it was cut."""
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
        """From now on look at the database under this address: the one before answers no more."""
        self._environment["DATABASE_URL"] = url
        self._database = None

    def now(self) -> datetime:
        """The database's clock."""
        ((now,),) = self.query("SELECT clock_timestamp()")
        return now

    def runs(self) -> dict[str, RunNow]:
        """Every portfolio that was not deleted, by name."""
        return {row[0]: RunNow(*row) for row in self.query(_RUNS)}

    def run(self, name: str) -> RunNow:
        """One portfolio's run."""
        return self.runs()[name]

    def on(self, node: str) -> list[str]:
        """Names of the portfolios that `node` owns."""
        return [run.name for run in self.runs_on(node)]

    def runs_on(self, node: str) -> list[RunNow]:
        """Runs of the portfolios that `node` owns."""
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
        """Lines of the audit trail, newest first."""
        wanted = "".join(f"&{key}={value}" for key, value in filters.items())
        at = since.isoformat().replace("+00:00", "Z")
        found: list[dict[str, Any]] = self.get(
            f"/api/events/?kind={kind}&since={at}&limit=1000{wanted}"
        )["results"]
        return found

    def daemon(self, node: str) -> psutil.Process:
        """The process that holds the node's lease."""
        ((pid,),) = self.query("SELECT pid FROM scheduling_node WHERE name = %s", node)
        return psutil.Process(pid)

    def answers(self) -> bool:
        """Whether the web process and its database answer."""
        try:
            return self.call("GET", "/api/readyz").status == 200
        except OSError:
            return False

    def processes_of(self, *words: str) -> list[psutil.Process]:
        """Its processes that live and whose command line has all of `words`."""
        found = []
        for process in self.processes():
            try:
                if all(word in process.cmdline() for word in words):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue  # it ended while it was looked at
        return found

    def active(self) -> list[tuple[int, str, str]]:
        """Handoffs that have not ended: number, kind, state."""
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
        """Return when all nodes live, everything runs and commits, and the balancer is content.

        What an earlier test may have left, a pin, a drain, a cordon or the memory of lost nodes,
        which would have to prove themselves first, is undone.
        """
        self.query("UPDATE scheduling_node SET lost_times = '[]'")
        for portfolio in self.get("/api/portfolios/?limit=1000")["results"]:
            if portfolio["pinned_node"]:
                self.call("POST", f"/api/portfolios/{portfolio['name']}/unpin/", {})
        for node in nodes:
            self.call("POST", f"/api/nodes/{node}/undrain/", {})
            self.call("POST", f"/api/nodes/{node}/uncordon/", {})
        wait_for(lambda: self._unsettled(nodes), lambda found: not found, limit_s, "settled")
        self.progress()

    def _unsettled(self, nodes: tuple[str, ...]) -> list[str]:
        """Phrases that say what is still under way."""
        found = [
            f"{name} is {status}, pid {pid}"
            for name, status, pid in self.query("SELECT name, status, pid FROM scheduling_node")
            if name in nodes and (status != "alive" or not psutil.pid_exists(pid))
        ]
        runs = self.runs().values()
        used = {run.node for run in runs}
        found += [f"{node} is empty" for node in nodes if node not in used]
        found += [
            f"{run.name} is {run.phase} on {run.node}: {run.reason}"
            for run in runs
            if run.phase != "running"
        ]
        found += [f"handoff {number} ({kind}) is {state}" for number, kind, state in self.active()]
        if all(phrase.endswith("is empty") for phrase in found):
            moves = self.get("/api/schedule/plan/")["move"]
            found += [f"{move['portfolio']} should move" for move in moves]
            if moves:  # the next pass may be half a minute away
                self.call("POST", "/api/schedule/rebalance/", {})
        return found

    def progress(self, limit_s: float = SLOW_MACHINE_S) -> float:
        """Wait until everything that runs has committed new events; return the seconds."""
        before = {name: run.last_seq for name, run in self.runs().items() if run.node}
        _, took_s = wait_for(
            self.runs,
            lambda runs: all(runs[name].last_seq > seq for name, seq in before.items()),
            limit_s,
            "further commits of every portfolio",
        )
        return took_s

    def commits_elsewhere(self, names: list[str], node: str, limit_s: float) -> float:
        """Wait until all of `names` have committed on another node than `node`."""
        _, took_s = wait_for(
            lambda: [self.runs()[name] for name in names],
            lambda runs: all(
                r.node not in (None, node) and r.phase == "running" and r.committed_at for r in runs
            ),
            limit_s,
            f"{', '.join(names)} committing elsewhere than on {node}",
        )
        return took_s

    def ended(self, number: int, limit_s: float) -> dict[str, Any]:
        """Wait for the end of a handoff and return it."""
        found, _ = wait_for(
            lambda: self.handoff(number),
            lambda handoff: handoff["state"] in ENDED,
            limit_s,
            f"the end of handoff {number}",
        )
        return found

    # --- act ----------------------------------------------------------------------------------

    def migrate(self, name: str, target: str, limit_s: float = SLOW_MACHINE_S) -> dict[str, Any]:
        """Move a portfolio by REST and return the handoff, which must end well."""
        answer = self.call(
            "POST", f"/api/portfolios/{name}/migrate/", {"target_node": target, "reason": "test"}
        )
        assert answer.status == 202, answer.text
        done = self.ended(answer.json["id"], limit_s)
        assert done["state"] == "done", done
        return done

    def elsewhere(self, name: str) -> str:
        """Return the demo node with most room where the portfolio is not."""
        runs = self.runs()
        load = {node: sum(r.node == node for r in runs.values()) for node in DEMO_NODES}
        del load[str(runs[name].node)]
        return min(load, key=lambda node: (load[node], node))

    def patch(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Change a portfolio and return what was answered."""
        answer = self.call("PATCH", f"/api/portfolios/{name}/", changes)
        assert answer.status == 202, answer.text
        found: dict[str, Any] = answer.json
        return found

    def revision(self, name: str, number: int) -> dict[str, Any]:
        """One revision of a portfolio."""
        found = self.get(f"/api/portfolios/{name}/revisions/?limit=1000")["results"]
        by_number: dict[int, dict[str, Any]] = {row["number"]: row for row in found}
        return by_number[number]

    def checkpoint(self, name: str) -> dict[str, Any]:
        """The newest state of a portfolio."""
        found: dict[str, Any] = self.get(f"/api/portfolios/{name}/checkpoint/")
        return found

    def postgres(self) -> list[psutil.Process]:
        """The server and its backends; it takes no mark, so it is found by its pid file."""
        pid = int((self.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        server = psutil.Process(pid)
        return [server, *server.children(recursive=True)]

    @contextmanager
    def no_pushes(self) -> Iterator[None]:
        """Lose every push: inside the database `pg_notify` says nothing to anybody.

        Nothing in the product knows of it, and every process of the house is struck alike.
        """
        with psycopg.connect(embedded_url(self.home), autocommit=True) as listening:
            listening.execute("LISTEN ginkgo")
            self._in_one_transaction(set_speech(LOSING))
            for _ in listening.notifies(timeout=0.3):
                pass  # what was said before
            try:
                yield
                heard = [push.payload for push in listening.notifies(timeout=0.3)]
                assert heard == [], "pushes were not lost"
            finally:
                self._in_one_transaction(right_speech())

    @contextmanager
    def other_pushes(self, body: str) -> Iterator[None]:
        """Let `pg_notify` do something else: REPEATING, REORDERING."""
        self._in_one_transaction(set_speech(body))
        try:
            yield
        finally:
            self._in_one_transaction(right_speech())

    @contextmanager
    def clock_jump(self, seconds: float) -> Iterator[None]:
        """Let the database's clock jump by so much, and jump back in the end."""
        self.shift_clock(seconds)
        try:
            yield
        finally:
            self.shift_clock(-seconds)

    def shift_clock(self, seconds: float) -> None:
        """Set the database's clock by so much from what it says now; the sum of all jumps counts.

        What sums up to nothing is the true clock again.
        """
        self._clock_off_s += seconds
        again = self.query(IS_SET) == [(1,)]
        if self._clock_off_s:
            off = f"make_interval(secs => {self._clock_off_s})"
            self._in_one_transaction(set_clock(off, again=again))
        elif again:
            self._in_one_transaction(right_clock())

    def _in_one_transaction(self, statements: Sequence[str]) -> None:
        with psycopg.connect(self.admin_url) as db:
            for statement in statements:
                db.execute(statement)

    @contextmanager
    def own_node(
        self, name: str, server: str = "", token: str = "", *options: str
    ) -> Iterator[subprocess.Popen[str]]:
        """A daemon of the test's own, asked to leave in the end if it still lives."""
        process = self.launch_node(
            name, server or self.access["url"], token or self.node_token(name), *options
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

    def node_token(self, name: str) -> str:
        """A new token for a node, which is made if there is none of that name."""
        return str(self.manage("create_node_token", name)["token"])

    def launch_node(
        self,
        name: str,
        server: str,
        token: str,
        *options: str,
        program: str = "scheduling.node_daemon",
    ) -> subprocess.Popen[str]:
        """Start a daemon; its words go to logs/NAME.txt under the home."""
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

    # --- judge --------------------------------------------------------------------------------

    def assert_canaries_clean(self) -> None:
        """Each canary saw every event from its first to its last once, in order, with its price."""
        for name in CANARIES:
            state = self.checkpoint(name)["state"]
            first, last = state["first_seq"], state["last_seq"]
            assert (state["gaps"], state["duplicates"]) == (0, 0), (name, state)
            assert state["events"] == last - first + 1, (name, state)
            ((born,),) = self.query(
                "SELECT first_seq FROM portfolios_portfolio WHERE name = %s", name
            )
            assert first == born, (name, state)
            assert state["digest"] == reference_feed.digest_of(first, last), (name, state)

    def assert_history_whole(self) -> None:
        """Tenures tile, epochs rise, and every order and fill lies in the tenure it claims."""
        assert history.history_violations(self.query) == []

    def assert_nothing_moved(self, before: dict[str, RunNow], since: datetime) -> None:
        """Everything is where it was, under the same epoch, and nothing was even begun."""
        after = self.runs()
        moved = [
            f"{name}: {before[name].ownership} → {run.ownership}"
            for name, run in after.items()
            if run.ownership != before[name].ownership
        ]
        told = [
            f"{event['at']} {event['kind']} {event['portfolio'] or event['node']}:"
            f" {event['reason']} {event['data']}"
            for kind in ("node_lost", "handoff_requested", "granted")
            for event in self.events(kind, since)
        ]
        assert not moved + told, "\n".join([*moved, *sorted(told)])


@contextmanager
def frozen(processes: list[psutil.Process]) -> Iterator[None]:
    """Hold processes with SIGSTOP, and let them go on in the end, even if one was gone already."""
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


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that descends from it."""
    return [process, *process.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
