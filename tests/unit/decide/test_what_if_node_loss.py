"""Node-loss forecasts: portfolios that fit, wait, have no place, or do not count."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import HandoffView, Policy, PortfolioView, Snapshot
from scheduling.decide.what_if.node_loss import (
    NodeLoss,
    forecast_node_loss,
    hosting_nodes,
    pending_ids,
)
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


@pytest.mark.parametrize(("number", "runs"), [(1, 2), (2, 1), (3, 0)])
def test_loss_is_absorbed_if_everything_has_another_place(number: int, runs: int) -> None:
    fleet = world([node(1), node(2), node(3)], [*on(1, "a", "b"), *on(2, "c")])
    loss = forecast(fleet, number=number)
    assert (loss.absorbed, loss.fit, loss.runs) == (True, runs, runs)


def test_forecast_names_portfolios_without_a_place() -> None:
    loss = forecast(
        world(
            [node(1), node(2, capacity=1)], [*on(1, "a", "b"), *on(1, "gpu", selector={"x": "y"})]
        )
    )
    # gpu runs on a node that lacks its label; a or b gets the one free place.
    reasons = {entry.portfolio.name: entry.reason.code for entry in loss.unplaced.no_place}
    assert reasons["gpu"] == "no_selector"
    assert sorted(reasons.values()) == ["no_room", "no_selector"]
    assert (loss.absorbed, loss.runs, counts(loss)) == (False, 3, (2, 0, 1))


def test_forecast_covers_hosting_nodes_only() -> None:
    fleet = [node(1), node(2, status="suspect"), node(3, status="lost"), node(4, status="left")]
    assert [each.name for each in hosting_nodes(world(fleet, []))] == ["node-1", "node-2"]


@pytest.mark.parametrize(
    ("number", "portfolios", "suspects"),
    [(1, on(1, "a"), ("node-2",)), (2, on(1, "a"), ()), (1, [portfolio("p")], ("node-2",))],
)
def test_forecast_names_suspect_targets(
    number: int, portfolios: list[PortfolioView], suspects: tuple[str, ...]
) -> None:
    found = forecast(world([node(1), node(2, status="suspect")], portfolios), number=number)
    assert (found.absorbed, found.suspects) == (True, suspects)


def test_forecast_ignores_already_pending_portfolios() -> None:
    unassigned = portfolio("gpu", selector={"gpu": "yes"})
    assert forecast(world([node(1), node(2)], [unassigned, *on(1, "a")])).absorbed


def test_portfolio_being_migrated_has_its_place_at_the_target() -> None:
    moving = portfolio("m", node=1, handoff=HandoffView(1, "migrate", source=1, target=2))
    fleet = [node(1, draining=True, handoffs=1), node(2, capacity=1, handoffs=1)]
    loss = forecast(world(fleet, [moving]))
    assert (loss.absorbed, loss.fit, loss.runs) == (True, 1, 1)


@pytest.mark.parametrize(
    ("held", "code"),
    [
        ({"storm_hold": True}, "storm_hold"),
        ({"storm_late": ("node-2",)}, "storm_late"),
        ({"frozen": True, "frozen_failover": True}, "frozen_failover"),
    ],
)
def test_forecast_counts_held_failovers_as_waiting(held: dict[str, Any], code: str) -> None:
    found = forecast(world([node(1), node(2)], on(1, "a"), **held))
    assert [entry.reason.code for entry in found.unplaced.waiting] == [code]
    assert (found.absorbed, counts(found)) == (False, (0, 1, 0))


def test_failovers_of_later_passes_wait_after_a_storm() -> None:
    snapshot = world([node(1), node(2)], on(1, "a", "b", "c"), after_storm=True)
    assert counts(forecast(snapshot, Policy(failovers_after_storm=1))) == (0, 2, 1)


def test_forecast_counts_a_portfolio_in_back_off_as_waiting() -> None:
    assert counts(forecast(world([node(1), node(2)], on(1, "a", not_before=NOW + 5)))) == (0, 1, 0)


def test_portfolio_waits_for_room_being_made() -> None:
    # Two places are free on each of two nodes: one of node-2 has to go to node-3 first.
    fleet = [node(1), node(2, capacity=4), node(3, capacity=2)]
    assert counts(forecast(world(fleet, [*on(1, "a", weight=3), *on(2, "x", "y")]))) == (0, 1, 0)


def test_forecast_ignores_a_stopping_portfolio() -> None:
    ending = portfolio("s", node=1, desired="stopped", handoff=HandoffView(6, "stop", source=1))
    found = forecast(world([node(1), node(2)], [ending, *on(1, "a")]))
    assert (found.runs, counts(found)) == (1, (0, 0, 1))


def test_loss_forecast_ignores_moves_between_other_nodes() -> None:
    moving = portfolio("m", node=2, handoff=HandoffView(5, "migrate", source=2, target=3))
    found = forecast(world([node(1), node(2), node(3)], [moving, *on(1, "a")]))
    assert found.runs == 1


def test_forecast_counts_a_planned_placement_as_without_a_place_and_not_as_run() -> None:
    found = forecast(
        world([node(1, capacity=1), node(2, capacity=1)], [portfolio("p"), *on(2, "x")])
    )
    assert not found.absorbed
    assert (found.runs, counts(found)) == (0, (1, 0, 0))
