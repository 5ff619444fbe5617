"""One chaos run: start an installation, inject faults while it is monitored, verify the result."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from chaos.checkers import invariants
from chaos.checkers.blast_radius import BlastRadius
from chaos.checkers.findings import StepResult, Violation
from chaos.checkers.invariants import RunSample
from chaos.checkers.monitor import Monitor
from chaos.faults.registry import FAULTS_OF_FLEET
from chaos.harness import reference_feed
from chaos.harness.processes import process_tree
from chaos.runner import live_feed
from chaos.runner.convergence import LIMIT_S, ConvergenceCheck
from chaos.runner.fault_context import FaultContext, Interrupted, NotAvailable
from chaos.runner.outcome import Outcome, machine, version
from chaos.runner.schedule import ScheduledStep, schedule
from chaos.runner.topology import HALTING, Times, Topology
from ginkgo_site.env import CHECKOUT

IDLE_S = 8.0  #: time in which the idle installation is measured first
ALERTS_LIMIT_S = 20.0  #: time limit for alerts to close after their cause has gone
STEADY_S = 1.0  #: two checks this far apart must both find convergence
GIVE_UP_AFTER = 3  #: number of successive steps without convergence
#: Each open alert, and whether its cause persists. A kind that is not listed counts as having its
#: cause.
OPEN_ALERTS = """
SELECT a.kind, a.key, CASE
        WHEN a.kind = 'node_lost' THEN n.status = 'lost'
        WHEN a.kind IN ('quarantined', 'halted', 'pending') THEN r.phase = a.kind
        ELSE true END,
    a.gone_at IS NOT NULL
