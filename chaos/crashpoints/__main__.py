"""Kill a control-plane process at each step of a handoff, repeatedly, and check the recovery.

    python -m chaos.crashpoints --times 20 [--only web|watcher|worker|PART OF A NAME] [--json FILE]

Runs on a real installation with short time limits; the process kills itself with kill -9 at a
failpoint. Exit 0 if every handoff ended, no event was lost or processed twice, and every portfolio
that should run runs. Otherwise 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.crashpoints.cases import CASES, EXTRA, CaseContext, CrashCase, lose_node, restart_daemon
from chaos.crashpoints.cluster import FailpointCluster, FailpointNotReached
from chaos.harness.installation import temporary_home
from portfolios.runtime.closed_output import exits_on_closed_output

RECOVERY_LIMIT_S = 120.0  #: a handoff open for longer, or a portfolio without progress, is stuck
#: Misses after which a case is given up. It misses if a node acts before the signal that should
#: suspend it, as happens on a busy machine.
MAX_MISSES = 5
NOT_BEGUN = "not begun"  #: the request was rolled back with its process


@dataclass
class CaseResult:
    """Result of one crash case over all its repetitions."""

    case: CrashCase
    met: int = 0  #: repetitions in which a process died at the failpoint
    missed: int = 0  #: repetitions in which no process reached the failpoint; they are repeated
    ends: Counter[str] = field(default_factory=Counter)  #: last states of the handoffs
    stuck: list[str] = field(default_factory=list)  #: what did not recover in time
    worst_s: float = 0.0  #: longest recovery
    violations: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {
            "step": self.case.name,
            "process": self.case.process,
            "point": self.case.point,
            "times": self.met,
            "missed": self.missed,
            "ends": dict(self.ends),
            "stuck": self.stuck,
            "worst_s": round(self.worst_s, 1),
            "violations": self.violations,
        }


def run_case(cluster: FailpointCluster, result: CaseResult, times: int) -> None:
    """Repeat a crash case until processes have died `times` times at its failpoint; fill `result`.

    Give up after MAX_MISSES repetitions in which no process reached the failpoint, or after
    MAX_MISSES in which something did not recover. Raise AssertionError if the installation does not
    become idle again.
    """
    case, attempt = result.case, 0
    rebalances = case.action in REBALANCED
    cluster.wait_until_idle()
    cluster.set_frozen(is_frozen=not rebalances)
    while result.met < times and max(result.missed, len(result.stuck)) < MAX_MISSES:
        if rebalances:
            cluster.wait_until_converged()
        attempt += 1
        context = CaseContext(cluster, attempt)
        reached_failpoint = False
        try:
            case.action(context, case.process, case.point)
            reached_failpoint = True
            result.met += 1
            began = time.monotonic()
            cluster.wait_until_recovered(RECOVERY_LIMIT_S)
            result.worst_s = max(result.worst_s, time.monotonic() - began)
        except FailpointNotReached:
            result.missed += 1
        except AssertionError as stuck:
            result.stuck.append(f"time {attempt}: {stuck}")
        if reached_failpoint:
            handoff = context.handoff()  # None: rolled back with the process
            result.ends[NOT_BEGUN if handoff is None else handoff.state] += 1
        _record_violations(result, f"time {attempt}", cluster.assert_history_whole)
        cluster.disarm()
        _clear_leftovers(cluster, context)
    _record_violations(result, "in the end", cluster.assert_canaries_clean)


#: Actions after which the balancer has to rebalance, so it must not be frozen.
REBALANCED = (lose_node, restart_daemon)


def _clear_leftovers(cluster: FailpointCluster, context: CaseContext) -> None:
    """Undo what the case did: delete the portfolio it created, start the one it stopped."""
    cluster.wait_until_ready()
    if context.portfolio == EXTRA and EXTRA in cluster.runs():
        # A case that deletes it may have failed, since its request died with the process.
        cluster.request("DELETE", f"/api/portfolios/{EXTRA}/")
    cluster.wait_until_idle()
    if context.portfolio == "ge-sma" and cluster.run("ge-sma").node is None:
        cluster.request("POST", "/api/portfolios/ge-sma/start/")
        cluster.wait_until_idle()


def _record_violations(result: CaseResult, when: str, check: Callable[[], object]) -> None:
    """Run `check`, and add the AssertionError that it raises to the violations of the case."""
    try:
        check()
    except AssertionError as violation:
        result.violations.append(f"{when}: {violation}")


def table(results: Sequence[CaseResult]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| process | killed at | times | done | failed | rolled back | superseded | not begun "
        "| stuck | worst s | history |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for result in results:
        ends = [
            result.ends[end] for end in ("done", "failed", "rolled_back", "superseded", NOT_BEGUN)
        ]
        whole = "whole" if not result.violations else f"{len(result.violations)} violations"
        lines.append(
            f"| {result.case.process} | {result.case.name} | {result.met} | "
            + " | ".join(str(number) for number in ends)
            + f" | {len(result.stuck)} | {result.worst_s:.1f} | {whole} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the selected crash cases. Return 0 if each was met and recovered from, else 1.

    Raise AssertionError if an installation does not start: no case can then be run.
    """
    parser = argparse.ArgumentParser(prog="python -m chaos.crashpoints", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="kills in each case (%(default)s)")
    parser.add_argument("--only", default="", help="a process, or part of a case's name (all)")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args(argv)
    only = options.only
    cases = [case for case in CASES if only == case.process or only in case.name]
    if not cases:
        parser.error(f"argument --only: {only!r} is neither a process nor part of a case's name")
    results = [CaseResult(case) for case in cases]
    waiting = list(results)
    while waiting:
        # If an installation does not become idle again, a new one continues with the next case.
        with temporary_home() as home:
            cluster = FailpointCluster(home)
            try:
                cluster.start()
                cluster.wait_until_converged()
                is_usable = True
                while waiting and is_usable:
                    result = waiting.pop(0)
                    try:
                        run_case(cluster, result, options.times)
                    except AssertionError as unrest:
                        result.stuck.append(f"the installation did not become idle: {unrest}")
                        is_usable = False
                    print(json.dumps(result.document()), file=sys.stderr, flush=True)
                    if options.json is not None:
                        found = [result.document() for result in results]
                        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
            finally:
                cluster.kill_everything()
    print(table(results))
    return int(
        any(result.stuck or result.violations or result.met < options.times for result in results)
    )


if __name__ == "__main__":
    with exits_on_closed_output():
        sys.exit(main())
