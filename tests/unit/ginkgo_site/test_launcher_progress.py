"""How long a start may take while it makes progress, and the environment of a node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ginkgo_site.env import read_environment
from ginkgo_site.launcher import launcher as launcher_module
from ginkgo_site.launcher.cli import parse
from ginkgo_site.launcher.errors import StartupError
from ginkgo_site.launcher.launcher import _NOT_FOR_NODES, Launcher


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Reports:
    """Stands for the process that prepares the database."""

    def __init__(self, *kinds: str) -> None:
        self.progress = 0
        self._kinds = kinds

    def has(self, kind: str) -> bool:
        return kind in self._kinds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(launcher_module, "time", clock)
    return clock


@pytest.fixture
def launcher(clock: Clock, tmp_path: Path) -> Launcher:
    return Launcher(parse([]), read_environment({**os.environ, "GINKGO_HOME": str(tmp_path)}))


def test_a_start_that_makes_progress_may_take_an_hour(launcher: Launcher, clock: Clock) -> None:
    for left in range(40, 0, -1):
        launcher._check_progress([f"portfolio-{number}" for number in range(left)])
        clock.now += 100


def test_a_start_without_progress_ends_and_says_what_is_missing(
    launcher: Launcher, clock: Clock
) -> None:
    launcher._check_progress(["canary-1", "canary-2"])
    clock.now += 119
    launcher._check_progress(["canary-2 (another reason)", "canary-1"])
    clock.now += 2
    with pytest.raises(StartupError) as reason:
        launcher._check_progress(["canary-1", "canary-2"])
    assert "nothing progressed in the last 120 s. Missing: canary-1, canary-2." in str(reason.value)


@pytest.mark.parametrize(
    ("reports", "limit_s"),
    [(Reports("migrating"), 3600), (Reports("migrating", "prepared"), 120), (Reports(), 120)],
    ids=["migrating", "migrated", "before"],
)
def test_a_start_without_progress_may_take_an_hour_while_it_migrates(
    launcher: Launcher, clock: Clock, reports: Reports, limit_s: float
) -> None:
    launcher._bootstrap = reports  # type: ignore[assignment]
    launcher._check_progress(["the preparation"])
    clock.now += limit_s - 1
    launcher._check_progress(["the preparation"])
    clock.now += 2
    with pytest.raises(StartupError):
        launcher._check_progress(["the preparation"])


def test_a_node_gets_no_secret_of_the_control_plane(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*_NOT_FOR_NODES, "PGPASSWORD"):
        monkeypatch.setenv(name, "/hunter2")
    monkeypatch.setenv("GINKGO_STRATEGY_HIDES", "/mine")
    monkeypatch.setenv("PGSERVICEFILE", "/services")
    given = launcher._node_environment()
    assert given.pop("GINKGO_STRATEGY_HIDES") == "/mine:/hunter2:/services"
    assert not {"/hunter2", "/services"} & set(given.values())
    assert given["PATH"] == os.environ["PATH"]


def test_each_line_of_the_preparation_counts_as_progress(launcher: Launcher, clock: Clock) -> None:
    reports = Reports()
    launcher._bootstrap = reports  # type: ignore[assignment]
    for _ in range(10):
        launcher._check_progress(["the preparation"])
        reports.progress += 1
        clock.now += 119
