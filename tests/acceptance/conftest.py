"""Houses for the acceptance tests.

Tests share a house where they can, and only one shared house runs at a time, since two would take
each other's processor. A module keeps to one kind, so that few are started.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.fleet import Fleet
from tests.house import House, a_home

#: Everything that is waited for in seconds, shortened; the proportions stay those of the product.
QUICK = {
    "GINKGO_HEARTBEAT_INTERVAL_S": "1",
    "GINKGO_LEASE_TTL_S": "4",
    "GINKGO_SOCKET_GRACE_S": "2",
    "GINKGO_BALANCE_INTERVAL_S": "2",
    "GINKGO_GOOD_AFTER_S": "3",
    "GINKGO_FEED_RATE": "300",  # a bar of each symbol every 1.3 s
    "GINKGO_STRATEGIES": "portfolios.strategies.faulty",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of one shared house together, so that each is started once.

    Those that look at a house as it is after its first start come first of all.
    """
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if len(here) == len(items):
        items.sort(key=lambda item: (_kind_of(item), item.path.name != "test_up.py"))


def _kind_of(item: pytest.Item) -> int:
    fixtures = set(getattr(item, "fixturenames", ()))
    if fixtures & {"house", "fleet"}:
        return 0
    return 1 if "quick_fleet" in fixtures else 2


class SharedHouses:
    """Keeps the shared house that the present test wants, started at its first use."""

    def __init__(self) -> None:
        self._kind = ""
        self._fleet: Fleet | None = None
        self._open = ExitStack()

    def get(self, kind: str, *options: str, **environment: str) -> Fleet:
        """Return the running house of this kind; another one that runs is stopped first."""
        if self._kind != kind or self._fleet is None:
            self.close()
            fleet = Fleet(self._open.enter_context(a_home()), *options, **environment)
            fleet.start()
            self._open.callback(fleet.end)
            self._kind, self._fleet = kind, fleet
        return self._fleet

    def close(self) -> None:
        """End the one that runs."""
        self._fleet = None
        self._open.close()


@pytest.fixture(scope="session")
def shared_houses() -> Iterator[SharedHouses]:
    """The keeper of the shared houses."""
    keeper = SharedHouses()
    yield keeper
    keeper.close()


@pytest.fixture
def house(shared_houses: SharedHouses) -> House:
    """A running house with the demo, shared: leave it as you found it, every node alive."""
    return shared_houses.get("product", "--node-restart", "8")


@pytest.fixture
def fleet(shared_houses: SharedHouses) -> Fleet:
    """The shared house with the product's own time limits, settled."""
    found = shared_houses.get("product", "--node-restart", "8")
    found.settle()
    return found


@pytest.fixture
def quick_fleet(shared_houses: SharedHouses) -> Fleet:
    """A shared house with shortened time limits and strategies that fail on purpose, settled."""
    found = shared_houses.get("quick", "--node-restart", "3", **QUICK)
    found.settle()
    return found


@pytest.fixture
def own_house(shared_houses: SharedHouses) -> Iterator[Fleet]:
    """A house for one test to hurt; it is not started yet."""
    shared_houses.close()
    with a_home() as home:
        mine = Fleet(home, "--node-restart", "3")
        yield mine
        if mine.process is not None:
            mine.end()
