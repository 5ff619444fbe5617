"""The judge that looks all the time, apart from its looks."""

from __future__ import annotations

from chaos.checkers.findings import Findings
from chaos.checkers.monitor import Monitor


def test_one_that_was_never_started_can_be_stopped() -> None:
    findings = Findings()
    monitor = Monitor(lambda: "postgresql://nowhere", findings)
    monitor.stop()  # as a run does that is interrupted while its house settles for the first time
    assert (monitor.samples_taken, findings.violations) == (0, [])
