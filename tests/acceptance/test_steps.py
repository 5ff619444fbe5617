"""The control plane dies at each step of a handoff, once each; `python -m chaos.steps` does it 20
times and prints the table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.house import a_home
from chaos.rehearsal import Rehearsal
from chaos.step_list import STEPS, Step
from chaos.steps import NOT_BEGUN, Row, rehearse
from tests.acceptance.conftest import SharedHouses

#: A queue looks at its schedule every 30 s: one step is enough to see that it resumes like others.
SHORT = [step for step in STEPS if step.process != "worker"] + [
    next(step for step in STEPS if step.process == "worker")
]
ENDS = {"done", "failed", "rolled_back", "superseded", NOT_BEGUN}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rehearsal(shared_houses: SharedHouses) -> Iterator[Rehearsal]:
    """A house of its own, since its processes die on purpose."""
    shared_houses.close()
    with a_home() as home:
        fleet = Rehearsal(home)
        try:
            fleet.start()
            fleet.settle()
            yield fleet
        finally:
            fleet.end()


@pytest.mark.parametrize("step", SHORT, ids=lambda step: f"{step.process}: {step.name}")
def test_a_death_at_this_step_ends_well_and_loses_nothing(rehearsal: Rehearsal, step: Step) -> None:
    row = Row(step)
    rehearse(rehearsal, row, times=1)
    assert row.met == 1
    assert row.stuck == []
    assert row.violations == []
    assert set(row.ends) <= ENDS
