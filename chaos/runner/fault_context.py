"""The interface between a fault and the run: choose targets, break them, wait, report."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import psycopg

from chaos.checkers.blast_radius import BlastRadius
from chaos.harness.cluster import PROCESS_MATCH, Cluster
from chaos.harness.installation import ApiResponse
from chaos.harness.observation import ENDED, ClusterRun
from chaos.harness.processes import kill_processes, process_tree, suspended
from chaos.harness.tcp_proxy import TcpProxy
from chaos.runner.topology import Topology

#: Words on the command lines of these processes, for `processes_matching`.
WEB, WATCHER, WORKER = ((PROCESS_MATCH[part],) for part in ("web", "watcher", "worker"))

SAMPLE_EVERY_S = 0.1
#: Factor on every time budget before a missed deadline counts as a violation on a busy machine.
BUDGET_FACTOR = 2.0
#: Time limit for a process to restart. No budget of the design covers it: with forty processes
#: waiting for two processors, importing Django alone took that many seconds.
RESTART_LIMIT_S = 120.0
#: Tries of an API request, and the pause after each: at least 20 s, more if answers are slow.
API_TRIES, API_PAUSE_S = 100, 0.2


class NotAvailable(Exception):
    """The fault cannot be injected on this machine or at this moment, for the reason given."""


class Interrupted(Exception):
    """`bin/chaos` or `bin/soak` was asked to stop."""


@dataclass
class FaultContext:
    """One injection of a fault: its targets, its randomness, and the clean-up when it ends."""

    topology: Topology
    rng: random.Random
    blast_radius: BlastRadius
    stopping: threading.Event
    report: Callable[[str, str, dict[str, Any]], None]  #: invariant, sentence, evidence
    disregard_pauses: Callable[[], None] = lambda: None  #: exclude this step's pauses
    forget_progress: Callable[[], None] = lambda: None  #: acknowledged commits are lost on purpose
    notes: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)  #: seconds, by what took them
    undo: ExitStack = field(default_factory=ExitStack)  #: run when the fault ends, after errors too
    #: By node: the daemons behind proxies that this fault knows, as of its begin or its last
    #: relaunch. A second fault at the same time may have replaced one of them.
    _known: dict[str, subprocess.Popen[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._known = dict(self.topology.daemons)

    @property
    def cluster(self) -> Cluster:
        """The installation under test."""
        return self.topology.cluster

    @property
    def ttl_s(self) -> float:
        """Lifetime of a lease."""
        return self.topology.times.lease_ttl_s

    # --- choose -------------------------------------------------------------------------------

    def choose_node(self, among: Sequence[str] = ()) -> str:
        """Choose a node, of `among` if given and preferably an owner, and mark it affected."""
        owners = {run.node for run in self.cluster.runs().values()}
        names = sorted(among or self.topology.nodes)
        chosen = self.rng.choice([n for n in names if n in owners] or names)
        self.mark_nodes_affected(chosen)
        return chosen

    def choose_proxied_node(self) -> tuple[str, TcpProxy]:
        """Choose a node behind a proxy, and mark it affected."""
        chosen = self.choose_node(sorted(self.topology.daemons))
        return chosen, self.topology.proxies[chosen]

    def choose_portfolio(self, on: str | None = None, but: Sequence[str] = ()) -> ClusterRun:
        """Choose a running portfolio, on node `on` if given and none of `but`; mark it affected.
        Raise NotAvailable if there is none."""
        running = [
            run
            for run in self.cluster.runs().values()
            if run.phase == "running" and run.name not in but and (on is None or run.node == on)
        ]
        if not running:
            raise NotAvailable(f"no running portfolio{f' on {on}' if on else ''}")
        chosen = self.rng.choice(running)
        self.mark_affected(chosen.name)
        return chosen

    def choose_target(self, run: ClusterRun, among: Sequence[str] = ()) -> str:
        """Choose a node that can run a portfolio, other than its owner; of `among` if given.
        Raise NotAvailable if there is none, or if the API does not answer."""
        answer = self.request("GET", f"/api/schedule/targets/?portfolio={run.name}")
        if answer is None or answer.status != 200:
            raise NotAvailable(f"the API does not say which nodes can run {run.name}")
        feasible = {place["node"] for place in answer.json["results"] if place["feasible"]}
        names = sorted(feasible.intersection(among or feasible) - {run.node})
        if not names:
            of_these = f" of {', '.join(among)}" if among else ""
            raise NotAvailable(f"no other node{of_these} can run {run.name}; it is on {run.node}")
        return self.rng.choice(names)

    # --- affected nodes and portfolios ----------------------------------------------------------

    def mark_affected(self, *portfolios: str) -> None:
        """Exempt portfolios from the bystander check."""
        self.blast_radius.add_portfolios(portfolios)

    def mark_nodes_affected(self, *nodes: str) -> None:
        """Exempt every portfolio on these nodes from the bystander check."""
        self.blast_radius.add_nodes(nodes)

    def mark_all_affected(self, why: str) -> None:
        """Exempt every portfolio from the bystander check; `why` only documents the call."""
        self.blast_radius.add_all(why)

    # --- wait and report --------------------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        """Sleep. Raise Interrupted as soon as the run is asked to stop."""
        if self.stopping.wait(seconds):
            raise Interrupted

    def expect(
        self, read: Callable[[], object], limit_s: float, what: str, invariant: str = "fault"
    ) -> bool:
        """Poll `read` until it returns a true value, and return True.

        After `limit_s`, report a violation and return False. An error of `read` counts as False.
        """
        began = time.monotonic()
        while True:
            try:
                found = read()
            except (OSError, AssertionError, psutil.Error, psycopg.Error) as error:
                found, why = None, str(error)
            else:
                why = f"{found!r}"
            if found:
                return True
            if time.monotonic() - began > limit_s:
                self.report(
                    invariant, f"not within {round(limit_s, 1):g} s: {what}", {"found": why}
                )
                return False
            self.sleep(SAMPLE_EVERY_S)

    def measure(self, what: str, read: Callable[[], object], budget_s: float, began: float) -> bool:
        """Wait until `read` is true, and put the seconds since `began` (monotonic) into `measured`.
        After BUDGET_FACTOR times the budget, report a violation and return False."""
        limit_s = budget_s * BUDGET_FACTOR
        left_s = max(began + limit_s - time.monotonic(), 0)
        is_kept = self.expect(read, left_s, f"{what} ({limit_s:g} s from its beginning)")
        if is_kept:
            self.measured[what] = round(time.monotonic() - began, 2)
        return is_kept

    def note(self, text: str) -> None:
        """Add a note to the report."""
        self.notes.append(text)

    # --- operate ----------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: Any = None) -> ApiResponse | None:
        """Send one API request. Return None if no response came."""
        return self.topology.request(method, path, body)

    def call_api(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """Send an API request, repeatedly while no response comes or only 429 or 500 and above.

        Return the response's body, None if the request is refused. A refusal is only noted: many
        are correct during a fault. After API_TRIES, report a violation and return None.
        """
        for _ in range(API_TRIES):
            answer = self.request(method, path, {} if body is None else body)
            if answer is not None and answer.status < 500 and answer.status != 429:
                if answer.status < 300:
                    return answer.json
                self.note(f"{method} {path}: {answer.status} {answer.text[:160]}")
                return None
            self.sleep(API_PAUSE_S)
        self.report("I8", f"the API did not answer {method} {path} in {API_TRIES} tries", {})
        return None

    def create_portfolio(self, name: str, **given: Any) -> bool:
        """Create a portfolio, marked affected; the fault's end deletes it. False if refused."""
        self.mark_affected(name)
        self.undo.callback(self.call_api, f"/api/portfolios/{name}/", None, "DELETE")
        return bool(self.call_api("/api/portfolios/", {"name": name, **given}))

    def migrate(self, run: ClusterRun, target: str) -> int | None:
        """Request a migration. Return the id of its handoff, or None if it was refused."""
        found = self.call_api(
            f"/api/portfolios/{run.name}/migrate/", {"target_node": target, "reason": "chaos"}
        )
        return int(found["id"]) if found else None

    def handoff_state(self, handoff: int) -> str:
        """State of a handoff, read from the database because the web process may be down."""
        ((state,),) = self.cluster.query(
            "SELECT state FROM scheduling_handoff WHERE id = %s", handoff
        )
        return str(state)

    def expect_handoff_end(self, handoff: int | None, limit_s: float) -> None:
        """Expect the end of a handoff, in whatever state; nothing if it was refused (None)."""
        if handoff is None:
            return
        self.expect(
            lambda: self.handoff_state(handoff) in ENDED,
            limit_s,
            f"the end of handoff {handoff}",
            "I8",
        )
        self.note(f"handoff {handoff} {self.handoff_state(handoff)}")

    def wait_for_handoff_state(self, handoff: int, wanted: str) -> None:
        """Return as soon as a handoff has reached this state or a later one, or after 5 s.

        It polls every 2 ms, since a state may last only some milliseconds.
        """
        order = ["requested", "preparing", "draining", "activating"]
        end = time.monotonic() + 5
        while time.monotonic() < end and not self.stopping.is_set():
            state = self.handoff_state(handoff)
            if state in ENDED or order.index(state) >= order.index(wanted):
                return
            time.sleep(0.002)

    def relaunch_if_proxied(self, node: str, ended: subprocess.Popen[str] | None = None) -> None:
        """If the node is behind a proxy, restart its daemon; the launcher restarts all others.

        The fault has ended the daemon `ended`; None: the one that ran when the step began.
        """
        if node not in self._known:
            return
        (ended or self._known[node]).wait(15)
        with self.topology.launching:
            # A second fault may have restarted the daemon, and this fault may have ended that one.
            with suppress(subprocess.TimeoutExpired):
                self.topology.daemons[node].wait(0.5)
            if self.topology.daemons[node].poll() is not None:
                self.topology.launch(node)
            else:
                self.note(f"{node} was restarted by the other fault of this step")
            self._known[node] = self.topology.daemons[node]

    def kill_node(self, node: str) -> None:
        """Kill a daemon with kill -9, and mark its node affected."""
        self.mark_nodes_affected(node)
        self.cluster.daemon(node).kill()

    suspended = staticmethod(suspended)

    @contextmanager
    def suspended_node(self, node: str) -> Iterator[None]:
        """Suspend a daemon and all of its processes with SIGSTOP."""
        with suspended(process_tree(self.cluster.daemon(node))):
            yield

    @contextmanager
    def kept_down(self, processes: Sequence[psutil.Process]) -> Iterator[None]:
        """Kill processes, and suspend the launcher so that it restarts none within the context."""
        assert self.cluster.process is not None
        with suspended([psutil.Process(self.cluster.process.pid)]):
            kill_processes(processes)
            yield

    def processes_matching(self, words: tuple[str, ...]) -> list[psutil.Process]:
        """Processes whose command line holds all of `words`, the oldest first."""
        return sorted(self.cluster.processes_of(*words), key=lambda process: process.create_time())
