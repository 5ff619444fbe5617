"""Kill the control plane at each step of a handoff, many times, and see how each of them ends.

    python -m chaos.crashpoints --times 20 [--only web|watcher|worker|WORDS OF A NAME] [--json FILE]

A real house with shortened times; a process dies by kill -9 of itself at a failpoint. Exit 0: every
handoff ended, nothing was lost or twice, everything that should run goes on. Else 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.crashpoints.cases import EXTRA, STEPS, CaseContext, Step, lose, restart
from chaos.crashpoints.cluster import FailpointCluster, FailpointNotReached
from chaos.harness.installation import temporary_home

HEALED_S = 120.0  #: a handoff that has not ended by then, or a portfolio that stands, is stuck
MAX_MISSES = 5  #: on a busy machine a party may be quicker than the signal that should hold it
NOT_BEGUN = "not begun"  #: the request itself was undone with its process


@dataclass
class Row:
    """What became of one step over all its times."""

    step: Step
    met: int = 0
    missed: int = 0  #: times that nobody died, and that were done again
    ends: Counter[str] = field(default_factory=Counter)
    stuck: list[str] = field(default_factory=list)
    worst_s: float = 0.0
    violations: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The row as JSON."""
        return {
            "step": self.step.name,
            "process": self.step.process,
            "point": self.step.point,
            "times": self.met,
            "missed": self.missed,
            "ends": dict(self.ends),
            "stuck": self.stuck,
            "worst_s": round(self.worst_s, 1),
            "violations": self.violations,
        }


def rehearse(fleet: FailpointCluster, row: Row, times: int) -> None:
    """Kill at this step so many times and note what was seen.

    Raises AssertionError where the house does not come to rest again.
    """
    step, turn = row.step, 0
    frees = step.act in FREE
    fleet.wait_until_idle()
    (fleet.unfreeze if frees else fleet.freeze)()
    while row.met < times and row.missed < MAX_MISSES:
        if frees:
            fleet.wait_until_converged()
        turn += 1
        scene = CaseContext(fleet, turn)
        try:
            step.act(scene, step.process, step.point)
            row.met += 1
            began = time.monotonic()
            fleet.wait_until_recovered(HEALED_S)
            row.worst_s = max(row.worst_s, time.monotonic() - began)
        except FailpointNotReached:
            row.missed += 1
        except AssertionError as stuck:
            row.stuck.append(f"time {turn}: {stuck}")
        if row.met > row.ends.total():
            found = scene.handoff()
            row.ends[NOT_BEGUN if found is None else found[2]] += 1
        _judge(row, f"time {turn}", fleet.assert_history_whole)
        fleet.disarm()
        _tidy(fleet, scene)
    _judge(row, "in the end", fleet.assert_canaries_clean)


#: Acts after which the balancer has to even out, so nothing may hold it.
FREE = (lose, restart)


def _tidy(fleet: FailpointCluster, scene: CaseContext) -> None:
    """Undo what the step asked for: delete what was created, start what was stopped."""
    fleet.answering()
    if scene.portfolio == EXTRA and EXTRA in fleet.runs():
        # Where the request died with its process, a person asks again.
        fleet.ask("DELETE", f"/api/portfolios/{EXTRA}/")
    fleet.wait_until_idle()
    if scene.portfolio == "ge-sma" and fleet.run("ge-sma").node is None:
        fleet.ask("POST", "/api/portfolios/ge-sma/start/")
        fleet.wait_until_idle()


def _judge(row: Row, when: str, judge: Any) -> None:
    try:
        judge()
    except AssertionError as violation:
        row.violations.append(f"{when}: {violation}")


def table(rows: Sequence[Row]) -> str:
    """The rows as a table for people."""
    lines = [
        "| process | killed at | times | done | failed | rolled back | superseded | not begun "
        "| stuck | worst s | history |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        ends = [row.ends[end] for end in ("done", "failed", "rolled_back", "superseded", NOT_BEGUN)]
        whole = "whole" if not row.violations else f"{len(row.violations)} violations"
        lines.append(
            f"| {row.step.process} | {row.step.name} | {row.met} | "
            + " | ".join(str(number) for number in ends)
            + f" | {len(row.stuck)} | {row.worst_s:.1f} | {whole} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m chaos.crashpoints", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="kills at each step (%(default)s)")
    parser.add_argument("--only", default="", help="a process, or part of a step's name")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args(argv)
    steps = [s for s in STEPS if options.only in (s.process, "") or options.only in s.name]
    rows = [Row(step) for step in steps]
    waiting = list(rows)
    while waiting:
        # Where a house did not come to rest again the next one goes on with the next step.
        with temporary_home() as home:
            fleet = FailpointCluster(home)
            try:
                fleet.start()
                fleet.wait_until_converged()
                while waiting:
                    row = waiting.pop(0)
                    rehearse(fleet, row, options.times)
                    print(json.dumps(row.document()), file=sys.stderr, flush=True)
                    if options.json is not None:
                        found = [row.document() for row in rows]
                        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
            except AssertionError as unrest:
                row.stuck.append(f"the house did not come to rest: {unrest}")
                print(json.dumps(row.document()), file=sys.stderr, flush=True)
            finally:
                fleet.end()
    print(table(rows))
    return int(any(row.stuck or row.violations or row.met < options.times for row in rows))


if __name__ == "__main__":
    sys.exit(main())
