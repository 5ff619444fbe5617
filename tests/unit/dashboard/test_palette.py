"""What the command palette offers, and to whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.urls import resolve
from django.utils import translation

from scheduling.dashboard.actions import FLEET_ACTIONS, NODE_ACTIONS, PORTFOLIO_ACTIONS
from scheduling.dashboard.palette import NAME, palette
from scheduling.observe.fleet_view.types import FleetView, FreezeView, StormView
from scheduling.observe.halts import HaltView
from tests.support.board_fixture import NOW, fleet_view, handoff, node, portfolio


def offered(found: dict[str, Any], group: int) -> dict[str, list[str]]:
    """Return the titles of the actions on each portfolio (group 0) or node (group 1)."""
    chosen = found["groups"][group]
    return {
        name: [chosen["actions"][at]["text"].replace(NAME, name) for at in allowed]
        for name, _detail, allowed in chosen["rows"]
    }


@pytest.fixture
def fleet() -> FleetView:
    moving = portfolio("moving", "node-1", handoff=handoff(7, "moving"))
    pinned = portfolio("pinned", "node-1", pinned_node="node-1")
    stopped = portfolio("stopped", None, desired_state="stopped", phase="stopped")
    return fleet_view(
        [
            node("node-1"),
            node("node-2", cordoned=True, draining=True),
            node("node-3", status="lost"),
        ],
        [moving, pinned, stopped],
    )


def test_palette_offers_only_the_actions_that_apply_to_a_portfolio(fleet):
    assert offered(palette(fleet, operator=True), 0) == {
        "moving": ["Edit moving", "Verify moving", "Stop moving", "Delete moving"],
        "pinned": [
            *("Migrate pinned", "Reload pinned", "Edit pinned", "Unpin pinned"),
            *("Verify pinned", "Stop pinned", "Delete pinned"),
        ],
        "stopped": ["Edit stopped", "Start stopped", "Verify stopped", "Delete stopped"],
    }


def test_palette_offers_only_the_actions_that_apply_to_a_node(fleet):
    titles = offered(palette(fleet, operator=True), 1)
    assert titles["node-1"][:2] == ["Drain node-1", "Cordon node-1"]
    assert titles["node-2"][:2] == ["End the drain of node-2", "Uncordon node-2"]
    assert "Forget node-3" in titles["node-3"]
    assert "Forget node-1" not in titles["node-1"]


def test_viewer_finds_pages_nodes_and_portfolios_and_no_action(fleet):
    found = palette(fleet, operator=False)
    assert {entry["kind"] for entry in found["entries"]} == {"page"}
    assert "People" not in [entry["text"] for entry in found["entries"]]
    assert offered(found, 0) == {"moving": [], "pinned": [], "stopped": []}
    assert offered(found, 1) == {"node-1": [], "node-2": [], "node-3": []}


def test_palette_offers_only_the_fleet_actions_that_apply_to_its_state(fleet):
    def actions(of: FleetView) -> list[str]:
        entries = palette(of, operator=True)["entries"]
        return [entry["text"] for entry in entries if entry["kind"] == "action"]

    assert "Freeze automatic moves" in actions(fleet)
    assert {"Add a node", "Add a person"} <= {*actions(fleet)}  # the words of the buttons
    assert actions(fleet)[-1] == "Stop every portfolio"
    halt = HaltView(12, NOW, "mira", "exchange", 3, 3, 1, None, "")
    frozen = replace(fleet, frozen=FreezeView(NOW, "mira", "", False), halts=[halt])
    assert "Unfreeze automatic moves" in actions(frozen)
    assert "Freeze automatic moves" not in actions(frozen)
    assert "Undo halt 12" in actions(frozen)
    assert "Release the hold on failover" not in actions(fleet)
    storm = StormView(NOW, NOW, "", "", ["node-3"], 3)
    assert {"Release the hold on failover", "Hold failover"} <= {
        *actions(replace(fleet, storm=storm))
    }
    assert "Hold failover" not in actions(replace(fleet, storm=replace(storm, until=None)))


def test_every_address_of_the_palette_has_a_page(fleet):
    found = palette(fleet, operator=True)
    addresses = [entry["address"] for entry in found["entries"]]
    for group in found["groups"]:
        addresses.append(group["address"])
        addresses += [action["address"] for action in group["actions"]]
    assert len(addresses) > 30
    known = {*PORTFOLIO_ACTIONS, *NODE_ACTIONS, *FLEET_ACTIONS, "migrate", "reload"}
    for address in addresses:
        found_page = resolve(address)  # raises for an address without a page
        assert found_page.kwargs.get("verb", "migrate") in known, address


def test_palette_names_pages_in_the_language_of_the_reader(fleet):
    with translation.override("zh-hans"):
        found = palette(fleet, operator=True)
    assert {"事故", "添加节点", "添加人员"} <= {entry["text"] for entry in found["entries"]}
    assert "sma_cross，node-1 XOM CVX" in [row[1] for row in found["groups"][0]["rows"]]
