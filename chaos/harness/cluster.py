"""An installation under test: operated as its operator would, broken, and checked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from chaos.checkers import history
from chaos.harness import pg_clock, pg_notify, reference_feed
from chaos.harness.installation import SLOW_MACHINE_S, ApiResponse, is_starved
from chaos.harness.observation import DEMO_NODES, ClusterRun, ObservedInstallation, wait_for
from chaos.harness.processes import kill_processes, still_running

CANARIES = ("canary-1", "canary-2", "canary-3")
#: Part of the control plane → the word that identifies it on a command line.
PROCESS_MATCH = {
    "web": "ginkgo_site.asgi:application",
    "watcher": "run_watcher",
    "worker": "qcluster",
}
#: One of these symbols has an event every 0.25 s, so a strategy that fails at its third event fails
#: before its revision is proven.
SHARES = (
    *("IBM", "GE", "HD", "XOM", "CVX", "JPM", "MS", "WFC"),
    *("KO", "PEP", "PG", "MO", "JNJ", "MRK", "BAC", "C"),
)

#: The product's time limits, shortened. The lease is shortened less than the rest, since tests that
#: run at the same time keep a process waiting for seconds.
SHORT_LIMITS = {
    "GINKGO_HEARTBEAT_INTERVAL_S": "1",
    "GINKGO_LEASE_TTL_S": "6",
    "GINKGO_SOCKET_GRACE_S": "2",
    "GINKGO_BALANCE_INTERVAL_S": "2",
    "GINKGO_GOOD_AFTER_S": "3",
    "GINKGO_STRATEGIES": "chaos.faults.faulty_strategies",
}


class Cluster(ObservedInstallation):
    """An installation with methods that operate, break and check it."""

    def __init__(self, home: Path, *options: str, **environment: str) -> None:
        super().__init__(home, *options, **environment)
        self._clock_off_s = 0.0

    def connect_monitor(self) -> psycopg.Connection[Any]:
        """Connect the monitor to the database as the role that Ginkgo uses, no superuser."""
        return psycopg.connect(self.database_url, autocommit=True, connect_timeout=5)

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """Keep up what has to outlast the installation: nothing here, networks in `ManyCluster`."""
        yield

    def is_running(self) -> bool:
        """Whether the launcher runs."""
        return self.process is not None and self.process.poll() is None

    def kill_everything(self) -> None:
        """Kill every process; faster than an orderly stop."""
        everything = self.processes()
        self.kill()
        kill_processes(still_running(everything))
        psutil.wait_procs(everything, timeout=5)

    # --- operate ------------------------------------------------------------------------------

    def migrate(self, name: str, target: str, limit_s: float = SLOW_MACHINE_S) -> dict[str, Any]:
        """Migrate a portfolio through the API. Return the handoff that brought it to `target`.

        Raise AssertionError if it fails; on a starved machine first repeat the request some times.
        """
        address = f"/api/portfolios/{name}/migrate/"
        body = {"target_node": target, "reason": "test"}
        for attempts_left in reversed(range(5)):
            # On a busy machine the target may just have missed a heartbeat.
            answer, _ = wait_for(
                lambda: self.call("POST", address, body),
                lambda answer: not _was_refused_with(answer, "node_lost"),
                f"{target} alive",
                limit_s,
            )
            # The balancer may have moved the portfolio there first, and its move may have ended.
            if _was_refused_with(answer, "same_node"):
                return self.wait_for_handoff(self._newest_handoff(name), limit_s)
            if _was_refused_with(answer, "handoff_in_progress"):
                # The balancer moves the portfolio, perhaps to the same node.
                moved = self.wait_for_handoff(answer.json["handoff"], limit_s)
                if moved["state"] == "done" and self.run(name).node == target:
                    return moved
                continue
            done = self.wait_for_handoff(answer.must_be(202).json["id"], limit_s)
            if done["state"] == "done":
                return done
            # A starved machine does not keep the deadlines of a handoff, or loses its nodes.
            repeats = attempts_left and is_starved() and _was_late(done["error"])
            assert repeats, f"handoff of {name} to {target} is {done['state']}: {done['error']}"
        raise AssertionError(f"{name} was in another handoff at each request: {answer.text}")

    def _newest_handoff(self, name: str) -> int:
        ((number,),) = self.query(
            "SELECT max(h.id) FROM scheduling_handoff h"
            " JOIN portfolios_portfolio p ON p.id = h.portfolio_id WHERE p.name = %s",
            name,
        )
        return int(number)

    def other_node(self, name: str) -> str:
        """Return the least loaded demo node that does not own the portfolio."""
        runs = self.runs()
        load = {node: sum(r.node == node for r in runs.values()) for node in DEMO_NODES}
        del load[str(runs[name].node)]
        return min(load, key=lambda node: (load[node], node))

    def create(self, name: str, strategy: str, symbols: Sequence[str], **fields: object) -> None:
        """Create a portfolio, which runs as soon as a node has room for it."""
        body = {"name": name, "strategy": strategy, "symbols": symbols, **fields}
        self.call("POST", "/api/portfolios/", body).must_be(201)

    def delete(self, name: str) -> ApiResponse:
        """Ask for the deletion of a portfolio, which may be refused. Return the answer."""
        return self.call("DELETE", f"/api/portfolios/{name}/", {})

    def patch(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Change a portfolio by PATCH, which must be accepted. Return the body of the answer."""
        answer = self.call("PATCH", f"/api/portfolios/{name}/", changes)
        found: dict[str, Any] = answer.must_be(202).json
        return found

    def revision(self, name: str, number: int) -> dict[str, Any]:
        """Return one revision of a portfolio, as the API shows it."""
        found = self.get(f"/api/portfolios/{name}/revisions/?limit=1000")["results"]
        by_number: dict[int, dict[str, Any]] = {row["number"]: row for row in found}
        return by_number[number]

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
    def commits_held_back(self, name: str) -> Iterator[None]:
        """Lock the run of a portfolio: its node has events that it processed and cannot commit.

        The block begins once other portfolios have committed newer events, so that it has some.
        """
        with self.connect_monitor() as db, db.transaction():
            db.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            db.execute(
                "SELECT FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id"
                " WHERE p.name = %s FOR UPDATE OF r",
                [name],
            )
            self.wait_for_newer_commits()
            yield

    @contextmanager
    def pushes_lost(self) -> Iterator[None]:
        """Lose every push: replace `pg_notify` inside the database by a function without effect.

        No product code is changed, and all processes of the installation are affected alike.
        """
        with psycopg.connect(self.admin_url, autocommit=True) as listening:
            listening.execute("LISTEN ginkgo")
            with self.pushes_replaced(pg_notify.LOSING):
                for _ in listening.notifies(timeout=0.3):
                    pass  # drain pushes sent before
                yield
                received = [push.payload for push in listening.notifies(timeout=0.3)]
                assert received == [], f"these pushes were not lost: {received}"

    @contextmanager
    def pushes_replaced(self, body: str) -> Iterator[None]:
        """Replace `pg_notify` in the block by `body`: LOSING, REPEATING or REORDERING."""
        self._in_one_transaction(pg_notify.replace_pg_notify(body))
        try:
            yield
        finally:
            self._in_one_transaction(pg_notify.RESTORE)

    @contextmanager
    def clock_jump(self, seconds: float) -> Iterator[None]:
        """Shift the database's clock by `seconds` in the block."""
        self.shift_clock(seconds)
        try:
            yield
        finally:
            self.shift_clock(-seconds)

    def shift_clock(self, seconds: float) -> None:
        """Shift the database's clock by `seconds`. Shifts add up; a sum of 0 restores the clock."""
        self._clock_off_s += seconds
        is_set = self.query(pg_clock.IS_SET) == [(1,)]
        if self._clock_off_s:
            offset = f"make_interval(secs => {self._clock_off_s})"
            self._in_one_transaction(pg_clock.set_clock(offset, is_set=is_set))
        elif is_set:
            self._in_one_transaction(pg_clock.RESTORE)

    def _in_one_transaction(self, statements: Sequence[str]) -> None:
        with psycopg.connect(self.admin_url) as db:
            for statement in statements:
                db.execute(statement)

    @contextmanager
    def extra_node(
        self, name: str, server: str = "", token: str = "", *options: str
    ) -> Iterator[subprocess.Popen[str]]:
        """Run one more node daemon in the block; "" stands for the own address, or a new token."""
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
        answer = self.call("POST", "/api/node-tokens/", {"node": name})
        return str(answer.must_be(201).json["token"])

    def launch_node(
        self,
        name: str,
        server: str,
        token: str,
        *options: str,
        program: str = "scheduling.node_daemon",
        within: Sequence[str] = (),
        **environment: str,
    ) -> subprocess.Popen[str]:
        """Start a node daemon, whose output goes to logs/NAME.txt in the home.
        `within` are the words of a command that runs the daemon: `ip netns exec x`."""
        argv = [*within, sys.executable, "-m", program, "--name", name, "--server", server]
        variables = {"GINKGO_NODE_TOKEN": token, **environment}
        return self.spawn([*argv, *options], f"logs/{name}.txt", **variables)

    # --- check --------------------------------------------------------------------------------

    def assert_nothing_lost(self) -> None:
        """Assert that canaries saw every event once, and that the history is whole."""
        self.assert_canaries_clean()
        self.assert_history_whole()

    def converge_without_loss(self) -> None:
        """Wait until the cluster has converged, then assert that nothing was lost."""
        self.wait_until_converged()
        self.assert_nothing_lost()

    def assert_canaries_clean(self) -> None:
        """Assert that each canary saw every event once, in order, with its price."""
        for name in CANARIES:
            state = self.checkpoint(name)["state"]
            first, last = state["first_seq"], state["last_seq"]
            assert (state["gaps"], state["duplicates"]) == (0, 0), f"{name} missed events: {state}"
            assert state["events"] == last - first + 1, f"{name} counted wrongly: {state}"
            ((first_seq,),) = self.query(
                "SELECT first_seq FROM portfolios_portfolio WHERE name = %s", name
            )
            assert first == first_seq, f"{name} should begin at seq {first_seq}: {state}"
            digest = reference_feed.digest_of(first, last)
            assert state["digest"] == digest, f"{name} should have digest {digest}: {state}"

    def assert_history_whole(self) -> None:
        """Assert that tenures tile the log, and epochs, orders and fills fit them (I1, I2, I5)."""
        violations = history.history_violations(self.query)
        assert not violations, "; ".join(f"{code}: {what}" for code, what in violations)

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


def _was_late(error: str) -> bool:
    """Whether the error of a handoff is a missed deadline or a lost node."""
    late = ("could not prepare in", "did not commit in", "was lost before it was ready")
    return any(words in error for words in late)


def _was_refused_with(answer: ApiResponse, code: str) -> bool:
    return answer.status == 409 and answer.json["code"] == code
