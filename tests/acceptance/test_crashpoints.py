"""The control plane dies at some steps of a handoff, one of each kind.

`python -m chaos.crashpoints` does it at all of them, as often as asked for, and prints the table;
that a process may end between any two statements is `integration/enact/test_failpoints.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.crashpoints.__main__ import NOT_BEGUN, Row, rehearse
from chaos.crashpoints.cases import STEPS, Step
from chaos.crashpoints.cluster import FailpointCluster
from chaos.harness.cluster import ENDED
from chaos.harness.installation import temporary_home
from tests.acceptance.conftest import SharedHouses

SHORT = [
    step
    for step in STEPS
    if (step.process, step.name)
    in {
        ("web", "grant, not yet durable"),
        ("watcher", "drain deadline, the grant"),
        ("watcher", "failover requested"),
    }
]
ENDS = {*ENDED, NOT_BEGUN}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rehearsal(shared_houses: SharedHouses) -> Iterator[FailpointCluster]:
    """A house of its own, since its processes die on purpose."""
    shared_houses.close()
    with temporary_home() as home:
        fleet = FailpointCluster(home)
        try:
            fleet.start()
            fleet.wait_until_converged()
            yield fleet
        finally:
            fleet.end()


@pytest.mark.parametrize("step", SHORT, ids=lambda step: f"{step.process}: {step.name}")
def test_a_death_at_this_step_ends_well_and_loses_nothing(
    rehearsal: FailpointCluster, step: Step
) -> None:
    row = Row(step)
    assert len(SHORT) == 3
    rehearse(rehearsal, row, times=1)
    assert row.met == 1
    assert row.stuck == []
    assert row.violations == []
    assert set(row.ends) <= ENDS
