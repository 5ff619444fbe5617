"""One run: a house, one fault after another, judges all along, and the proof in the end."""

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
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from chaos.checkers import invariants
from chaos.checkers.blast_radius import Footprint
from chaos.checkers.findings import StepResult, Violation
from chaos.checkers.invariants import RunSample
from chaos.checkers.monitor import Monitor
from chaos.faults.registry import FAULTS
from chaos.harness import reference_feed
from chaos.runner.convergence import LIMIT_S, Settling
from chaos.runner.fault_context import FaultContext, Interrupted, NotAvailable
from chaos.runner.outcome import Outcome, machine, version
from chaos.runner.schedule import Step, schedule
from chaos.runner.topology import HALTING, Times, Topology
from ginkgo_site.env import CHECKOUT, embedded_url

IDLE_S = 8.0  #: how long the house is measured before anything is done to it
ALERTS_LIMIT_S = 20.0  #: within which an alert has to notice that its cause is gone
STEADY_S = 1.0  #: everything has settled when it is found so twice, this far apart
GIVE_UP_AFTER = 3  #: steps in a row after which nothing settled
#: A cause that this does not know is taken for one that is there.
ALARMS = """
SELECT a.kind, a.key, CASE
        WHEN a.kind = 'node_lost' THEN n.status = 'lost'
        WHEN a.kind IN ('quarantined', 'halted', 'pending') THEN r.phase = a.kind
        ELSE true END,
    a.gone_at IS NOT NULL
FROM scheduling_alert a LEFT JOIN scheduling_node n ON n.id = a.node_id
LEFT JOIN scheduling_run r ON r.portfolio_id = a.portfolio_id
WHERE a.closed_at IS NULL ORDER BY a.id
"""
_ENDED = re.compile(r"^(?:ginkgo: )?(\S+) ended \((.*?)\)", re.MULTILINE)


