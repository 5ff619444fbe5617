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


MOVING = portfolio("m", node=1, handoff=HandoffView(1, "migrate", source=1, target=2))
BETWEEN_OTHERS = portfolio("m", node=2, handoff=HandoffView(5, "migrate", source=2, target=3))
ENDING = portfolio("s", node=1, desired="stopped", handoff=HandoffView(6, "stop", source=1))
TWO = [node(1), node(2)]

#: Snapshot → portfolios that it runs, and those without a place, waiting, and fitting.
COUNTS: dict[str, tuple[Snapshot, int, tuple[int, int, int]]] = {
    "portfolio being migrated has its place at the target":
        (world([node(1, draining=True, handoffs=1), node(2, capacity=1, handoffs=1)], [MOVING]),
         1, (0, 0, 1)),
    "portfolio in back-off waits": (world(TWO, on(1, "a", not_before=NOW + 5)), 1, (0, 1, 0)),
    # Two places are free on each of two nodes: one of node-2 has to go to node-3 first.
    "portfolio waits for room being made":
        (world([node(1), node(2, capacity=4), node(3, capacity=2)],
               [*on(1, "a", weight=3), *on(2, "x", "y")]), 1, (0, 1, 0)),
    "stopping portfolio is ignored": (world(TWO, [ENDING, *on(1, "a")]), 1, (0, 0, 1)),
    "moves between other nodes are ignored":
        (world([*TWO, node(3)], [BETWEEN_OTHERS, *on(1, "a")]), 1, (0, 0, 1)),
    "planned placement counts without place but not as run":
        (world([node(1, capacity=1), node(2, capacity=1)], [portfolio("p"), *on(2, "x")]),
         0, (1, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize(("snapshot", "runs", "expected"), COUNTS.values(), ids=COUNTS)
def test_forecast_counts_what_fits_waits_and_has_no_place(
    snapshot: Snapshot, runs: int, expected: tuple[int, int, int]
) -> None:
    found = forecast(snapshot)
    assert (found.runs, counts(found), found.absorbed) == (runs, expected, not any(expected[:2]))


def test_failovers_of_later_passes_wait_after_a_storm() -> None:
    snapshot = world(TWO, on(1, "a", "b", "c"), after_storm=True)
    assert counts(forecast(snapshot, Policy(failovers_after_storm=1))) == (0, 2, 1)
