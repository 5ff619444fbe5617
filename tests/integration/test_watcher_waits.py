"""How long the watcher waits where no hint comes: what every time limit without pushes rests on."""

from __future__ import annotations

import pytest

from scheduling import watcher as watching
from scheduling.enact.recipe import run
from scheduling.passes.lock import take
from scheduling.watcher import LOOK_S, Watcher
from tests.fleet_cast import a_node, serving_since

pytestmark = pytest.mark.django_db


@pytest.fixture
def watcher() -> Watcher:
    a_node("node-1")
    serving_since(3600)
    return Watcher(30.0)


def test_it_looks_again_after_a_second(watcher: Watcher) -> None:
    watcher._tick(False)
    assert watcher._wait_s == LOOK_S == 1.0


def test_it_looks_again_when_the_next_lease_ends(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LOOK_S", 3600.0)
    watcher._tick(False)
    assert 0 < watcher._wait_s <= 30.005  # the lease that node-1 has just taken


def test_it_looks_again_soon_where_another_pass_is_under_way(watcher: Watcher) -> None:
    assert run(take("another"))
    watcher._tick(False)
    assert watcher._wait_s == 0.1
