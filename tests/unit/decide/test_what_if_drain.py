"""What a drain would do: who goes where, who stays, pins, room and the losses that follow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.targets import NotInSnapshot
from scheduling.decide.types import Snapshot
from scheduling.decide.what_if import drain as module
from scheduling.decide.what_if.drain import DrainPlan, drain_plan, room_for_drain
from tests.support.plan_factories import node, on, portfolio, world


def plan(snapshot: Snapshot, name: str = "node-1") -> DrainPlan:
    return drain_plan(snapshot, name, FleetIndex.of(snapshot.portfolios), 0.5)


def crowded() -> Snapshot:
    """A heavy portfolio on node-1 that no other node takes, unless `c` leaves node-2 for node-3."""
    nodes = [node(1), node(2, capacity=4), node(3, capacity=1)]
    return world(nodes, [*on(1, "heavy", weight=4), *on(2, "c")])


def test_portfolios_leave_a_drained_node_in_the_order_of_the_plan() -> None:
    fleet = [*on(1, "a"), *on(1, "b", priority=5), *on(2, "c")]
    found = plan(world([node(1), node(2), node(3)], fleet))
    leave = [(m.portfolio.name, m.target.name) for m in found.leave]
    assert leave == [("b", "node-3"), ("a", "node-2")]
    assert (found.stay, found.room, found.others) == ((), (), ())


def test_a_portfolio_that_no_node_takes_stays_with_its_reason() -> None:
    found = plan(world([node(1), node(2)], on(1, "gpu", selector={"gpu": "yes"})))
    assert [(e.portfolio.name, e.reason.code) for e in found.stay] == [("gpu", "no_selector")]
    assert found.leave == ()


def test_drain_ends_pins_except_to_the_node_where_the_portfolio_goes() -> None:
    fleet = [
        *on(1, "pinned", pinned=1),
        *on(1, "free"),
        *on(1, "elsewhere", pinned=2),
        *on(1, "third", pinned=3),
        *on(1, "held", pinned=1, selector={"gpu": "yes"}),
    ]
    # node-3 is full: a drain is stronger than a pin that waits.
    assert plan(world([node(1), node(2), node(3, capacity=0)], fleet)).pins == ("pinned", "third")


def test_drain_plan_makes_room_by_moving_other_portfolios_first() -> None:
    found = plan(crowded())
    assert [e.portfolio.name for e in found.stay] == ["heavy"]
    assert [(m.portfolio.name, m.target.name) for m in found.room] == [("c", "node-3")]
    assert found.stay_with_room == 0
    assert room_for_drain(crowded(), "node-1") == found.room


def test_drain_plan_offers_no_room_making_move_that_would_not_help() -> None:
    snapshot = crowded()
    without = replace(snapshot, nodes=snapshot.nodes[:2])
    assert (plan(without).room, plan(without).stay_with_room) == ((), 1)
    assert room_for_drain(without, "node-1") == ()


def test_drain_plan_offers_no_room_making_moves_that_need_a_second_pass() -> None:
    # b fits node-3 only once c has left it, and no move begins before it fits.
    nodes = [
        node(1, labels={"zone": "a"}),
        node(2, capacity=2, labels={"zone": "a"}),
        node(3, capacity=2),
        node(4, capacity=1),
    ]
    fleet = [*on(1, "heavy", weight=2, selector={"zone": "a"}), *on(2, "b", weight=2), *on(3, "c")]
    found = plan(world(nodes, fleet))
    assert [e.portfolio.name for e in found.stay] == ["heavy"]
    assert found.room == ()


def test_drain_plan_forecasts_node_losses_before_and_after_the_drain() -> None:
    # node-1 holds 2, node-2 and node-3 hold 3 each of 5: without node-1 a loss leaves 8 - 5.
    fleet = [*on(1, "a", "b"), *on(2, "c", "d", "e"), *on(3, "f", "g", "h")]
    found = plan(world([node(1), node(2), node(3)], fleet))
    assert [loss.node for loss in found.losses] == ["node-2", "node-3"]
    for loss in found.losses:
        assert len(loss.before.unplaced.no_place) == 0
        assert (loss.after.runs, len(loss.after.unplaced.no_place)) == (4, 3)
        assert loss.is_worse


def test_loss_forecasts_are_bounded_and_begin_with_the_receiving_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_FORECASTS", 1)
    nodes = [node(1), node(2, capacity=1), node(3, capacity=9)]
    found = plan(world(nodes, [*on(1, "a"), *on(2, "b")]))
    assert [loss.node for loss in found.losses] == ["node-3"]
    assert found.unforecast == 1


def test_drain_plan_also_places_pending_portfolios() -> None:
    found = plan(world([node(1), node(2)], [*on(1, "a"), portfolio("new")]))
    assert [step.portfolio.name for step in found.others] == ["new"]


def test_drain_plan_of_an_unknown_node_names_it() -> None:
    for ask in (plan, room_for_drain):
        with pytest.raises(NotInSnapshot, match="node-9"):
            ask(world([node(1)], []), "node-9")
