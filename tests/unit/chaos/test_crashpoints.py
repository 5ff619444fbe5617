"""Crash cases and faults name failpoints that exist; a run ends if no installation starts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock, Mock

import pytest

from chaos.crashpoints import __main__ as crashpoints
from chaos.crashpoints.cases import CASES
from chaos.faults.locks import FROZEN_AT
from chaos.harness.cluster import Cluster
from ginkgo_site.env import CHECKOUT


def transactions() -> Iterator[str]:
    """Yield `package.function` of every function, as `failpoints` names the transactions."""
    for path in (CHECKOUT / "scheduling").rglob("*.py"):
        parts = path.relative_to(CHECKOUT / "scheduling").with_suffix("").parts
        package = next(part for part in parts if part != "enact")
        for name in re.findall(r"^def (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield f"{package}.{name}"


def test_failpoints_name_existing_transactions() -> None:
    points = {*(case.point for case in CASES), FROZEN_AT.partition("=")[0]}
    assert {point.partition(":")[0] for point in points} <= set(transactions())


class FakeCluster:
    """A cluster that does not start from `starts_until` clusters on; it runs nothing."""

    started = 0
    starts_until = 2

    def __init__(self, home: Path) -> None:
        """Start nothing."""

    def start(self) -> None:
        assert FakeCluster.started < FakeCluster.starts_until, "the launcher has ended"
        FakeCluster.started += 1

    def wait_until_converged(self) -> None: ...

    def kill_everything(self) -> None: ...


def test_run_replaces_an_installation_that_is_not_idle_and_ends_if_a_new_one_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []

    def run_case(cluster: FakeCluster, result: crashpoints.CaseResult, times: int) -> None:
        ran.append(result.case.name)
        assert len(ran) not in (1, 3), "not idle"

    monkeypatch.setattr(crashpoints, "FailpointCluster", FakeCluster)
    monkeypatch.setattr(crashpoints, "run_case", run_case)
    with pytest.raises(AssertionError, match="the launcher has ended"):
        crashpoints.main([])
    # Cases 1 and 3 leave an installation that cannot be used; the third one does not start.
    assert ran == [case.name for case in CASES[:3]]


def test_a_case_whose_action_always_fails_ends_as_stuck() -> None:
    case = replace(CASES[0], action=Mock(side_effect=AssertionError("no answer")))
    result = crashpoints.CaseResult(case)
    crashpoints.run_case(MagicMock(unsafe=True), result, times=1)
    assert result.stuck == [f"time {n}: no answer" for n in range(1, crashpoints.MAX_MISSES + 1)]


def test_an_assertion_about_the_history_names_what_is_broken() -> None:
    tenure = ("ibm-sma #1", 11, 1, 12, None)
    cluster = Mock(query=Mock(side_effect=[[tenure], [], []]))
    with pytest.raises(AssertionError, match="I2: epoch 1 of ibm-sma #1 begins after seq 12"):
        Cluster.assert_history_whole(cluster)
