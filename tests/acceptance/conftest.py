"""Houses for the acceptance tests.

Tests share a house where they can, and only one shared house runs at a time, since two would take
each other's processor. A module keeps to one kind, so that few are started.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.acceptance.fleet import Fleet
from tests.house import House, a_home

#: Everything that is waited for in seconds, shortened; the proportions stay those of the product.
QUICK = {
    "GINKGO_HEARTBEAT_INTERVAL_S": "1",
    "GINKGO_LEASE_TTL_S": "4",
    "GINKGO_SOCKET_GRACE_S": "1",
    "GINKGO_BALANCE_INTERVAL_S": "2",
    "GINKGO_GOOD_AFTER_S": "3",
    "GINKGO_STRATEGIES": "portfolios.strategies.faulty",
}


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
            self._open.callback(fleet.stop)
            self._kind, self._fleet = kind, fleet
        return self._fleet

    def close(self) -> None:
        """Stop the one that runs."""
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
def own_house() -> Iterator[House]:
    """A house for one test to hurt; it is not started yet."""
    with a_home() as home:
        mine = House(home, "--node-restart", "3")
        yield mine
        if mine.process is not None:
            mine.stop()
