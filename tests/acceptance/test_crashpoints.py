"""A control-plane process dies at selected steps of a handoff, one of each kind.

`python -m chaos.crashpoints` runs all cases, repeatedly, and prints the table. That a process may
die between any two statements is tested in `integration/enact/test_failpoints.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.crashpoints.__main__ import NOT_BEGUN, CaseResult, run_case
from chaos.crashpoints.cases import CASES, CrashCase
from chaos.crashpoints.cluster import FailpointCluster
from chaos.harness.observation import ENDED

SHORT = [
    case
    for case in CASES
    if (case.process, case.name)
    in {("web", "grant, not yet durable"), ("watcher", "failover requested")}
]
ENDS = {*ENDED, NOT_BEGUN}

pytestmark = pytest.mark.slow


@pytest.fixture
def failpoint_cluster(mortal_cluster: FailpointCluster) -> Iterator[FailpointCluster]:
    """The installation, without an armed failpoint or a freeze afterwards."""
    yield mortal_cluster
    mortal_cluster.disarm()
    mortal_cluster.set_frozen(is_frozen=False)


@pytest.mark.parametrize("case", SHORT, ids=lambda case: f"{case.process}: {case.name}")
def test_handoff_ends_and_loses_no_event_when_a_process_dies(
    failpoint_cluster: FailpointCluster, case: CrashCase
) -> None:
    result = CaseResult(case)
    assert len(SHORT) == 2
    run_case(failpoint_cluster, result, times=1)
    assert result.met == 1
    assert result.stuck == []
    assert result.violations == []
    assert set(result.ends) <= ENDS
