"""What the loss of a node counts: what only waits, what is not its own, what is stopping."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import HandoffView, Policy, Snapshot
from scheduling.decide.what_if.node_loss import NodeLoss, forecast_node_loss, pending_ids
from tests.support.plan_factories import NOW, node, on, portfolio, world


def loss(snapshot: Snapshot, policy: Policy | None = None, number: int = 1) -> NodeLoss:
    """What the loss of node `number` would come to."""
    index = FleetIndex.of(snapshot.portfolios)
    already_pending = pending_ids(make_plan(snapshot, policy or Policy(), index))
    (lost,) = [each for each in snapshot.nodes if each.id == number]
    return forecast_node_loss(snapshot, lost, index, already_pending, policy)


def counted(found: NodeLoss) -> tuple[int, int, int]:
    """Those with no place, those that wait, those that fit."""
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
def test_what_is_held_waits_and_has_its_place(held: dict[str, Any], code: str) -> None:
    found = loss(world([node(1), node(2)], on(1, "a"), **held))
    assert [entry.reason.code for entry in found.unplaced.waiting] == [code]
    assert counted(found) == (0, 1, 0)


def test_after_a_storm_those_of_a_later_pass_wait() -> None:
    snapshot = world([node(1), node(2)], on(1, "a", "b", "c"), after_storm=True)
    assert counted(loss(snapshot, Policy(failovers_after_storm=1))) == (0, 2, 1)


def test_what_backs_off_waits() -> None:
    assert counted(loss(world([node(1), node(2)], on(1, "a", not_before=NOW + 5)))) == (0, 1, 0)


def test_what_others_make_room_for_waits() -> None:
    # Two places are free on each of two nodes: one of node-2 has to go to node-3 first.
    fleet = [node(1), node(2, capacity=4), node(3, capacity=2)]
    assert counted(loss(world(fleet, [*on(1, "a", weight=3), *on(2, "x", "y")]))) == (0, 1, 0)


def test_what_is_being_stopped_needs_no_other_place() -> None:
    ending = portfolio("s", node=1, desired="stopped", handoff=HandoffView(6, "stop", source=1))
    found = loss(world([node(1), node(2)], [ending, *on(1, "a")]))
    assert (found.runs, counted(found)) == (1, (0, 0, 1))


def test_what_moves_between_others_is_none_of_its_own() -> None:
    moving = portfolio("m", node=2, handoff=HandoffView(5, "migrate", source=2, target=3))
    found = loss(world([node(1), node(2), node(3)], [moving, *on(1, "a")]))
    assert found.runs == 1


def test_what_was_to_be_placed_on_it_has_no_place_and_is_none_of_those_it_runs() -> None:
    found = loss(world([node(1, capacity=1), node(2, capacity=1)], [portfolio("p"), *on(2, "x")]))
    assert not found.absorbed
    assert (found.runs, counted(found)) == (0, (1, 0, 0))


def test_a_suspect_node_is_counted_where_something_new_is_placed_on_it() -> None:
    found = loss(world([node(1), node(2, status="suspect")], [portfolio("p")]))
    assert (found.absorbed, found.suspects) == (True, ("node-2",))
