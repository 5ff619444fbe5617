"""The nodes that a watcher forecasts per tick, and the forecasts that it stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from psycopg.errors import DeadlockDetected, LockNotAvailable

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.types import Snapshot
from scheduling.decide.what_if.node_loss import NodeLoss, forecast_node_loss
from scheduling.enact.node_loss import StoredForecast
from scheduling.passes import node_loss as passing
from scheduling.passes.node_loss import CONFIRM_INTERVAL_S, NodeLossForecaster
from tests.support.plan_factories import NOW, node, on, portfolio, world


class FakeSnapshotCache:
    """A snapshot cache as the watcher's last tick left it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.version = 1
        self.snapshot = snapshot
        self.fleet_index = FleetIndex.of(snapshot.portfolios)

    def change(self, **changes: Any) -> None:
        """Change the snapshot of the next tick."""
        self.snapshot = replace(self.snapshot, **changes)
        self.fleet_index = FleetIndex.of(self.snapshot.portfolios)


class LossCacheHarness:
    """A watcher's forecasts: the nodes of each tick, and what each tick stored."""

    def __init__(self, cache: FakeSnapshotCache, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = cache
        self.forecaster = NodeLossForecaster()
        self.forecast: list[str] = []
        self.stored: list[tuple[list[StoredForecast], set[int]]] = []
        self.error: type[Exception] | None = None
        monkeypatch.setattr(passing, "forecast_node_loss", self._forecast)
        monkeypatch.setattr(passing, "store", lambda news, kept: (list(news), set(kept)))
        monkeypatch.setattr(passing, "execute", self._run)

    def _forecast(self, snapshot: Snapshot, lost: Any, *given: Any) -> NodeLoss:
        self.forecast.append(lost.name)
        return forecast_node_loss(snapshot, lost, *given)

    def _run(self, batch: tuple[list[StoredForecast], set[int]]) -> None:
        if self.error is not None:
            raise self.error
        self.stored.append(batch)

    def refresh(self, slice_s: float = 10.0, after_s: float = 0.0) -> list[str]:
        """Run a tick `after_s` later; return the nodes that were forecast."""
        self.forecast, self.stored = [], []
        self.cache.change(taken_at=self.cache.snapshot.taken_at + after_s)
        self.forecaster.refresh(self.cache, slice_s)  # type: ignore[arg-type]
        return self.forecast

    def stored_times(self) -> dict[str, float]:
        """Return what the last tick stored: node → as of."""
        return {known.loss.name: known.as_of for news, _ in self.stored for known in news}


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> LossCacheHarness:
    """Three nodes; portfolios run on the first two."""
    fleet = [node(1), node(2, flapping_until=NOW + 20), node(3)]
    late = portfolio("late", not_before=NOW + 20)
    snapshots = FakeSnapshotCache(world(fleet, [*on(1, "a"), *on(2, "b"), late]))
    return LossCacheHarness(snapshots, monkeypatch)


ALL = ["node-1", "node-2", "node-3"]


def bump_version(cache: FakeSnapshotCache) -> None:
    cache.version += 1


CHANGES: dict[str, Callable[[FakeSnapshotCache], None]] = {
    "a portfolio": bump_version,
    "a node": lambda s: s.change(nodes=(*s.snapshot.nodes[:2], node(3, cordoned=True))),
    "frozen": lambda s: s.change(frozen=True),
    "frozen failover": lambda s: s.change(frozen_failover=True),
    "held": lambda s: s.change(storm_hold=True),
    "held by": lambda s: s.change(storm_by="ann"),
    "late ones": lambda s: s.change(storm_late=("node-3",)),
    "after a storm": lambda s: s.change(after_storm=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_relevant_change_refreshes_every_forecast(
    harness: LossCacheHarness, change: Callable[[FakeSnapshotCache], None]
) -> None:
    assert harness.refresh() == ALL
    assert harness.refresh(after_s=1) == []
    change(harness.cache)
    assert sorted(harness.refresh(after_s=1)) == ALL


@pytest.mark.parametrize("what", ["a node flaps no more", "one backs off no more"])
def test_end_of_flapping_or_back_off_refreshes_every_forecast(
    harness: LossCacheHarness, what: str
) -> None:
    if what == "a node flaps no more":
        harness.cache.change(portfolios=())
    else:
        harness.cache.change(nodes=(node(1), node(2), node(3)))
    assert harness.refresh() == ALL
    assert harness.refresh(after_s=19) == []
    assert sorted(harness.refresh(after_s=2)) == ALL
    assert harness.refresh(after_s=2) == []


def test_new_node_is_forecast_first_and_others_keep_their_turn(harness: LossCacheHarness) -> None:
    assert harness.refresh(slice_s=0) == ["node-1"]
    forecast_nodes = []
    for number in range(4, 7):
        harness.cache.change(nodes=(*harness.cache.snapshot.nodes, node(number)))
        forecast_nodes += harness.refresh(slice_s=0)
        forecast_nodes += harness.refresh(slice_s=0)
    assert forecast_nodes == ["node-4", "node-2", "node-5", "node-3", "node-6", "node-1"]


def test_cached_forecast_ignores_already_pending_portfolios(harness: LossCacheHarness) -> None:
    harness.cache.change(portfolios=(*on(1, "a"), portfolio("gpu", selector={"gpu": "yes"})))
    harness.refresh()
    assert [known.loss.absorbed for known in harness.stored[0][0]] == [True, True, True]


def test_forecast_of_an_earlier_fleet_is_made_again(harness: LossCacheHarness) -> None:
    harness.refresh()
    bump_version(harness.cache)
    later = CONFIRM_INTERVAL_S + 1
    assert harness.refresh(slice_s=0, after_s=later) == ["node-1"]
    assert harness.stored_times() == {"node-1": NOW + later, "node-2": NOW, "node-3": NOW}
    # Each forecast is valid for this fleet once it was made again.
    harness.refresh()
    harness.refresh(after_s=later)
    assert set(harness.stored_times().values()) == {NOW + 2 * later}


def test_clock_set_back_confirms_every_forecast_at_once(harness: LossCacheHarness) -> None:
    harness.refresh()
    harness.refresh(after_s=1)
    assert harness.stored_times() == {}
    harness.refresh(after_s=-60)
    assert harness.stored_times() == dict.fromkeys(ALL, NOW - 59)
    harness.refresh(after_s=1)
    assert harness.stored_times() == {}


def test_removal_of_a_node_drops_its_forecast_and_refreshes_no_other(
    harness: LossCacheHarness,
) -> None:
    harness.cache.change(nodes=(node(1), node(2), node(3)), portfolios=())
    harness.refresh()
    harness.cache.change(nodes=harness.cache.snapshot.nodes[:2])
    harness.refresh()
    assert harness.stored_times() == {}
    assert [hosting for _, hosting in harness.stored] == [{1, 2}]
    harness.refresh(after_s=1)
    assert harness.stored == []


@pytest.mark.parametrize("error", [LockNotAvailable, DeadlockDetected])
def test_conflicting_write_is_repeated_by_the_next_tick(
    harness: LossCacheHarness, error: type[Exception]
) -> None:
    harness.error = error
    assert harness.refresh() == ALL
    harness.error = None
    assert harness.refresh(after_s=1) == []
    assert harness.stored_times() == dict.fromkeys(ALL, NOW + 1)
