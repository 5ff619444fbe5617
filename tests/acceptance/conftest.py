"""Houses for the acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.house import House, a_home


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """One running house with the demo, shared: leave it as you found it, every node alive."""
    with a_home() as home:
        running = House(home, "--node-restart", "3")
        running.start()
        yield running
        running.stop()


@pytest.fixture
def own_house() -> Iterator[House]:
    """A house for one test to hurt; it is not started yet."""
    with a_home() as home:
        mine = House(home, "--node-restart", "3")
        yield mine
        if mine.process is not None:
            mine.stop()
