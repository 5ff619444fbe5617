"""Node-loss forecasts: refreshed a few per tick, written on change, shown on API and board."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from django.template.loader import render_to_string

from scheduling.dashboard.board.page import build_board_page
from scheduling.models import Resilience as Row
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.observe.snapshot import observe
from scheduling.observe.snapshot_cache import SnapshotCache
from scheduling.passes.node_loss import CONFIRM_INTERVAL_S, NodeLossForecaster
from scheduling.passes.node_loss import execute as the_runner
from scheduling.timing import timing
from scheduling.watcher import Watcher
from tests.support.api_client import ApiClient
from tests.support.factories import FakeNode, lose, make_node, make_running_portfolio, tick
from tests.support.kept_rows import KeptRows
from tests.support.patches import raising

pytestmark = pytest.mark.django_db


class LossCacheHarness:
    """A watcher's answers, and a look of it at the fleet as it is now."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.forecaster = NodeLossForecaster()
        self.cache = SnapshotCache()
        self.later_s = 0.0
        self._patch = monkeypatch

    def refresh(self, slice_s: float = 10.0) -> int:
        """Look, answer, write; return how many statements were written."""
        observe(timing(), self.cache)
        seen = self.cache.snapshot
        assert seen is not None
        self.cache.snapshot = replace(seen, taken_at=seen.taken_at + self.later_s)
        written: list[Any] = []

        def noting(transaction: Any) -> Any:
            written.append(transaction)
            return the_runner(transaction)

        self._patch.setattr("scheduling.passes.node_loss.execute", noting)
        self.forecaster.refresh(self.cache, slice_s)
        return len(written)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> LossCacheHarness:
    return LossCacheHarness(monkeypatch)


@pytest.fixture
def fleet() -> list[FakeNode]:
    """Two of the three of node-1 would have no place: node-2 has one free."""
    nodes = FLEET.get()
    for node in nodes:
        node.beat()
    return nodes


def make_fleet() -> list[FakeNode]:
    nodes = [make_node("node-1"), make_node("node-2", capacity=2)]
    for name in ("one", "two", "three"):
        make_running_portfolio(name, nodes[0])
    make_running_portfolio("four", nodes[1])
    return nodes


FLEET = KeptRows(make_fleet)


def rows() -> dict[str, tuple[int, int, int]]:
    """Node → (runs, fit, homeless)."""
    found = Row.objects.select_related("node")
    return {row.node.name: (row.runs, row.fit, row.homeless) for row in found}


def test_a_node_loss_forecast_is_stored_when_it_changes_and_refreshed_at_intervals(
    kept: LossCacheHarness, fleet: list[FakeNode]
) -> None:
    assert kept.refresh() == 1  # for all nodes
    first = Row.objects.get(node__name="node-2").as_of
    assert kept.refresh() == 0
    kept.later_s = CONFIRM_INTERVAL_S + 1
    assert kept.refresh() == 1
    assert (Row.objects.get(node__name="node-2").as_of - first).total_seconds() > CONFIRM_INTERVAL_S
    # Nothing of the fleet changed: the clock alone is no reason to write again.
    assert kept.refresh() == 0


def test_only_changed_forecasts_are_written(kept: LossCacheHarness, fleet: list[FakeNode]) -> None:
    kept.refresh()
    before = dict(Row.objects.values_list("node__name", "as_of"))
    make_running_portfolio("five", fleet[0])
    assert kept.refresh() == 1
    assert rows() == {"node-1": (4, 1, 3), "node-2": (1, 1, 0)}
    after = dict(Row.objects.values_list("node__name", "as_of"))
    assert after["node-1"] > before["node-1"]
    assert after["node-2"] == before["node-2"]


def test_a_lost_node_has_no_loss_forecast(kept: LossCacheHarness, fleet: list[FakeNode]) -> None:
    kept.refresh()
    lose(fleet[1])
    kept.refresh()
    # node-1 runs three, and is the only one that can take the one of node-2.
    assert rows() == {"node-1": (3, 0, 4)}
    lose(fleet[0])
    kept.refresh()
    assert rows() == {}


def test_node_loss_forecasts_are_refreshed_by_the_watcher_only(fleet: list[FakeNode]) -> None:
    tick("worker")
    assert rows() == {}
    Watcher(balance_interval_s=30)._tick(rebalance=False)
    assert rows() == {"node-1": (3, 1, 2), "node-2": (1, 1, 0)}


def test_an_error_of_a_node_loss_forecast_does_not_end_the_watcher(
    fleet: list[FakeNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(balance_interval_s=30)
    monkeypatch.setattr(watcher.node_losses, "refresh", raising(KeyError("node-7")))
    watcher._tick(rebalance=False)
    assert watcher._wait_s > 0


# --- who reads it --------------------------------------------------------------------------------


def test_the_api_lists_for_each_node_what_would_have_no_place_and_why(
    kept: LossCacheHarness, fleet: list[FakeNode], viewer: ApiClient
) -> None:
    empty = viewer.get("schedule/resilience/").json()
    assert empty == {"as_of": None, "absorbed": 0, "no_place": 0, "nodes": []}
    kept.refresh()
    answer = viewer.get("schedule/resilience/").json()
    assert (answer["absorbed"], answer["no_place"]) == (1, 2)
    first, second = answer["nodes"]
    assert (first["node"], first["absorbed"]) == ("node-1", False)
    assert (first["portfolios"], first["fit"]) == (3, 1)
    (why,) = first["reasons"]
    plan = viewer.get("schedule/plan/", lose="node-1").json()
    assert why["code"] == "no_room"
    assert why["portfolios"] == [entry["portfolio"] for entry in plan["pending"]]
    assert why["reason"] == plan["pending"][0]["reason"]
    assert (second["absorbed"], second["reasons"]) == (True, [])
    assert answer["as_of"] == min(first["as_of"], second["as_of"])


def test_metrics_count_what_would_have_no_place(
    kept: LossCacheHarness, fleet: list[FakeNode], viewer: ApiClient
) -> None:
    kept.refresh()
    text = viewer.get("metrics").content.decode()
    assert 'ginkgo_node_loss_homeless{node="node-1"} 2.0' in text
    assert 'ginkgo_node_loss_homeless{node="node-2"} 0.0' in text
    assert "ginkgo_loss_homeless 2.0" in text
    assert "ginkgo_losses_unabsorbed 1.0" in text
    assert "ginkgo_loss_age_seconds" in text


def loss_line(name: str) -> str | None:
    """Return what the column of a node says of its loss."""
    page = build_board_page(read_fleet_view())
    (found,) = [each for each in page.columns if each.node.name == name]
    return None if found.forecast is None else str(found.forecast.text)


def test_a_column_shows_the_forecast_and_links_to_the_scenario(
    kept: LossCacheHarness, fleet: list[FakeNode]
) -> None:
    assert loss_line("node-1") is None
    kept.refresh()
    assert loss_line("node-1") == "2 would be unplaced"
    assert loss_line("node-2") == "loss absorbed: yes"
    lose(fleet[1])
    assert loss_line("node-2") is None
    page = render_to_string("dashboard/parts/column.html", {})
    assert re.search(r'href="/what-if/\?lose=__name__"[^>]*data-loss', " ".join(page.split()))


def test_an_old_forecast_is_shown_with_its_time(
    kept: LossCacheHarness, fleet: list[FakeNode]
) -> None:
    kept.refresh()
    Row.objects.update(as_of="2026-01-01T14:03:09Z")
    assert loss_line("node-1") == "2 would be unplaced, as of 14:03:09 UTC"
