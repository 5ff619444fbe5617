"""The report of a chaos run: its figures, and a self-contained page."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chaos.checkers.findings import Findings, OwnerChange, StepResult, Violation
from chaos.report import plots, text
from chaos.runner.outcome import Outcome


@pytest.fixture
def outcome() -> Outcome:
    """Three steps: kill-web twice, once with resets; packets-dropped not available."""
    findings = Findings()
    findings.steps += [
        StepResult(1, ("kill-web",), 0, 10, settled_s=1.5, longest_gap_s=0.3),
        StepResult(2, ("kill-web", "resets"), 12, 20, settled_s=4.0, longest_gap_s=0.9),
        StepResult(3, ("packets-dropped",), 21, 21.1, settled_s=0.1, not_available="needs root"),
    ]
    for number, pause_ms in enumerate([10.0, 20.0, 400.0], 1):
        findings.changes.append(
            OwnerChange(number, "ibm-sma", "node-1", "migrate", number, pause_ms, 1, ("kill-web",))
        )
    findings.changes.append(OwnerChange(15, "<b>", "node-2", "stop", 9, None, 2, ("resets",)))
    machine = {"system": "s", "python": "3", "processor": "p", "cores": 2, "memory_gb": 8}
    found = Outcome(7, 1, ["kill-web"], "abc", machine, datetime(2026, 1, 1, tzinfo=UTC))
    found.findings, found.is_whole = findings, True
    found.verified = [{"portfolio": "ibm-sma", "state": "identical", "sentence": "identical"}]
    return found


def test_table_line_of_a_fault_has_its_count_and_pauses(outcome: Outcome) -> None:
    table = {line["fault"]: line for line in text.as_dict(outcome)["table"]}
    web = table["kill-web"]
    assert (web["times"], web["handoffs"], web["violations"]) == (2, 3, 0)
    assert (web["pause_p50_ms"], web["pause_p99_ms"], web["pause_worst_ms"]) == (20, 400, 400)
    assert (web["bystander_gap_s"], web["settled_worst_s"]) == (0.9, 4.0)
    assert (table["resets"]["times"], table["resets"]["pause_worst_ms"]) == (1, None)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0.5, "0.5 ms"), (12.3, "12.3 ms"), (999.4, "999 ms"), (999.6, "1 s"), (1234567, "1,235 s")],
)
def test_a_time_is_shown_without_an_exponent(ms: float, text: str) -> None:
    assert plots.format_ms(ms) == text


def test_an_unavailable_fault_is_named_and_not_counted(outcome: Outcome) -> None:
    assert text.verdict(text.as_dict(outcome)).startswith("No violation in 3 steps and 4 ch")
    table = {line["fault"]: line for line in text.as_dict(outcome)["table"]}
    assert table["packets-dropped"]["times"] == 0
    assert "not available: needs root" in text.as_text(text.as_dict(outcome))


def test_a_violation_is_reported_once_in_verdict_and_text(outcome: Outcome) -> None:
    broken = Violation("I7", "ibm-sma <paused>", 13.0, 2, ("kill-web", "resets"))
    assert outcome.findings.add(broken)
    assert not outcome.findings.add(broken)
    found = text.as_dict(outcome)
    assert text.verdict(found).startswith("1 violation in 3 steps")
    assert "I7 at 13.0 s in 2 kill-web + resets: ibm-sma <paused>" in text.as_text(found)
    counted = {line["fault"]: line["violations"] for line in found["table"]}
    assert counted == {"kill-web": 1, "packets-dropped": 0, "resets": 1}


def test_measured_times_are_listed_by_fault_with_the_longest_pause(outcome: Outcome) -> None:
    for step, seconds in zip(outcome.findings.steps, (4.0, 6.5), strict=False):
        step.measured, step.longest_pause_s = {"a new primary": seconds}, seconds / 2
    found = text.as_text(text.as_dict(outcome))
    assert "kill-web: a new primary: 4 to 4 s (times: 1)" in found
    assert f"kill-web + resets: {text.PAUSE}: 3.25 to 3.25 s (times: 1)" in found
    assert "packets-dropped:" not in found


def test_the_page_is_self_contained_and_escaped(outcome: Outcome, tmp_path: Path) -> None:
    outcome.findings.add(Violation("I7", "<script>", 13.0, 2, ("resets",)))
    text.write(text.as_dict(outcome), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "<script" not in page and "&lt;script&gt;" in page and "<b>" not in page
    assert not re.findall(r"(?:src|href)=\"(?!#)|url\((?!#)|@import", page)
    assert json.loads((tmp_path / "report.json").read_text())["seed"] == 7


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 50, None), ([5.0], 99, 5.0), ([1.0, 2.0, 3.0, 4.0], 50, 2.0), ([1.0, 2.0], 99, 2.0)],
)
def test_percentile_is_one_of_the_measured_values(
    values: list[float], percent: float, expected: float | None
) -> None:
    assert text.percentile(values, percent) == expected
