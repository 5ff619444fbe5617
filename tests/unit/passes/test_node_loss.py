"""Counts of a node-loss forecast: waiting, foreign and stopping portfolios."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import HandoffView, Policy, Snapshot
from scheduling.decide.what_if.node_loss import NodeLoss, forecast_node_loss, pending_ids
from tests.support.plan_factories import NOW, node, on, portfolio, world


def forecast(snapshot: Snapshot, policy: Policy | None = None, number: int = 1) -> NodeLoss:
    """Return the forecast of node `number`."""
    index = FleetIndex.of(snapshot.portfolios)
    already_pending = pending_ids(make_plan(snapshot, policy or Policy(), index))
    (lost,) = [each for each in snapshot.nodes if each.id == number]
    return forecast_node_loss(snapshot, lost, index, already_pending, policy)


def counts(found: NodeLoss) -> tuple[int, int, int]:
    """Return the numbers of portfolios without a place, waiting, and fitting."""
    return len(found.unplaced.no_place), len(found.unplaced.waiting), found.fit


@pytest.mark.parametrize(
    ("held", "code"),
    [
        ({"storm_hold": True}, "storm_hold"),
        ({"storm_late": ("node-2",)}, "storm_late"),
        ({"frozen": True, "frozen_failover": True}, "frozen_failover"),
    ],
    ids=str,
)
def test_held_failover_waits(held: dict[str, Any], code: str) -> None:
    found = forecast(world([node(1), node(2)], on(1, "a"), **held))
    assert [entry.reason.code for entry in found.unplaced.waiting] == [code]
    assert counts(found) == (0, 1, 0)


def test_failovers_of_later_passes_wait_after_a_storm() -> None:
    snapshot = world([node(1), node(2)], on(1, "a", "b", "c"), after_storm=True)
    assert counts(forecast(snapshot, Policy(failovers_after_storm=1))) == (0, 2, 1)


def test_backing_off_portfolio_waits() -> None:
    assert counts(forecast(world([node(1), node(2)], on(1, "a", not_before=NOW + 5)))) == (0, 1, 0)


def test_portfolio_waits_for_room_being_made() -> None:
    # Two places are free on each of two nodes: one of node-2 has to go to node-3 first.
    fleet = [node(1), node(2, capacity=4), node(3, capacity=2)]
    assert counts(forecast(world(fleet, [*on(1, "a", weight=3), *on(2, "x", "y")]))) == (0, 1, 0)


def test_stopping_portfolio_needs_no_place() -> None:
    ending = portfolio("s", node=1, desired="stopped", handoff=HandoffView(6, "stop", source=1))
    found = forecast(world([node(1), node(2)], [ending, *on(1, "a")]))
    assert (found.runs, counts(found)) == (1, (0, 0, 1))


def test_moves_between_other_nodes_do_not_count() -> None:
    moving = portfolio("m", node=2, handoff=HandoffView(5, "migrate", source=2, target=3))
    found = forecast(world([node(1), node(2), node(3)], [moving, *on(1, "a")]))
    assert found.runs == 1


def test_planned_placement_counts_without_place_but_not_as_run() -> None:
    found = forecast(
        world([node(1, capacity=1), node(2, capacity=1)], [portfolio("p"), *on(2, "x")])
    )
    assert not found.absorbed
    assert (found.runs, counts(found)) == (0, (1, 0, 0))


def test_placement_on_a_suspect_node_is_reported() -> None:
    found = forecast(world([node(1), node(2, status="suspect")], [portfolio("p")]))
    assert (found.absorbed, found.suspects) == (True, ("node-2",))
