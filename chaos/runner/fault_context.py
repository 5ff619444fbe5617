"""What a fault may do: choose its victims, strike, wait, and say what should have held."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psutil

from chaos.checkers.blast_radius import Footprint
from chaos.harness.cluster import ENDED, PROCESS_MATCH, Cluster, RunNow, family, frozen
from chaos.harness.installation import Answer
from chaos.harness.tcp_proxy import Wire
from chaos.runner.topology import Topology

T = TypeVar("T")

WEB, WATCHER, WORKER = ((PROCESS_MATCH[part],) for part in ("web", "watcher", "worker"))

LOOK_EVERY_S = 0.1
#: A busy machine is given twice the budget before a step counts as never done.
PATIENCE = 2.0
#: For a process to start again. Nothing is promised of that: on a machine that has forty processes
#: waiting for two processors, the import of Django alone was seen to take as many seconds.
RESTART_LIMIT_S = 120.0


class NotAvailable(Exception):
    """This machine cannot do it; the text says why."""


class Interrupted(Exception):
    """The run is to end now."""


@dataclass
class FaultContext:
    """One fault while it lasts."""

    grounds: Topology
    rng: random.Random
    footprint: Footprint
    stopping: threading.Event
    report: Callable[[str, str, dict[str, Any]], None]  #: invariant, sentence, evidence
    forget_the_clock: Callable[[], None] = lambda: None  #: no pause of this step is believed
    notes: list[str] = field(default_factory=list)
    undo: ExitStack = field(default_factory=ExitStack)  #: whatever happens, this is put back
    #: Behind the wires, as this fault knows them: the other one of two may start one anew.
    _known: dict[str, subprocess.Popen[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._known = dict(self.grounds.daemons)

    @property
    def fleet(self) -> Cluster:
        """The house."""
        return self.grounds.fleet

    @property
    def ttl_s(self) -> float:
        """How long a lease is good for."""
        return self.grounds.times.lease_ttl_s

    # --- choose -------------------------------------------------------------------------------

    def node(self, among: Sequence[str] = (), but: Sequence[str] = ()) -> str:
        """Choose a node that owns something, and touch it."""
        runs = self.fleet.runs().values()
        owners = {run.node for run in runs}
        names = [n for n in sorted(among or self.grounds.nodes) if n not in but]
        chosen = self.rng.choice([n for n in names if n in owners] or names)
        self.touch_nodes(chosen)
        return chosen

    def far_node(self) -> tuple[str, Wire]:
        """Choose a node behind a wire, and touch it."""
        chosen = self.node(sorted(self.grounds.daemons))
        return chosen, self.grounds.wires[chosen]

    def portfolio(self, on: str | None = None, but: Sequence[str] = ()) -> RunNow:
        """Choose a portfolio that runs, and touch it."""
        running = [
            run
            for run in self.fleet.runs().values()
            if run.phase == "running" and run.name not in but and (on is None or run.node == on)
        ]
        if not running:
            raise NotAvailable(f"nothing runs{f' on {on}' if on else ''}")
        chosen = self.rng.choice(running)
        self.touch(chosen.name)
        return chosen

    def target_for(self, run: RunNow, among: Sequence[str] = ()) -> str:
        """Choose another node with room for a portfolio."""
        answer = self.ask("GET", f"/api/schedule/targets/?portfolio={run.name}")
        if answer is None or answer.status != 200:
            raise NotAvailable(f"no targets for {run.name}")
        names = sorted(
            place["node"]
            for place in answer.json["results"]
            if place["feasible"] and place["node"] != run.node
        )
        names = [name for name in names if not among or name in among]
        if not names:
            raise NotAvailable(f"no other node has room for {run.name}")
        return self.rng.choice(names)

    # --- whom it touches ------------------------------------------------------------------------

    def touch(self, *portfolios: str) -> None:
        """These may pause."""
        self.footprint.add_portfolios(portfolios)

    def touch_nodes(self, *nodes: str) -> None:
        """What these own may pause."""
        self.footprint.add_nodes(nodes)

    def touch_everything(self, why: str) -> None:
        """Everything may pause."""
        self.footprint.add_everything(why)

    # --- wait and say -----------------------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        """Wait. Raise Interrupted where the run is to end."""
        if self.stopping.wait(seconds):
            raise Interrupted

    def expect(
        self, look: Callable[[], object], limit_s: float, what: str, invariant: str = "fault"
    ) -> bool:
        """Wait for a true answer of `look`; without one in time that is a violation."""
        began = time.monotonic()
        while True:
            try:
                found = look()
            except (OSError, AssertionError, psutil.Error) as error:
                found, why = None, str(error)
            else:
                why = f"{found!r}"
            if found:
                return True
            if time.monotonic() - began > limit_s:
                self.report(invariant, f"after {limit_s:g} s not yet: {what}", {"found": why})
                return False
            self.sleep(LOOK_EVERY_S)

    def note(self, text: str) -> None:
        """Say what happened, for the report."""
        self.notes.append(text)

    # --- act --------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Any = None) -> Answer | None:
        """Ask the API; None where nobody answered."""
        return self.grounds.ask(method, path, body)

    def do(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """Ask the API for something, again while nobody answers; return what it said, or None.

        A refusal is noted: while faults go on, many things are rightly refused.
        """
        for _ in range(100):
            answer = self.ask(method, path, {} if body is None else body)
            if answer is not None and answer.status < 500 and answer.status != 429:
                if answer.status < 300:
                    return answer.json
                self.note(f"{method} {path}: {answer.status} {answer.text[:160]}")
                return None
            self.sleep(0.2)
        self.report("I8", f"the API did not answer {method} {path} for 20 s", {})
        return None

    def migrate(self, run: RunNow, target: str) -> int | None:
        """Ask for a move and return its handoff's number, or None where it was refused."""
        found = self.do(
            f"/api/portfolios/{run.name}/migrate/", {"target_node": target, "reason": "chaos"}
        )
        return int(found["id"]) if found else None

    def state_of(self, handoff: int) -> str:
        """The state of a handoff, from the database, since the web may be away."""
        ((state,),) = self.fleet.query(
            "SELECT state FROM scheduling_handoff WHERE id = %s", handoff
        )
        return str(state)

    def expect_end(self, handoff: int | None, limit_s: float) -> str:
        """Wait until a handoff has ended, well or not; that it hangs is a violation."""
        if handoff is None:
            return ""
        self.expect(
            lambda: self.state_of(handoff) in ENDED, limit_s, f"the end of handoff {handoff}", "I8"
        )
        state = self.state_of(handoff)
        self.note(f"handoff {handoff} {state}")
        return state

    def wait_for_step(self, handoff: int, wanted: str, limit_s: float = 5.0) -> None:
        """Return as soon as a handoff is in this state, or past it."""
        order = ["requested", "preparing", "draining", "activating"]
        end = time.monotonic() + limit_s
        while time.monotonic() < end and not self.stopping.is_set():
            state = self.state_of(handoff)
            if state in ENDED or order.index(state) >= order.index(wanted):
                return
            time.sleep(0.002)

    def daemon(self, node: str) -> psutil.Process:
        """The process that holds the node's lease."""
        return self.fleet.daemon(node)

    def relaunch_far(self, node: str, ended: subprocess.Popen[str] | None = None) -> None:
        """Start a daemon behind a wire anew; those of the house come back by themselves.

        `ended` is the one that was ended, where it need not be the one of the step's beginning.
        """
        if node not in self._known:
            return
        (ended or self._known[node]).wait(15)
        with self.grounds.launching:
            # The other of two faults may have started one meanwhile, and it may be what we ended.
            with suppress(subprocess.TimeoutExpired):
                self.grounds.daemons[node].wait(0.5)
            if self.grounds.daemons[node].poll() is not None:
                self.grounds.launch(node)
            else:
                self.note(f"{node} was started anew by the other of two faults")
            self._known[node] = self.grounds.daemons[node]

    def kill_node(self, node: str) -> None:
        """kill -9 of a daemon, which comes back after a while."""
        self.daemon(node).kill()

    @contextmanager
    def held(self, processes: Sequence[psutil.Process]) -> Iterator[None]:
        """SIGSTOP while the context lasts."""
        with frozen(list(processes)):
            yield

    @contextmanager
    def node_held(self, node: str) -> Iterator[None]:
        """SIGSTOP of a daemon and all of its processes."""
        with frozen(family(self.daemon(node))):
            yield

    @contextmanager
    def away(self, processes: Sequence[psutil.Process]) -> Iterator[None]:
        """Killed, and not started again before the context ends: the launcher is held meanwhile."""
        assert self.fleet.process is not None
        with frozen([psutil.Process(self.fleet.process.pid)]):
            for process in processes:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            yield

    def parts(self, words: tuple[str, ...]) -> list[psutil.Process]:
        """The processes of one part of the control plane, the oldest first."""
        found = self.fleet.processes_of(*words)
        return sorted(found, key=lambda process: process.create_time())
