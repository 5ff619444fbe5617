"""A short run of bin/chaos: fixed faults in a fixed order, without violations.

It ends after a number of steps, not after a time, so that a busy machine runs the same steps.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.faults import registry
from chaos.runner.schedule import schedule
from tests.acceptance.conftest import SharedInstallations
from tests.support.python_process import run_python

FAULTS = ("answers-lost", "kill-daemon")
SEED = 13  # with which both are in the first step, at once
MINUTES = 20
STEPS = 1


@pytest.mark.slow
def test_a_short_chaos_run_has_no_violation(
    shared_installations: SharedInstallations, tmp_path: Path
) -> None:
    planned = schedule(SEED, MINUTES, [registry.FAULTS[name].planned for name in FAULTS])
    assert sorted(planned[0].faults) == sorted(FAULTS)
    shared_installations.close()
    done = run_python(
        *("-m", "chaos", "--minutes", str(MINUTES), "--steps", str(STEPS), "--seed", str(SEED)),
        *("--json", "--faults", ",".join(FAULTS), "--report", str(tmp_path)),
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    print(f"\n{(tmp_path / 'report.txt').read_text()}")
    assert found["violations"] == []
    assert done.returncode == 0, done.stderr
    assert found["is_whole"] and found["steps_done"] == STEPS and found["handoffs"] >= 1
    assert found["canaries"] == 5 and found["blind_looks"] < found["looks"]
    assert {each["state"] for each in found["verified"]} == {"identical"}
    assert len(found["verified"]) >= 14
