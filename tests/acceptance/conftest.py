"""Houses for the acceptance tests.

Tests share a house where they can. A module keeps to one kind, so that few are started. A house at
rest takes a fifth of two processors, and most of a test is waiting for a lease to end: so bin/test
has two runs beside each other, one with the mark `quick` and one without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos.harness.cluster import SHORT_LIMITS, Cluster
from chaos.harness.installation import Installation, temporary_home


@pytest.hookimpl(tryfirst=True)  # before the marks are asked for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of one shared house together, so that each is started once, and mark those of
    the one with short limits."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        if "quick_fleet" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.quick)
    if len(here) == len(items):
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[int, bool]:
    """Return when it is the turn of a test.

    With the product's limits, those of test_up look at a house as its first start left it; with
    short limits, those of test_up end the house itself.
    """
    fixtures = set(getattr(item, "fixturenames", ()))
    is_running = item.path.name == "test_up.py"
    if fixtures & {"house", "fleet"}:
        return 0, not is_running
    return (1, is_running) if "quick_fleet" in fixtures else (2, is_running)


class SharedInstallations:
    """Keeps the shared house that the present test wants, started at its first use."""

    def __init__(self) -> None:
        self._kind = ""
        self._cluster: Cluster | None = None
        self._open = ExitStack()

    def get(self, kind: str, *options: str, **environment: str) -> Cluster:
        """Return the running house of this kind; another one that runs is stopped first."""
        if self._kind != kind or self._cluster is None or not self._cluster.is_running():
            self.close()
            cluster = Cluster(self._open.enter_context(temporary_home()), *options, **environment)
            self._open.callback(
                cluster.kill_everything
            )  # before the start, which may be broken off
            cluster.start()
            self._kind, self._cluster = kind, cluster
        return self._cluster

    def close(self) -> None:
        """End the one that runs."""
        self._cluster = None
        self._open.close()


@pytest.fixture(scope="session")
def shared_installations() -> Iterator[SharedInstallations]:
    """The keeper of the shared houses."""
    keeper = SharedInstallations()
    yield keeper
    keeper.close()


@pytest.fixture
def installation(shared_installations: SharedInstallations) -> Installation:
    """A running house with the demo, shared: leave it as you found it, every node alive."""
    return product(shared_installations)


@pytest.fixture
def cluster(shared_installations: SharedInstallations) -> Cluster:
    """The shared house with the product's own time limits, settled."""
    found = product(shared_installations)
    found.wait_until_converged()
    return found


@pytest.fixture
def quick_cluster(shared_installations: SharedInstallations) -> Cluster:
    """A shared house with shortened time limits and strategies that fail on purpose, settled."""
    found = quick(shared_installations)
    found.wait_until_converged()
    return found


def product(shared_installations: SharedInstallations) -> Cluster:
    """The shared house with the product's own time limits, as it is."""
    return shared_installations.get("product", "--node-restart", "6")


def quick(shared_installations: SharedInstallations) -> Cluster:
    """The shared house with shortened time limits, as it is."""
    return shared_installations.get("quick", "--node-restart", "3", **SHORT_LIMITS)
