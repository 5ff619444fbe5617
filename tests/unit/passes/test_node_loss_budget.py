"""Which nodes a watcher answers for in which look, and what it writes down of the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from psycopg.errors import DeadlockDetected, LockNotAvailable

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.types import Snapshot
from scheduling.decide.what_if.node_loss import NodeLoss, forecast_node_loss
from scheduling.enact.node_loss import Known
from scheduling.passes import node_loss as passing
from scheduling.passes.node_loss import CONFIRM_INTERVAL_S, NodeLossForecaster
from tests.support.plan_factories import NOW, node, on, portfolio, world


class FakeSnapshotCache:
    """What a watcher's last tick read."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.version = 1
        self.snapshot = snapshot
        self.fleet_index = FleetIndex.of(snapshot.portfolios)

    def see(self, **changes: Any) -> None:
        """Let the next tick see these."""
        self.snapshot = replace(self.snapshot, **changes)
        self.fleet_index = FleetIndex.of(self.snapshot.portfolios)


class LossCacheHarness:
    """A watcher's answers: the nodes of each look, and what each has written."""

    def __init__(self, cache: FakeSnapshotCache, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = cache
        self.forecaster = NodeLossForecaster()
        self.answered: list[str] = []
        self.written: list[tuple[list[Known], set[int]]] = []
        self.error: type[Exception] | None = None
        monkeypatch.setattr(passing, "forecast_node_loss", self._loss_of)
        monkeypatch.setattr(passing, "store", lambda news, kept: (list(news), set(kept)))
        monkeypatch.setattr(passing, "execute", self._run)

    def _loss_of(self, snapshot: Snapshot, lost: Any, *given: Any) -> NodeLoss:
        self.answered.append(lost.name)
        return forecast_node_loss(snapshot, lost, *given)

    def _run(self, words: tuple[list[Known], set[int]]) -> None:
        if self.error is not None:
            raise self.error
        self.written.append(words)

    def refresh(self, slice_s: float = 10.0, after_s: float = 0.0) -> list[str]:
        """Look so much later; return the nodes that were answered for."""
        self.answered, self.written = [], []
        self.cache.see(taken_at=self.cache.snapshot.taken_at + after_s)
        self.forecaster.refresh(self.cache, slice_s)  # type: ignore[arg-type]
        return self.answered

    def news(self) -> dict[str, float]:
        """What the last look has written: node → as of."""
        return {known.loss.name: known.as_of for news, _ in self.written for known in news}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> LossCacheHarness:
    """Three nodes, on the first two of which a portfolio runs."""
    fleet = [node(1), node(2, flapping_until=NOW + 20), node(3)]
    late = portfolio("late", not_before=NOW + 20)
    standing = FakeSnapshotCache(world(fleet, [*on(1, "a"), *on(2, "b"), late]))
    return LossCacheHarness(standing, monkeypatch)


ALL = ["node-1", "node-2", "node-3"]


def newer(cache: FakeSnapshotCache) -> None:
    cache.version += 1


CHANGES: dict[str, Callable[[FakeSnapshotCache], None]] = {
    "a portfolio": newer,
    "a node": lambda s: s.see(nodes=(*s.snapshot.nodes[:2], node(3, cordoned=True))),
    "frozen": lambda s: s.see(frozen=True),
    "frozen failover": lambda s: s.see(frozen_failover=True),
    "held": lambda s: s.see(storm_hold=True),
    "held by": lambda s: s.see(storm_by="ann"),
    "late ones": lambda s: s.see(storm_late=("node-3",)),
    "after a storm": lambda s: s.see(after_storm=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_node_is_answered_for_anew_where_anything_changed_that_bears_on_it(
    kept: LossCacheHarness, change: Callable[[FakeSnapshotCache], None]
) -> None:
    assert kept.refresh() == ALL
    assert kept.refresh(after_s=1) == []
    change(kept.cache)
    assert sorted(kept.refresh(after_s=1)) == ALL


@pytest.mark.parametrize("what", ["a node flaps no more", "one backs off no more"])
def test_what_time_alone_ends_bears_on_it_too(kept: LossCacheHarness, what: str) -> None:
    if what == "a node flaps no more":
        kept.cache.see(portfolios=())
    else:
        kept.cache.see(nodes=(node(1), node(2), node(3)))
    assert kept.refresh() == ALL
    assert kept.refresh(after_s=19) == []
    assert sorted(kept.refresh(after_s=2)) == ALL
    assert kept.refresh(after_s=2) == []


def test_a_new_node_comes_first_and_the_turn_of_the_others_is_kept(kept: LossCacheHarness) -> None:
    assert kept.refresh(slice_s=0) == ["node-1"]
    seen = []
    for number in range(4, 7):
        kept.cache.see(nodes=(*kept.cache.snapshot.nodes, node(number)))
        seen += kept.refresh(slice_s=0)
        seen += kept.refresh(slice_s=0)
    assert seen == ["node-4", "node-2", "node-5", "node-3", "node-6", "node-1"]


def test_what_is_pending_as_it_is_is_held_against_no_node(kept: LossCacheHarness) -> None:
    kept.cache.see(portfolios=(*on(1, "a"), portfolio("gpu", selector={"gpu": "yes"})))
    kept.refresh()
    assert [known.loss.absorbed for known in kept.written[0][0]] == [True, True, True]


def test_what_was_true_of_an_older_fleet_is_not_confirmed(kept: LossCacheHarness) -> None:
    kept.refresh()
    newer(kept.cache)
    later = CONFIRM_INTERVAL_S + 1
    assert kept.refresh(slice_s=0, after_s=later) == ["node-1"]
    assert kept.news() == {"node-1": NOW + later, "node-2": NOW, "node-3": NOW}
    # Each is true of this fleet as soon as it was answered for anew.
    kept.refresh()
    kept.refresh(after_s=later)
    assert set(kept.news().values()) == {NOW + 2 * later}


def test_after_a_clock_was_set_back_everything_is_confirmed_at_once(kept: LossCacheHarness) -> None:
    kept.refresh()
    kept.refresh(after_s=1)
    assert kept.news() == {}
    kept.refresh(after_s=-60)
    assert kept.news() == dict.fromkeys(ALL, NOW - 59)
    kept.refresh(after_s=1)
    assert kept.news() == {}


def test_a_node_that_is_gone_is_dropped_though_nothing_else_is_new(kept: LossCacheHarness) -> None:
    kept.cache.see(nodes=(node(1), node(2), node(3)), portfolios=())
    kept.refresh()
    kept.cache.see(nodes=kept.cache.snapshot.nodes[:2])
    kept.refresh()
    assert kept.news() == {}
    assert [hosting for _, hosting in kept.written] == [{1, 2}]
    kept.refresh(after_s=1)
    assert kept.written == []


@pytest.mark.parametrize("error", [LockNotAvailable, DeadlockDetected])
def test_what_another_watcher_kept_from_being_written_is_written_by_the_next_look(
    kept: LossCacheHarness, error: type[Exception]
) -> None:
    kept.error = error
    assert kept.refresh() == ALL
    kept.error = None
    assert kept.refresh(after_s=1) == []
    assert kept.news() == dict.fromkeys(ALL, NOW + 1)
