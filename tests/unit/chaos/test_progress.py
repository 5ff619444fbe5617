"""The lines that `bin/chaos` prints while it runs, without a terminal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from chaos.checkers.findings import StepResult
from chaos.runner.progress import ProgressDisplay


def test_progress_lines_name_step_and_activity(capsys: pytest.CaptureFixture[str]) -> None:
    run: Any = SimpleNamespace(
        elapsed_s=63.4, minutes=5.0, current=None, findings=SimpleNamespace(violations=[])
    )
    display = ProgressDisplay()
    display.show(run, "measuring the idle installation")
    run.current = StepResult(3, ("kill-web", "drain"), 60.0)
    display.show(run, "")
    display.show(run, "")  # the same again: nothing is printed
    display.show(run, "converging: ibm-sma is pending")  # for the bar of a terminal only
    display.show(run, "VIOLATION I8: not converged")
    run.current = None
    display.show(run, "step 3 (kill-web + drain) converged in 2.1 s")
    assert capsys.readouterr().err.splitlines() == [
        "1:03 of 5 min, 0 violations: measuring the idle installation",
        "1:03 of 5 min, 0 violations: step 3 (kill-web + drain): injecting the faults",
        "1:03 step 3 (kill-web + drain): VIOLATION I8: not converged",
        "1:03 of 5 min, 0 violations: step 3 (kill-web + drain) converged in 2.1 s",
    ]
