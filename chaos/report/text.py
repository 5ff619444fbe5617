"""The report of a run as text and JSON: each fault with its frequency, pauses and violations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaos.checkers.findings import OwnerChange, StepResult, Violation
from chaos.runner.outcome import Outcome


@dataclass(frozen=True)
class FaultSummary:
    """Figures of one fault over the whole run."""

    fault: str
    times: int
    handoffs: int
    pause_p50_ms: float | None
    pause_p99_ms: float | None
    pause_worst_ms: float | None
    bystander_gap_s: float
    settled_worst_s: float | None
    violations: int
    not_available: str = ""  #: why the fault was never injected; "": it was


def fault_summaries(
    steps: Sequence[StepResult], changes: Sequence[OwnerChange], violations: Sequence[Violation]
) -> list[FaultSummary]:
    """Return the figures of each injected fault, by name. A step of two faults counts for both."""
    found = []
    for name in sorted({name for step in steps for name in step.faults}):
        of_fault = [step for step in steps if name in step.faults]
        # Of two faults, at least one was injected: `not_available` does not say which.
        done = [step for step in of_fault if len(step.faults) == 2 or not step.not_available]
        moves = [change for change in changes if name in change.faults]
        pauses = [change.pause_ms for change in moves if change.pause_ms is not None]
        settled = [step.settled_s for step in of_fault if step.settled_s is not None]
        found.append(
            FaultSummary(
                name,
                times=len(done),
                handoffs=len(moves),
                pause_p50_ms=percentile(pauses, 50),
                pause_p99_ms=percentile(pauses, 99),
                pause_worst_ms=max(pauses, default=None),
                bystander_gap_s=max((step.longest_gap_s for step in of_fault), default=0.0),
                settled_worst_s=max(settled, default=None),
                violations=sum(name in violation.faults for violation in violations),
                not_available="" if done else of_fault[0].not_available,
            )
        )
    return found


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the nearest-rank percentile, or None without values."""
    if not values:
        return None
    ordered = sorted(values)
    rank = max(-(-len(ordered) * percent // 100), 1)  # rounded up
    return ordered[int(rank) - 1]


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as a JSON object, from which all reports are made."""
    findings = outcome.findings
    table = fault_summaries(findings.steps, findings.changes, findings.violations)
    return {
        "fleet": outcome.fleet,
        "seed": outcome.seed,
        "minutes": outcome.minutes,
        "version": outcome.version,
        "machine": outcome.machine,
        "began_at": outcome.began_at.isoformat().replace("+00:00", "Z"),
        "lasted_s": round(outcome.lasted_s, 1),
        "faults_lasted_s": round(outcome.faults_lasted_s, 1),
        "is_whole": outcome.is_whole,
        "ended_why": outcome.ended_why,
        "steps_done": len(findings.steps),
        "handoffs": len(findings.changes),
        "violations": [asdict(violation) for violation in findings.violations],
        "verified": outcome.verified,
        "canaries": outcome.canaries,
        "table": [asdict(line) for line in table],
        "longest_bystander_gap_s": outcome.longest_gaps,
        "looks": outcome.samples_taken,
        "blind_looks": outcome.failed_samples,
        "hiccups": outcome.hiccups,
        "figures": outcome.figures,
        "steps": [asdict(step) for step in findings.steps],
        "changes": [asdict(change) for change in findings.changes],
        "schedule": [asdict(step) for step in outcome.schedule],
    }


def verdict(report: dict[str, Any]) -> str:
    """Return the result of the run in one sentence."""
    identical = sum(each.get("state") == "identical" for each in report["verified"])
    count = len(report["violations"])
    violations = "No violation" if count == 0 else f"{count} violation{'s' if count > 1 else ''}"
    return (
        f"{violations} in {report['steps_done']} steps and {report['handoffs']} changes of owner or"
        f" revision over {report['faults_lasted_s'] / 60:.1f} minutes;"
        f" {identical} of {len(report['verified'])}"
        f" portfolios identical to the reference run, {report['canaries']} canaries checked."
    )


HEAD = (
    *("fault", "times", "handoffs", "p50 ms", "p99 ms", "worst ms"),
    *("bystander s", "settled s", "violations"),
)


def cells(line: dict[str, Any]) -> tuple[str, ...]:
    """Return a FaultSummary as cells of the table with the columns HEAD; – for a missing figure."""
    if line["not_available"]:
        return (line["fault"], "0", f"not available: {line['not_available']}", *[""] * 6)

    def number(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:,.{digits}f}"

    return (
        line["fault"],
        str(line["times"]),
        str(line["handoffs"]),
        number(line["pause_p50_ms"], 0),
        number(line["pause_p99_ms"], 0),
        number(line["pause_worst_ms"], 0),
        number(line["bystander_gap_s"], 2),
        number(line["settled_worst_s"], 1),
        str(line["violations"]),
    )


def as_text(report: dict[str, Any]) -> str:
    """Return the report as plain text."""
    machine = report["machine"]
    rows = [HEAD, *(cells(line) for line in report["table"])]
    widths = [
        # The reason why a fault is not available may be longer than any figure.
        max(len(row[n]) for row in rows if not row[2].startswith("not available"))
        for n in range(len(HEAD))
    ]
    table = "\n".join(
        "  ".join(
            text.ljust(width) if n == 0 else text.rjust(width)
            for n, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    why = report["ended_why"]
    gaps = ", ".join(f"{name} {gap:g}" for name, gap in report["longest_bystander_gap_s"].items())
    parts = [
        f"bin/chaos --fleet {report['fleet']} --minutes {report['minutes']:g}"
        f" --seed {report['seed']}, version {report['version']}, began {report['began_at'][:19]}Z",
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']:g} GB,"
        f" {machine['system']}, Python {machine['python']}",
        verdict(report),
        f"The run ended because {why}." if why else "The run has not ended.",
        "",
        *(Violation(**each).as_text() for each in report["violations"]),
        *([""] if report["violations"] else []),
        table,
        "",
        *_measured_lines(report),
        f"Longest gap between commits of a bystander, seconds: {gaps}.",
        sampling(report),
        f"Figures: {json.dumps(report['figures'])}.",
        *(
            f"{each.get('portfolio')}: {each.get('sentence') or each.get('state')}"
            for each in report["verified"]
        ),
    ]
    return "\n".join(parts) + "\n"


PAUSE = "longest time between two commits of any portfolio"


def measured_seconds(report: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Return faults of a step → what was measured → seconds, one for each step of these faults."""
    by_fault: dict[str, dict[str, list[float]]] = {}
    for step in report["steps"]:
        seconds_of = dict(step["measured"])
        if seconds_of:  # a step that measured nothing gets no line
            seconds_of[PAUSE] = round(step["longest_pause_s"], 2)
        for what, seconds in seconds_of.items():
            by_fault.setdefault(" + ".join(step["faults"]), {}).setdefault(what, []).append(seconds)
    return dict(sorted(by_fault.items()))


def _measured_lines(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{fault}: {what}: {min(seconds):g} to {max(seconds):g} s (times: {len(seconds)})"
        for fault, by_what in measured_seconds(report).items()
        for what, seconds in by_what.items()
    ]
    return [*lines, ""] if lines else []


def sampling(report: dict[str, Any]) -> str:
    """Return two sentences on how often the monitor sampled, failed, and was late."""
    late = ", ".join(f"{long:g} s at {at:g} s" for at, long in report["hiccups"]) or "none"
    return (
        f"Samples: {report['looks']:,}, failed: {report['blind_looks']}."
        f" Samples more than a second late because the machine was busy: {late}."
    )


def write(report: dict[str, Any], folder: Path) -> None:
    """Write report.txt, report.json and report.html into a folder, made if it is missing."""
    from chaos.report.html import as_page  # which imports this module

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.txt").write_text(as_text(report), encoding="utf-8")
    (folder / "report.json").write_text(
        json.dumps(report, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8"
    )
    (folder / "report.html").write_text(as_page(report), encoding="utf-8")
