"""Node-loss forecasts: portfolios that fit, wait, have no place, or do not count."""

from __future__ import annotations

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


MOVING = portfolio("m", node=1, handoff=HandoffView(1, "migrate", source=1, target=2))
BETWEEN_OTHERS = portfolio("m", node=2, handoff=HandoffView(5, "migrate", source=2, target=3))
ENDING = portfolio("s", node=1, desired="stopped", handoff=HandoffView(6, "stop", source=1))
TWO = [node(1), node(2)]

NEEDS_GPU = {"selector": {"gpu": "yes"}}

#: Snapshot → portfolios that node-1 runs, and those without a place, waiting, and fitting.
COUNTS: dict[str, tuple[Snapshot, int, tuple[int, int, int]]] = {
    "everything has another place": (world(TWO, [*on(1, *"ab"), *on(2, "c")]), 2, (0, 0, 2)),
    "node without portfolios": (world(TWO, on(2, "c")), 0, (0, 0, 0)),
    "one of two finds room, and one lacks its label":
        (world([node(1), node(2, capacity=1)], [*on(1, *"ab"), *on(1, "gpu", **NEEDS_GPU)]),
         3, (2, 0, 1)),
    "portfolio that is pending already is ignored":
        (world(TWO, [portfolio("gpu", **NEEDS_GPU), *on(1, "a")]), 1, (0, 0, 1)),
    "failover held in a storm": (world(TWO, on(1, "a"), storm_hold=True), 1, (0, 1, 0)),
    "failover while other nodes are late":
        (world(TWO, on(1, "a"), storm_late=("node-2",)), 1, (0, 1, 0)),
    "frozen failover":
        (world(TWO, on(1, "a"), frozen=True, frozen_failover=True), 1, (0, 1, 0)),
    "failovers of later passes after a storm":
        (world(TWO, on(1, "a", "b", "c"), after_storm=True), 3, (0, 2, 1)),
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
    found = forecast(snapshot, Policy(failovers_after_storm=1))
    assert (found.runs, counts(found), found.absorbed) == (runs, expected, not any(expected[:2]))
