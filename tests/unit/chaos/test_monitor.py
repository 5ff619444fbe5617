"""The monitor's start and stop."""

from __future__ import annotations

import psycopg

from chaos.checkers.findings import Findings
from chaos.checkers.monitor import Monitor


def test_a_monitor_that_was_never_started_can_be_stopped() -> None:
    findings = Findings()
    monitor = Monitor(lambda: psycopg.connect("postgresql://nowhere"), findings)
    monitor.stop()  # as in a run interrupted before its first convergence
    assert (monitor.samples_taken, findings.violations) == (0, [])