class Run:
    """Does it. `stopping` ends it in order, with a proof and a report of what was done."""

    def __init__(
        self,
        home: Path,
        times: Times,
        *,
        seed: int,
        minutes: float,
        faults: Sequence[str],
        steps: int | None = None,
        say: Callable[[Run, str], None],
        keep: Callable[[Run], None] = lambda run: None,
    ) -> None:
        """`say` is told what happens, `keep` is called after each step."""
        self.times, self.minutes = times, minutes
        self.stopping = threading.Event()
        self.grounds = Topology(home, times)
        self.outcome = Outcome(
            seed,
            minutes,
            sorted(faults),
            version(),
            machine(),
            datetime.now(UTC),
            schedule=schedule(seed, minutes, [FAULTS[name].planned for name in faults])[:steps],
        )
        self.findings = self.outcome.findings
        self.doing: StepResult | None = None
        self._say, self._keep = say, keep
        self._began_s = time.monotonic()
        self._watch: Monitor | None = None
        self._unsettled_in_a_row = 0
        self._said_so_far = 0  #: characters of what the house printed that were judged

    @property
    def elapsed_s(self) -> float:
        """Since the house was up."""
        return time.monotonic() - self._began_s

    def go(self) -> Outcome:
        """Run until the time is over, then prove. Return what there is to report."""
        outcome = self.outcome
        self._say(self, "starting the house")
        with self.grounds.open():
            self._began_s = time.monotonic()
            self._watch = Monitor(lambda: embedded_url(self.grounds.fleet.home), self.findings)
            try:
                self._tidy()
                self._settle("the start")
                self._began_s = time.monotonic()
                self._watch.start(self._began_s)
                self._measure_idle()
                outcome.is_whole = self._do_or_stop()
                outcome.faults_lasted_s = self.elapsed_s
                self._prove()
            except Interrupted:
                outcome.ended_why = "interrupted"
            finally:
                self._watch.stop()
                outcome.lasted_s = self.elapsed_s
                self._take_from(self._watch)
        return outcome

    def _do_or_stop(self) -> bool:
        """Do everything. Asked to stop, settle what was begun; asked again, end without a proof."""
        try:
            return self._do_everything()
        except Interrupted:
            self.stopping.clear()
            self._revive()
            self._tidy()
            self._settle("the stop")
            self.outcome.ended_why = "it was asked to stop"
            return False

    # --- the faults -----------------------------------------------------------------------------

    def _do_everything(self) -> bool:
        assert self._watch is not None
        for step in self.outcome.schedule:
            if self.elapsed_s >= self.minutes * 60:
                self.outcome.ended_why = "the time was over"
                return True
            if self.stopping.is_set():
                raise Interrupted
            self._do(step)
            self.outcome.faults_lasted_s = self.outcome.lasted_s = self.elapsed_s
            self._take_from(self._watch)
            self._keep(self)
            if self._unsettled_in_a_row >= GIVE_UP_AFTER:
                self.outcome.ended_why = f"nothing settled {GIVE_UP_AFTER} times in a row"
                return False
        self.outcome.ended_why = "everything was done"
        return True

    def _do(self, step: Step) -> None:
        assert self._watch is not None
        doing = self.doing = StepResult(step.number, step.faults, self.elapsed_s)
        self.findings.steps.append(doing)
        self._say(self, "")
        footprints = [Footprint() for _ in step.faults]
        before = self._runs()
        lost_before = self._count_losses()
        self._watch.begin(doing, footprints)
        scenes = [
            self._scene(step, name, footprint)
            for name, footprint in zip(step.faults, footprints, strict=True)
        ]
        try:
            self._act(step.faults, scenes)
            doing.ended_s = self.elapsed_s
            self._revive()
            self._tidy()
            self._settle(step.as_text())
            is_alone = len(step.faults) == 1 and not doing.not_available
            if is_alone and FAULTS[step.faults[0]].moves_nothing:
                self._judge_moves(before, lost_before)
            self._judge_ends(footprints)
        finally:
            doing.ended_s = doing.ended_s or self.elapsed_s
            doing.notes = [note for scene in scenes for note in scene.notes]
            self._watch.end()
            self.doing = None
        self._say(self, f"{doing.settled_s:.1f} s" if doing.settled_s is not None else "unsettled")

    def _scene(self, step: Step, name: str, footprint: Footprint) -> FaultContext:
        assert self._watch is not None
        return FaultContext(
            self.grounds,
            random.Random(f"{step.seed} {name}"),
            footprint,
            self.stopping,
            self._report,
            partial(setattr, self._watch, "clock_is_true", False),
        )

    def _act(self, names: Sequence[str], scenes: Sequence[FaultContext]) -> None:
        """Do one or two faults at once, each in a thread of its own."""
        raised: list[BaseException] = []
        threads = [
            threading.Thread(target=self._act_one, args=(name, scene, raised), name=name)
            for name, scene in zip(names, scenes, strict=True)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self._say(self, "")
            for thread in threads:
                thread.join(0.5)
        if any(isinstance(error, Interrupted) for error in raised):
            raise Interrupted

    def _act_one(self, name: str, scene: FaultContext, raised: list[BaseException]) -> None:
        try:
            with scene.undo:
                FAULTS[name].act(scene)
        except NotAvailable as why:
            if self.doing is not None:
                self.doing.not_available = str(why)
        except Interrupted as interrupted:
            raised.append(interrupted)
        except psutil.NoSuchProcess as gone:
            # The other one of two faults at once was there first, or the process had just ended.
            scene.note(f"{name}: its victim was gone already ({gone})")
        except Exception as error:
            # The world may change under a fault that is one of two; else it is a defect of ours.
            self._report(
                "fault",
                f"{name} failed: {type(error).__name__}: {str(error)[:200]}",
                {"traceback": traceback.format_exc()},
            )

    # --- between them ---------------------------------------------------------------------------

    def _revive(self) -> None:
        """Start the daemons behind the wires that are gone, as a supervisor would."""
        for name, daemon in self.grounds.daemons.items():
            if daemon.poll() is not None:
                self.grounds.launch(name)

    def _tidy(self) -> None:
        """Take back what a fault may have left that is right but would stand in the next one's way.

        Memory of lost nodes: an hour of faults would teach the balancer to trust no node. Pins,
        and portfolios that halted, as they are told to do after an outage.
        """
        fleet = self.grounds.fleet
        try:
            fleet.query("UPDATE scheduling_node SET lost_times = '[]'")
            pinned = fleet.query(
                "SELECT p.name FROM scheduling_run r JOIN portfolios_portfolio p"
                " ON p.id = r.portfolio_id WHERE r.pinned_node_id IS NOT NULL"
            )
        except Exception as error:
            self._report("I8", f"the database cannot be read after the fault: {error}", {})
            return
        for (name,) in pinned:
            self.grounds.ask("POST", f"/api/portfolios/{name}/unpin/", {})
        self._start_halted()

    def _settle(self, after: str) -> None:
        """Wait until everything has settled; a minute without that is a violation (I8)."""
        began, settling, told = time.monotonic(), Settling(self.grounds), False
        while True:
            left = settling.unsettled()
            if not left:
                # The balancer may only be about to notice a node that has just come back.
                if self.stopping.wait(STEADY_S):
                    raise Interrupted
                left = settling.unsettled()
            if not left:
                break
            waited_s = time.monotonic() - began
            if waited_s > LIMIT_S and not told:
                told = True
                self._report("I8", f"{after}: after {LIMIT_S:g} s {'; '.join(left[:4])}", {})
            if waited_s > 2 * LIMIT_S:
                self._unsettled_in_a_row += 1
                return
            if waited_s > 10:
                self._revive()
                self._start_halted()
            self._say(self, f"settling: {left[0]}")
            if self.stopping.wait(0.3):
                raise Interrupted
        self._unsettled_in_a_row = 0
        if self.doing is not None:
            self.doing.settled_s = round(time.monotonic() - began - STEADY_S, 2)

    def _start_halted(self) -> None:
        try:
            halted = self.grounds.fleet.query(
                "SELECT p.name FROM scheduling_run r JOIN portfolios_portfolio p"
                " ON p.id = r.portfolio_id WHERE r.phase = 'halted' AND p.archived_at IS NULL"
            )
        except Exception:
            return  # the settling itself says that the database is away
        for (name,) in halted:
            self.grounds.ask("POST", f"/api/portfolios/{name}/start/", {})

    # --- judges that need the run -----------------------------------------------------------------

    def _report(self, invariant: str, what: str, evidence: dict[str, Any]) -> None:
        doing = self.doing
        kept = self.findings.add(
            Violation(
                invariant,
                what,
                round(self.elapsed_s, 2),
                doing.step if doing else 0,
                doing.faults if doing else (),
                evidence,
            )
        )
        if kept:
            self._say(self, f"VIOLATION {invariant}: {what}")

    def _runs(self) -> dict[int, RunSample]:
        look = self._watch.latest if self._watch else None
        # A look is 0.15 s old at most; nothing happened since everything had settled.
        return dict(look.runs) if look else {}

    def _count_losses(self) -> int:
        ((count,),) = self.grounds.fleet.query(
            "SELECT count(*) FROM scheduling_event WHERE kind = 'node_lost'"
        )
        return int(count)

    def _judge_moves(self, before: dict[int, RunSample], lost_before: int) -> None:
        lost = self._count_losses() - lost_before
        after = self._runs()
        kept = before
        if halts(before, after):
            # As its catch_up asks; and of what it leaves uneven something may be evened out.
            kept = {n: run for n, run in before.items() if not self._was_evened_out(n, run)}
            if self.doing is not None:
                self.doing.notes.append(f"{HALTING} halted")
        for invariant, what in invariants.moved(kept, after):
            self._report(invariant, what, {})
        if lost:
            self._report("I9", f"{lost} nodes were called lost by a fault that loses none", {})

    def _was_evened_out(self, number: int, before: RunSample) -> bool:
        causes = self.grounds.fleet.query(
            "SELECT t.cause, coalesce(h.requested_by, '') FROM scheduling_tenure t"
            " LEFT JOIN scheduling_handoff h ON h.id = t.handoff_id"
            " WHERE t.portfolio_id = %s AND t.epoch > %s",
            number,
            before.epoch,
        )
        return before.name == HALTING or all(
            cause == "migrate" and by == "balancer" for cause, by in causes
        )

    def _judge_ends(self, footprints: Sequence[Footprint]) -> None:
        """A daemon that nobody touched may not end."""
        touched = {node for footprint in footprints for node in footprint.nodes}
        said = self.grounds.fleet.output()
        new, self._said_so_far = said[self._said_so_far :], len(said)
        for name, how in _ENDED.findall(new):
            if name.startswith("node-") and name not in touched:
                self._report("fault", f"{name} ended by itself ({how})", {})

    # --- the proof --------------------------------------------------------------------------------

    def _prove(self) -> None:
        """Canaries by their digests, and every portfolio against an uninterrupted run."""
        self._say(self, "proving: alerts")
        self._judge_alerts()
        self._say(self, "proving: canaries")
        self._judge_canaries()
        self._say(self, "proving: verify_portfolio of every portfolio")
        done = subprocess.run(
            [sys.executable, "manage.py", "verify_portfolio", "--all", "--full", "--json"],
            cwd=CHECKOUT,
            env=self.grounds.fleet.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            self.outcome.verified = json.loads(done.stdout)["results"]
        except (ValueError, KeyError):
            self._report("I3", f"nothing could be verified: {done.stderr[-400:]}", {})
        for found in self.outcome.verified:
            if found.get("state") != "identical":
                self._report(
                    "I3",
                    f"{found.get('portfolio')} is not identical to an uninterrupted run:"
                    f" {found.get('sentence', '')[:300]}",
                    found,
                )
        missing = set(self.grounds.fleet.runs()) - {f["portfolio"] for f in self.outcome.verified}
        if missing:
            self._report("I3", f"not verified: {', '.join(sorted(missing))}", {})

    def _judge_alerts(self) -> None:
        """Nothing is wrong any more, so within a few passes no alert may say so."""
        end = time.monotonic() + ALERTS_LIMIT_S
        while found := invariants.alarms(
            invariants.Alarm(*row) for row in self.grounds.fleet.query(ALARMS)
        ):
            if time.monotonic() > end:
                for invariant, what in found:
                    self._report(invariant, what, {})
                return
            if self.stopping.wait(0.5):
                raise Interrupted

    def _judge_canaries(self) -> None:
        fleet = self.grounds.fleet
        for name, first in fleet.query(
            "SELECT p.name, p.first_seq FROM portfolios_portfolio p JOIN portfolios_revision v"
            " ON v.portfolio_id = p.id AND v.number = p.revision"
            " WHERE v.strategy = 'canary' AND p.archived_at IS NULL ORDER BY p.name"
        ):
            answer = self.grounds.ask("GET", f"/api/portfolios/{name}/checkpoint/")
            if answer is None or answer.status != 200:
                self._report("I2", f"the checkpoint of {name} cannot be read", {})
                continue
            state = answer.json["state"]
            digest = reference_feed.digest_of(state["first_seq"], state["last_seq"])
            self.outcome.canaries += 1
            for invariant, what in invariants.canary(invariants.Canary(name, first, state, digest)):
                self._report(invariant, what, {})

    # --- figures ----------------------------------------------------------------------------------

    def _measure_idle(self) -> None:
        """How much of a processor the house takes when nothing is done to it, and we do."""
        self._say(self, "measuring the idle house")
        house, ours = self._cpu_s(), _own_cpu_s()
        began = time.monotonic()
        if self.stopping.wait(min(IDLE_S, self.minutes * 6, len(self.outcome.schedule) / 2)):
            raise Interrupted
        seconds = time.monotonic() - began
        self.outcome.figures["idle_house_cores"] = round((self._cpu_s() - house) / seconds, 2)
        self.outcome.figures["idle_runner_cores"] = round((_own_cpu_s() - ours) / seconds, 2)

    def _cpu_s(self) -> float:
        fleet = self.grounds.fleet
        processes = fleet.processes() + fleet.postgres()
        for daemon in self.grounds.daemons.values():
            process = psutil.Process(daemon.pid)
            processes += [process, *process.children(recursive=True)]
        total = 0.0
        for process in {p.pid: p for p in processes}.values():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def _take_from(self, watch: Monitor) -> None:
        outcome = self.outcome
        outcome.longest_gaps = {
            name: round(gap.seconds, 2)
            for name, gap in sorted(watch.bystanders.longest.copy().items())
        }
        outcome.looks, outcome.blind_looks = watch.looks, watch.blind_looks
        outcome.hiccups = [(round(at, 1), round(long, 2)) for at, long in watch.hiccups]
        outcome.figures["runner_cores"] = round(_own_cpu_s() / max(outcome.lasted_s, 1), 2)
        outcome.figures["load_average_at_end"] = [round(each, 2) for each in os.getloadavg()]


def halts(before: dict[int, RunSample], after: dict[int, RunSample]) -> bool:
    """Whether the one portfolio that halts after an outage was started again."""
    return any(
        run.name == HALTING and number in after and after[number].epoch != run.epoch
        for number, run in before.items()
    )


def _own_cpu_s() -> float:
    times = os.times()
    return times.user + times.system