FROM scheduling_alert a LEFT JOIN scheduling_node n ON n.id = a.node_id
LEFT JOIN scheduling_run r ON r.portfolio_id = a.portfolio_id
WHERE a.closed_at IS NULL ORDER BY a.id
"""
#: What the launcher says of a process that exited (`supervised_process.Service`).
EXIT_LINE = re.compile(r"^(\S+) exited \((.*?)\)", re.MULTILINE)


class ChaosRun:
    """A chaos run. Set `stopping` to end it in order, with verification and a report."""

    def __init__(
        self,
        home: Path,
        times: Times,
        *,
        seed: int,
        minutes: float,
        faults: Sequence[str],
        steps: int | None = None,
        fleet: str = "one",
        feed_rate: float = 100.0,
        on_progress: Callable[[ChaosRun, str], None],
        on_step_end: Callable[[ChaosRun], None] = lambda run: None,
    ) -> None:
        """Schedule `faults`, given by name, for `minutes`, in an order drawn from `seed`.

        At most `steps` steps (None: all). `times`: the time limits of the installation.
        `on_progress` gets a text on every change, `on_step_end` is called after each step.
        """
        self.times, self.minutes = times, minutes
        self.stopping = threading.Event()
        self.topology = Topology(home, times, feed_rate, fleet)
        self._faults = FAULTS_OF_FLEET[fleet]
        planned = [self._faults[name].planned for name in faults]
        self.outcome = Outcome(
            seed,
            minutes,
            sorted(faults),
            version(),
            machine(),
            datetime.now(UTC),
            schedule=schedule(seed, minutes, planned)[:steps],
            fleet=fleet,
        )
        self.findings = self.outcome.findings
        if self.topology.live is not None:
            self.topology.live.report = self._report
        self.current: StepResult | None = None
        self._on_progress, self._on_step_end = on_progress, on_step_end
        self._began_s = time.monotonic()
        self._monitor = Monitor(
            self.topology.cluster.connect_monitor,
            self.findings,
            live_feed.NAMES if self.topology.live else frozenset(),
        )
        self._unconverged_in_a_row = 0
        self._output_checked = 0  #: characters of the launcher's output checked so far

    @property
    def elapsed_s(self) -> float:
        """Time since the installation was up."""
        return time.monotonic() - self._began_s

    def run(self) -> Outcome:
        """Inject faults until the time is over, then verify. Return the outcome."""
        outcome = self.outcome
        self._on_progress(self, "starting the installation")
        with self.topology.open():
            self._began_s = time.monotonic()
            try:
                self._clear_leftovers()
                self._await_convergence("the start")
                self._began_s = time.monotonic()
                self._monitor.start(self._began_s)
                self._measure_idle()
                outcome.is_whole = self._run_until_stopped()
                outcome.faults_lasted_s = self.elapsed_s
                self._verify()
            except Interrupted:
                outcome.ended_why = "it was interrupted"
            finally:
                self._monitor.stop()
                outcome.lasted_s = self.elapsed_s
                self._copy_monitor_results()
        return outcome

    def _run_until_stopped(self) -> bool:
        """Run the schedule. Return False if it was stopped, or the installation did not converge.
        After a first request to stop, wait for convergence before returning."""
        try:
            return self._run_schedule()
        except Interrupted:
            self.stopping.clear()
            self._restart_dead_daemons()
            self._clear_leftovers()
            self._await_convergence("the stop")
            self.outcome.ended_why = "a stop was requested"
            return False

    # --- the faults -----------------------------------------------------------------------------

    def _run_schedule(self) -> bool:
        """Run the steps. Return False if the installation stopped converging."""
        for step in self.outcome.schedule:
            if self.elapsed_s >= self.minutes * 60:
                self.outcome.ended_why = "the time was over"
                return True
            if self.stopping.is_set():
                raise Interrupted
            self._run_step(step)
            self.outcome.faults_lasted_s = self.outcome.lasted_s = self.elapsed_s
            self._copy_monitor_results()
            self._on_step_end(self)
            if self._unconverged_in_a_row >= GIVE_UP_AFTER:
                self.outcome.ended_why = f"{GIVE_UP_AFTER} successive steps did not converge"
                return False
        self.outcome.ended_why = "the schedule was complete"
        return True

    def _run_step(self, step: ScheduledStep) -> None:
        """Inject the faults of a step, wait for convergence, and check what must not have moved."""
        current = self.current = StepResult(step.number, step.faults, self.elapsed_s)
        self.findings.steps.append(current)
        self._on_progress(self, "")
        blast_radii = [BlastRadius() for _ in step.faults]
        before = self._runs()
        counted_before = self._count_events()
        self._monitor.begin_step(current, blast_radii)
        contexts = [
            self._context_for(step, name, blast_radius)
            for name, blast_radius in zip(step.faults, blast_radii, strict=True)
        ]
        try:
            self._inject_all(step.faults, contexts)
            current.ended_s = self.elapsed_s
            self._restart_dead_daemons()
            self._clear_leftovers()
            self._await_convergence(step.as_text())
            is_alone = len(step.faults) == 1 and not current.not_available
            if is_alone and self._faults[step.faults[0]].moves_nothing:
                self._check_moves(before, counted_before)
            self._check_exits(blast_radii)
        finally:
            current.ended_s = current.ended_s or self.elapsed_s
            current.notes += [note for context in contexts for note in context.notes]
            for context in contexts:
                current.measured |= context.measured
            self._monitor.end_step()
            self.current = None
        settled_s = current.settled_s
        end = "did not converge" if settled_s is None else f"converged in {settled_s:.1f} s"
        self._on_progress(self, f"step {step.number} ({' + '.join(step.faults)}) {end}")

    def _context_for(
        self, step: ScheduledStep, name: str, blast_radius: BlastRadius
    ) -> FaultContext:
        return FaultContext(
            self.topology,
            random.Random(f"{step.seed} {name}"),
            blast_radius,
            self.stopping,
            self._report,
            disregard_pauses=partial(setattr, self._monitor, "counts_pauses", False),
            forget_progress=self._monitor.forget_progress,
        )

    def _inject_all(self, names: Sequence[str], contexts: Sequence[FaultContext]) -> None:
        """Inject one or two faults at once, each in its own thread."""
        raised: list[BaseException] = []
        threads = [
            threading.Thread(target=self._inject, args=(name, context, raised), name=name)
            for name, context in zip(names, contexts, strict=True)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self._on_progress(self, "")
            for thread in threads:
                thread.join(0.5)
        if any(isinstance(error, Interrupted) for error in raised):
            raise Interrupted

    def _inject(self, name: str, context: FaultContext, raised: list[BaseException]) -> None:
        """Inject one fault. If it raises Interrupted, append that to `raised`.

        NotAvailable is recorded in the step, and a target that had ended in a note. Any other error
        is a violation.
        """
        try:
            with context.undo:
                self._faults[name].inject(context)
        except NotAvailable as why:
            if self.current is not None:
                self.current.not_available = str(why)
        except Interrupted as interrupted:
            raised.append(interrupted)
        except psutil.NoSuchProcess as gone:
            # The other fault of the step ended it first, or it had just ended.
            context.note(f"{name}: the target process had already ended ({gone})")
        except Exception as error:
            # Either the other fault of the step changed the state, or the fault is defective.
            self._report(
                "fault",
                f"{name} failed: {type(error).__name__}: {str(error)[:200]}",
                {"traceback": traceback.format_exc()},
            )

    # --- between two steps ----------------------------------------------------------------------

    def _restart_dead_daemons(self) -> None:
        """Restart ended daemons behind proxies, as a supervisor would."""
        for name, daemon in self.topology.daemons.items():
            if daemon.poll() is not None:
                self.topology.launch(name)

    def _clear_leftovers(self) -> None:
        """Undo correct consequences of a fault that would impede the next one.

        These are the record of lost nodes (after an hour of faults the balancer would trust no
        node), pins, and portfolios that halted after an outage as configured.
        """
        cluster = self.topology.cluster
        try:
            cluster.query("UPDATE scheduling_node SET lost_times = '[]'")
            pinned = cluster.query(
                "SELECT p.name FROM scheduling_run r JOIN portfolios_portfolio p"
                " ON p.id = r.portfolio_id WHERE r.pinned_node_id IS NOT NULL"
            )
        except Exception as error:
            self._report("I8", f"the database cannot be read after the fault: {error}", {})
            return
        for (name,) in pinned:
            self.topology.request("POST", f"/api/portfolios/{name}/unpin/", {})
        self._start_halted()

    def _await_convergence(self, after: str) -> None:
        """Wait for convergence. Report I8 as violated after the limit; give up after twice that."""
        limit_s = max(LIMIT_S, 2 * self.times.good_after_s)
        began, check, reported = time.monotonic(), ConvergenceCheck(self.topology), False
        while True:
            left = check.unconverged()
            if not left:
                # The balancer may not have noticed yet a node that has just come back.
                if self.stopping.wait(STEADY_S):
                    raise Interrupted
                left = check.unconverged()
            if not left:
                break
            waited_s = time.monotonic() - began
            if waited_s > limit_s and not reported:
                reported = True
                self._report(
                    "I8", f"{after}: not converged after {limit_s:g} s: {'; '.join(left[:4])}", {}
                )
            if waited_s > 2 * limit_s:
                self._unconverged_in_a_row += 1
                return
            if waited_s > 10:  # a daemon may have ended and a portfolio halted during the wait
                self._restart_dead_daemons()
                self._start_halted()
            self._on_progress(self, f"converging: {left[0]}")
            if self.stopping.wait(0.3):
                raise Interrupted
        self._unconverged_in_a_row = 0
        if self.current is not None:
            self.current.settled_s = round(time.monotonic() - began - STEADY_S, 2)

    def _start_halted(self) -> None:
        """Start every halted portfolio."""
        try:
            halted = self.topology.cluster.query(
                "SELECT p.name FROM scheduling_run r JOIN portfolios_portfolio p"
                " ON p.id = r.portfolio_id WHERE r.phase = 'halted' AND p.archived_at IS NULL"
            )
        except Exception:
            return  # the convergence check reports the unavailable database
        for (name,) in halted:
            self.topology.request("POST", f"/api/portfolios/{name}/start/", {})

    # --- checks that need the run -----------------------------------------------------------------

    def _report(self, invariant: str, what: str, evidence: dict[str, Any]) -> None:
        """Add a violation of the present step to the findings, and show it if it is new."""
        current = self.current
        step, faults = (current.step, current.faults) if current else (0, ())
        found = Violation(invariant, what, round(self.elapsed_s, 2), step, faults, evidence)
        if self.findings.add(found):
            self._on_progress(self, f"VIOLATION {invariant}: {what}")

    def _runs(self) -> dict[int, RunSample]:
        """Return portfolio id → run, as the monitor saw them last."""
        sample = self._monitor.latest  # at most 0.15 s old; nothing happened since convergence
        return dict(sample.runs) if sample else {}

    def _count_events(self) -> Counter[str]:
        """Return how many losses of nodes and halts of portfolios the audit log has, by kind."""
        rows = self.topology.cluster.query(
            "SELECT kind, count(*) FROM scheduling_event"
            " WHERE kind IN ('node_lost', 'halted') GROUP BY kind"
        )
        return Counter(dict(rows))

    def _check_moves(self, before: dict[int, RunSample], counted_before: Counter[str]) -> None:
        """Report portfolios that moved and nodes that were lost in a step that moves nothing."""
        happened = self._count_events() - counted_before
        must_stay = before
        was_halted = any(run.name == HALTING and run.node is None for run in before.values())
        if was_halted or happened["halted"]:
            # HALTING halted as its `catch_up` says, in this step or before it, and was started
            # again. The balancer may then move portfolios to even out the load.
            must_stay = {
                portfolio: run
                for portfolio, run in before.items()
                if run.name != HALTING and not self._was_rebalanced(portfolio, run)
            }
            if self.current is not None:
                self.current.notes.append(f"{HALTING} halted")
        for invariant, what in invariants.unexpected_moves(must_stay, self._runs()):
            self._report(invariant, what, {})
        if lost := happened["node_lost"]:
            self._report("I9", f"{lost} nodes were marked lost during a fault that loses none", {})

    def _was_rebalanced(self, portfolio_id: int, before: RunSample) -> bool:
        """Return whether every change of owner since `before` was a move by the balancer."""
        causes = self.topology.cluster.query(
            "SELECT t.cause, coalesce(h.requested_by, '') FROM scheduling_tenure t"
            " LEFT JOIN scheduling_handoff h ON h.id = t.handoff_id"
            " WHERE t.portfolio_id = %s AND t.epoch > %s",
            portfolio_id,
            before.epoch,
        )
        return all(cause == "migrate" and by == "balancer" for cause, by in causes)

    def _check_exits(self, blast_radii: Sequence[BlastRadius]) -> None:
        """Report a violation for each unaffected node whose daemon ended since the last check."""
        affected = {node for blast_radius in blast_radii for node in blast_radius.nodes}
        output = self.topology.cluster.output()
        new, self._output_checked = output[self._output_checked :], len(output)
        for name, how in EXIT_LINE.findall(new):
            if name.startswith("node-") and name not in affected:
                self._report("fault", f"{name} ended unexpectedly ({how})", {})

    # --- verification -----------------------------------------------------------------------------

    def _verify(self) -> None:
        """Check alerts, the canaries' digests, and every portfolio against its reference run."""
        if self.topology.live is not None:
            self._on_progress(self, "verifying: the feed in JetStream")
            self.topology.live.stop()
            self.topology.live.check()
            self.outcome.figures["rows_in_jetstream"] = self.topology.live.appended
            self.outcome.figures["appends_repeated"] = self.topology.live.failed_requests
        self._on_progress(self, "verifying: alerts")
        self._check_alerts()
        self._on_progress(self, "verifying: canaries")
        self._check_canaries()
        self._on_progress(self, "verifying: verify_portfolio of every portfolio")
        done = subprocess.run(
            [sys.executable, "manage.py", "verify_portfolio", "--all", "--full", "--json"],
            cwd=CHECKOUT,
            env=self.topology.cluster.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            self.outcome.verified = json.loads(done.stdout)["results"]
        except (ValueError, KeyError):
            self._report("I3", f"verify_portfolio failed: {done.stderr[-400:]}", {})
        for found in self.outcome.verified:
            if found.get("state") != "identical":
                what = f"{found.get('portfolio')} is not identical to its reference run: "
                self._report("I3", what + found.get("sentence", "")[:300], found)
        verified = {found["portfolio"] for found in self.outcome.verified}
        missing = set(self.topology.cluster.runs()) - verified
        if missing:
            self._report("I3", f"not verified: {', '.join(sorted(missing))}", {})

    def _check_alerts(self) -> None:
        """Check that every alert closes within a few passes, now that all causes have gone."""
        end = time.monotonic() + ALERTS_LIMIT_S
        while found := invariants.alert_violations(
            invariants.OpenAlert(*row) for row in self.topology.cluster.query(OPEN_ALERTS)
        ):
            if time.monotonic() > end:
                for invariant, what in found:
                    self._report(invariant, what, {})
                return
            if self.stopping.wait(0.5):
                raise Interrupted

    def _check_canaries(self) -> None:
        """Report canaries whose state does not have the digest of their feed's log."""
        for name, first in self.topology.cluster.query(
            "SELECT p.name, p.first_seq FROM portfolios_portfolio p JOIN portfolios_revision v"
            " ON v.portfolio_id = p.id AND v.number = p.revision"
            " WHERE v.strategy = 'canary' AND p.archived_at IS NULL ORDER BY p.name"
        ):
            answer = self.topology.request("GET", f"/api/portfolios/{name}/checkpoint/")
            if answer is None or answer.status != 200:
                self._report("I2", f"the checkpoint of {name} cannot be read", {})
                continue
            state = answer.json["state"]
            digest_of = reference_feed.digest_of
            if self.topology.live is not None and name in live_feed.NAMES:
                digest_of = self.topology.live.digest
            digest = digest_of(state["first_seq"], state["last_seq"])
            self.outcome.canaries += 1
            canary = invariants.Canary(name, first, state, digest)
            for invariant, what in invariants.canary_violations(canary):
                self._report(invariant, what, {})

    # --- figures ----------------------------------------------------------------------------------

    def _measure_idle(self) -> None:
        """Measure the processor time of the idle installation and of this runner."""
        self._on_progress(self, "measuring the idle installation")
        installation_s, runner_s = self._cpu_s(), time.process_time()
        began = time.monotonic()
        # In a short run at most a tenth of its minutes, or half a second for each step.
        if self.stopping.wait(min(IDLE_S, self.minutes * 6, len(self.outcome.schedule) / 2)):
            raise Interrupted
        figures, seconds = self.outcome.figures, time.monotonic() - began
        figures["idle_installation_cores"] = round((self._cpu_s() - installation_s) / seconds, 2)
        figures["idle_runner_cores"] = round((time.process_time() - runner_s) / seconds, 2)

    def _cpu_s(self) -> float:
        """Return the seconds of processor time that the installation has used."""
        cluster = self.topology.cluster
        processes = cluster.processes() + cluster.postgres_processes()
        for daemon in self.topology.daemons.values():
            processes += process_tree(psutil.Process(daemon.pid))
        total = 0.0
        for process in {p.pid: p for p in processes}.values():  # `processes` may name one twice
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def _copy_monitor_results(self) -> None:
        """Bring the outcome, from which reports are made, up to what the monitor found so far."""
        outcome, monitor = self.outcome, self._monitor
        outcome.longest_gaps = {
            name: round(gap.seconds, 2)
            for name, gap in sorted(monitor.bystanders.longest.copy().items())
        }
        outcome.samples_taken = monitor.samples_taken
        outcome.failed_samples = monitor.failed_samples
        outcome.hiccups = [(round(at, 1), round(long, 2)) for at, long in monitor.hiccups]
        outcome.figures["runner_cores"] = round(time.process_time() / max(outcome.lasted_s, 1), 2)
        outcome.figures["load_average_at_end"] = [round(each, 2) for each in os.getloadavg()]
