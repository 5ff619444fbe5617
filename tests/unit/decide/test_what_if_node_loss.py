"""Node-loss forecasts."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import HandoffView, Policy, PortfolioView, Snapshot
from scheduling.decide.what_if.answer import answer
from scheduling.decide.what_if.hypothetical import Scenario
from scheduling.decide.what_if.node_loss import (
    NodeLoss,
    forecast_node_loss,
    hosting_nodes,
    pending_ids,
)
from tests.support.plan_factories import node, on, portfolio, world


def forecasts(snapshot: Snapshot) -> dict[str, NodeLoss]:
    """Return the forecast of each node."""
    index = FleetIndex.of(snapshot.portfolios)
    already_pending = pending_ids(make_plan(snapshot, Policy(), index))
    return {
        each.name: forecast_node_loss(snapshot, each, index, already_pending)
        for each in hosting_nodes(snapshot)
    }


def names_without_place(loss: NodeLoss) -> set[str]:
    return {entry.portfolio.name for entry in loss.unplaced.no_place}


def test_loss_is_absorbed_if_everything_has_another_place() -> None:
    found = forecasts(world([node(1), node(2)], [*on(1, "a", "b"), *on(2, "c")]))
    assert {name: (loss.absorbed, loss.fit, loss.runs) for name, loss in found.items()} == {
        "node-1": (True, 2, 2),
        "node-2": (True, 1, 1),
    }


def test_forecast_names_portfolios_without_a_place() -> None:
    found = forecasts(
        world(
            [node(1), node(2, capacity=1)], [*on(1, "a", "b"), *on(1, "gpu", selector={"x": "y"})]
        )
    )
    loss = found["node-1"]
    assert not loss.absorbed
    # gpu runs on a node that lacks its label; a or b gets the one free place.
    assert len(names_without_place(loss)) == 2
    reasons = {entry.portfolio.name: entry.reason.code for entry in loss.unplaced.no_place}
    assert reasons["gpu"] == "no_selector"
    assert set(reasons.values()) == {"no_selector", "no_room"}
    assert (loss.fit, loss.runs) == (1, 3)


def test_loss_of_an_empty_node_is_absorbed() -> None:
    loss = forecasts(world([node(1), node(2)], on(1, "a")))["node-2"]
    assert (loss.absorbed, loss.runs, loss.fit) == (True, 0, 0)


def test_forecast_covers_hosting_nodes_only() -> None:
    fleet = [node(1), node(2, status="suspect"), node(3, status="lost"), node(4, status="left")]
    assert set(forecasts(world(fleet, []))) == {"node-1", "node-2"}


def test_forecast_names_suspect_targets() -> None:
    found = forecasts(world([node(1), node(2, status="suspect")], on(1, "a")))
    assert found["node-1"].absorbed
    assert found["node-1"].suspects == ("node-2",)
    assert found["node-2"].suspects == ()


def test_forecast_ignores_already_pending_portfolios() -> None:
    unassigned = portfolio("gpu", selector={"gpu": "yes"})
    loss = forecasts(world([node(1), node(2)], [unassigned, *on(1, "a")]))["node-1"]
    assert loss.absorbed


def test_forecast_distinguishes_waiting_from_no_place() -> None:
    snapshot = world([node(1), node(2)], on(1, "a"), frozen=True, frozen_failover=True)
    loss = forecasts(snapshot)["node-1"]
    assert not loss.absorbed
    assert (names_without_place(loss), len(loss.unplaced.waiting)) == (set(), 1)


def test_portfolio_in_a_migrate_has_its_place() -> None:
    moving = portfolio("m", node=1, handoff=HandoffView(1, "migrate", source=1, target=2))
    fleet = [node(1, draining=True, handoffs=1), node(2, capacity=1, handoffs=1)]
    loss = forecasts(world(fleet, [moving]))["node-1"]
    assert (loss.absorbed, loss.fit, loss.runs) == (True, 1, 1)


def _random_snapshot(seed: int) -> Snapshot:
    draw = random.Random(seed)
    nodes = [
        node(
            n,
            capacity=draw.choice((2, 4, 5)),
            labels=draw.choice(({}, {"gpu": "yes"})),
            cordoned=draw.random() < 0.15,
            draining=draw.random() < 0.1,
            status=draw.choice(("alive", "alive", "alive", "alive", "suspect", "lost")),
        )
        for n in range(1, 7)
    ]
    portfolios: list[PortfolioView] = []
    for number in range(draw.randint(4, 22)):
        owner = draw.choice((*range(1, 7), None))
        portfolios.append(
            replace(
                portfolio(f"p-{number:02}", node=owner, weight=draw.choice((1, 1, 2))),
                id=number + 1,
                priority=draw.randint(0, 3),
                selector=draw.choice(({}, {}, {"gpu": "yes"})),
                spread_group=draw.choice((None, "alpha")),
                spread_hard=draw.random() < 0.3,
            )
        )
    return world(nodes, portfolios)


@pytest.mark.parametrize("seed", range(60))
def test_forecast_agrees_with_the_what_if_answer(seed: int) -> None:
    snapshot = _random_snapshot(seed)
    index = FleetIndex.of(snapshot.portfolios)
    for name, loss in forecasts(snapshot).items():
        answered = answer(snapshot, Scenario(lose=(name,)), index, 0.5)
        assert loss.unplaced == answered.unplaced
        assert loss.suspects == answered.suspects
        named = {entry.portfolio.id for entry in answered.plan.pending}
        fresh = {e.portfolio.id for e in (*loss.unplaced.no_place, *loss.unplaced.waiting)}
        assert fresh <= named
        assert len(named - fresh) == answered.already_pending
