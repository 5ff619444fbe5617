"""Shared installations for the acceptance tests.

Tests share an installation where they can, and a module keeps to one kind, so that few are started.
An idle installation takes a fifth of two processors, and tests mostly wait for leases to expire: so
bin/test runs two processes beside each other, one with the mark `quick` and one without.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from chaos.crashpoints.cluster import FailpointCluster
from chaos.harness.cluster import SHORT_LIMITS, Cluster
from chaos.harness.installation import Installation, temporary_home
from ginkgo_site.launcher.address import free_address
from tests.support.browser import open_browser

#: Events a second where no test waits for bars, and where some do. The product's are 100, but an
#: event costs all portfolios together two milliseconds of processor time, for as long as the
#: installation runs.
FEED_RATE, QUICK_FEED_RATE = 10, 50


@pytest.hookimpl(tryfirst=True)  # before the marks are asked for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests by shared installation, so that each installation is started once.

    Tests of the one with short limits are marked `quick`: both halves take about as long.
    """
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        if "quick_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.quick)
    if len(here) == len(items):
        items.sort(key=_position)


def _position(item: pytest.Item) -> tuple[int, bool]:
    """Return the sort key of a test.

    With the product's limits, test_up comes first: it checks an installation as its first start
    left it. On the mortal one it comes last: it ends the installation.
    """
    fixtures = set(getattr(item, "fixturenames", ()))
    is_running = item.path.name == "test_up.py"
    if "quick_cluster" in fixtures:
        return 1, False
    if fixtures & {"installation", "cluster"}:
        return 0, not is_running
    return (2, is_running) if "mortal_cluster" in fixtures else (3, is_running)


class SharedInstallations:
    """Holds the shared installation of the present kind, started at its first use."""

    def __init__(self) -> None:
        self._kind = ""
        self._cluster: Cluster | None = None
        self._open = ExitStack()

    def get(self, kind: str, make: Callable[[Path, ExitStack], Cluster]) -> Cluster:
        """Return the running installation of this kind, or a new one in an empty home.

        One of another kind is ended first.
        """
        if self._kind != kind or self._cluster is None or not self._cluster.is_running():
            self.close()
            cluster = make(self._open.enter_context(temporary_home()), self._open)
            self._open.callback(cluster.kill_everything)  # before the start, which may fail
            cluster.start()
            self._kind, self._cluster = kind, cluster
        return self._cluster

    def close(self) -> None:
        self._cluster = None
        self._open.close()


@pytest.fixture(scope="session")
def shared_installations() -> Iterator[SharedInstallations]:
    """Holder of the shared installations."""
    shared = SharedInstallations()
    yield shared
    shared.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The one browser of a run: to start it takes two seconds of processor time."""
    with open_browser() as running:
        yield running


@pytest.fixture
def installation(shared_installations: SharedInstallations) -> Installation:
    """The shared installation with the demo and the product's limits. Leave every node alive."""
    return product(shared_installations)


@pytest.fixture
def cluster(shared_installations: SharedInstallations) -> Cluster:
    """The shared installation with the product's time limits, converged."""
    found = product(shared_installations)
    found.wait_until_converged()
    return found


@pytest.fixture
def quick_cluster(shared_installations: SharedInstallations) -> Cluster:
    """The shared installation with short time limits and faulty strategies, converged."""
    found = quick(shared_installations)
    found.wait_until_converged()
    return found


@pytest.fixture
def mortal_cluster(shared_installations: SharedInstallations) -> FailpointCluster:
    """The shared installation whose processes, disk and database die on purpose.

    Its port stays the same over restarts; if root runs the tests, its home is its own file system.
    """
    found = shared_installations.get("mortal", mortal)
    assert isinstance(found, FailpointCluster)
    found.wait_until_converged()
    return found


def product(shared_installations: SharedInstallations) -> Cluster:
    """Return the shared installation with the product's time limits, as it is."""
    return shared_installations.get(
        "product",
        lambda home, _: Cluster(home, "--node-restart", "6", GINKGO_FEED_RATE=str(FEED_RATE)),
    )


def quick(shared_installations: SharedInstallations) -> Cluster:
    """Return the shared installation with short time limits, as it is."""
    return shared_installations.get(
        "quick",
        lambda home, _: Cluster(
            home, "--node-restart", "3", GINKGO_FEED_RATE=str(QUICK_FEED_RATE), **SHORT_LIMITS
        ),
    )


def mortal(home: Path, end: ExitStack) -> FailpointCluster:
    """Return an installation, not yet started, that is in a file system of its own until `end`."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(home)], check=True)
        if not os.environ.get("GINKGO_KEEP_HOMES"):
            end.callback(subprocess.run, ["umount", "-l", str(home)], check=True)
    port = str(free_address("127.0.0.1", 0).port)
    return FailpointCluster(home, "--port", port, GINKGO_FEED_RATE=str(FEED_RATE))
