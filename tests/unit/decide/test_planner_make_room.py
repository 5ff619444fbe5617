"""Relocating portfolios to make room for an unassigned one."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest

from scheduling.decide.planner import make_room
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.reasons import render
from scheduling.decide.types import HandoffView, Policy, Snapshot
from tests.support.plan_factories import applied, moves, node, on, pending, places, portfolio, world

POLICY = Policy()
GPU = {"gpu": "yes"}


def scattered() -> Snapshot:
    """Two nodes at 3 of 5, and a portfolio that needs 4: enough is free, but not on one node."""
    light = [portfolio(f"{name}{n}", node=n) for n in (1, 2) for name in "abc"]
    return world([node(1), node(2)], [*light, portfolio("big", weight=4)])


def under_way(snapshot: Snapshot, *names: str, handoffs: int = 2) -> Snapshot:
    """Return the snapshot with these portfolios on their way to node-2."""
    views = [
        replace(each, handoff=HandoffView(each.id, "migrate", source=1, target=2))
        if each.name in names
        else each
        for each in snapshot.portfolios
    ]
    nodes = tuple(replace(each, handoffs=handoffs) for each in snapshot.nodes)
    return replace(snapshot, nodes=nodes, portfolios=tuple(views))


def test_two_moves_make_room_for_a_heavy_portfolio() -> None:
    # big needs 2 of node-1 gone: a1 and b1 fit on node-2, which makes it 5 of 5.
    snapshot = scattered()
    plan = make_plan(snapshot, POLICY)
    assert moves(plan) == {"a1": "node-2", "b1": "node-2"}
    assert [render(move.reason) for move in plan.move] == [
        "makes room for big: node-1 3 → 2 of 5, node-2 3 → 4 of 5",
        "makes room for big: node-1 2 → 1 of 5, node-2 4 → 5 of 5",
    ]
    assert pending(plan) == {
        "big": "needs 4 places: node-1 has room once a1 is on node-2 and b1 is on node-2"
    }
    after = applied(snapshot, plan)
    assert places(make_plan(after, POLICY)) == {"big": "node-1"}
    assert make_plan(applied(after, make_plan(after, POLICY)), POLICY).changes == 0


def test_move_waits_for_another_move_that_makes_room_on_its_target() -> None:
    # Only node-1 has the label; c can only go to node-2, from where d goes to node-3.
    nodes = [
        node(1, capacity=2, labels={**GPU, "disk": "yes"}),
        node(2, capacity=2, labels={"disk": "yes"}),
        node(3, capacity=2),
    ]
    running = [*on(1, "c", weight=2, selector={"disk": "yes"}), *on(2, "d", weight=2)]
    snapshot = world(nodes, [*running, portfolio("p", selector=GPU)])
    plan = make_plan(snapshot, POLICY)
    assert moves(plan) == {"d": "node-3"}
    assert pending(plan) == {
        "p": "needs 1 place: node-1 has room once d is on node-3 and c is on node-2"
    }
    snapshot = applied(snapshot, plan)
    plan = make_plan(snapshot, POLICY)
    assert moves(plan) == {"c": "node-2"}
    assert places(make_plan(applied(snapshot, plan), POLICY)) == {"p": "node-1"}


def test_placements_are_reassigned_before_anything_moves() -> None:
    # Alone, a goes to node-1 (the lower name). p can only go there, so a goes to node-2.
    nodes = [node(1, capacity=2, labels=GPU), node(2, capacity=2)]
    waiting = [portfolio("a", weight=2, priority=1), portfolio("p", weight=2, selector=GPU)]
    plan = make_plan(world(nodes, waiting), POLICY)
    assert places(plan) == {"a": "node-2", "p": "node-1"}
    assert (plan.move, plan.pending) == ((), ())


def test_reassigned_placement_frees_its_handoff_slot() -> None:
    # a goes to node-1 first and then makes room for p, node-1's one handoff: r can still leave.
    nodes = [node(1, capacity=7, labels=GPU), node(2, capacity=3), node(3, capacity=2)]
    new = [portfolio("a", weight=2, priority=1), portfolio("p", weight=4, selector=GPU)]
    plan = make_plan(world(nodes, [portfolio("r", weight=2, node=1, pinned=3), *new]), POLICY)
    assert places(plan) == {"a": "node-2", "p": "node-1"}
    assert moves(plan) == {"r": "node-3"}


def test_no_new_moves_while_room_making_moves_are_active() -> None:
    for policy in (POLICY, Policy(handoffs_per_node=9)):
        plan = make_plan(under_way(scattered(), "a1", "b1"), policy)
        assert plan.changes == 0
        assert pending(plan) == {
            "big": "needs 4 places: node-1 has room once the portfolios leaving it have moved"
        }


def test_hard_group_member_moves_away_so_that_another_can_be_placed() -> None:
    # Only node-1 has the label; another member on it could also run on node-2.
    group = {"spread_group": "alpha", "spread_hard": True}
    nodes = [node(1, labels=GPU), node(2)]
    snapshot = world(nodes, [*on(1, "a", **group), portfolio("p", selector=GPU, **group)])
    plan = make_plan(snapshot, POLICY)
    assert moves(plan) == {"a": "node-2"}
    assert pending(make_plan(under_way(snapshot, "a", handoffs=0), POLICY)) == {
        "p": "needs 1 place: node-1 has room once the portfolios leaving it have moved"
    }
    assert places(make_plan(applied(snapshot, plan), POLICY)) == {"p": "node-1"}


def test_least_important_and_lightest_portfolio_makes_room() -> None:
    nodes = [node(1, capacity=7, labels=GPU), node(2, capacity=9, cordoned=False)]
    running = [
        portfolio("a", node=1, priority=5),
        portfolio("b", node=1, weight=3),
        portfolio("c", node=1, weight=2),
        portfolio("d", node=1),
        portfolio("e", node=2, weight=2),
    ]
    # p lacks 2 places: of priority 0, c is the lightest that is sufficient alone.
    plan = make_plan(world(nodes, [*running, portfolio("p", weight=2, selector=GPU)]), POLICY)
    assert moves(plan) == {"c": "node-2"}


def test_one_move_is_preferred_to_two() -> None:
    # node-1 lacks 2 places, in two portfolios; node-2 lacks 3, in one.
    nodes = [node(1, labels=GPU), node(2, labels=GPU), node(3, capacity=4)]
    heavy = portfolio("heavy", node=2, weight=3)
    running = [*on(1, *"abcd"), heavy, portfolio("x", node=2, weight=2, pinned=2)]
    waiting = portfolio("p", weight=3, selector=GPU)
    assert moves(make_plan(world(nodes, [*running, waiting]), POLICY)) == {"heavy": "node-3"}


def test_pinned_portfolio_makes_no_room() -> None:
    views = [*on(1, "a", "b", pinned=1), portfolio("p", selector=GPU)]
    snapshot = world([node(1, capacity=2, labels=GPU), node(2)], views)
    assert make_plan(snapshot, POLICY).changes == 0


@pytest.mark.parametrize(
    "held",
    [{"frozen": True}, {"storm_hold": True}, {"storm_late": ("node-9",)}, {"after_storm": True}],
)
def test_in_a_freeze_or_a_storm_nothing_moves_to_make_room(held: dict[str, Any]) -> None:
    plan = make_plan(replace(scattered(), **held), POLICY)
    assert plan.changes == 0
    assert "no room" in pending(plan)["big"]


@pytest.mark.parametrize("policy", [Policy(max_moves=0), Policy(handoffs_per_node=0)])
def test_no_portfolio_makes_room_if_moves_are_disabled(policy: Policy) -> None:
    assert make_plan(scattered(), policy).changes == 0


def test_disabled_rebalance_only_explains_what_would_make_room() -> None:
    plan = make_plan(scattered(), Policy(rebalance_gain=inf))
    assert plan.changes == 0
    assert "once a1 is on node-2" in pending(plan)["big"]


def test_second_room_making_move_waits_for_max_moves() -> None:
    snapshot = scattered()
    plan = make_plan(snapshot, Policy(max_moves=1))
    assert moves(plan) == {"a1": "node-2"}
    plan = make_plan(applied(snapshot, plan), Policy(max_moves=1))
    assert moves(plan) == {"b1": "node-2"}


def test_room_search_stops_after_max_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_room, "MAX_CHECKS", 1)
    assert make_plan(scattered(), POLICY).changes == 0


def test_fitting_portfolios_do_not_wait_for_room_making() -> None:
    # big has priority, but its moves take time, and 3 of 5 leave room for each of these.
    snapshot = scattered()
    *light, big = snapshot.portfolios
    small = [portfolio("x"), portfolio("y"), portfolio("z")]
    plan = make_plan(world(snapshot.nodes, [*light, replace(big, priority=9), *small]), POLICY)
    assert sorted(places(plan)) == ["x", "y", "z"]
    assert list(pending(plan)) == ["big"]


def test_room_being_made_is_reserved_for_its_portfolio() -> None:
    moving = under_way(scattered(), "a1", "b1")
    plan = make_plan(world(moving.nodes, [*moving.portfolios, portfolio("x", priority=-1)]), POLICY)
    assert plan.changes == 0
    assert list(pending(plan)) == ["big", "x"]
