"""Placement of unassigned portfolios, and the reasons of those that stay pending."""

from __future__ import annotations

import pytest

from scheduling.decide.planner import fleet_state
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.reasons import render
from scheduling.decide.types import HandoffView, Policy
from tests.support.plan_factories import (
    NOW,
    applied,
    loads,
    moves,
    node,
    on,
    pending,
    places,
    portfolio,
    world,
)

POLICY = Policy()
THREE = [node(1), node(2), node(3)]


def test_six_portfolios_on_three_empty_nodes_land_two_on_each() -> None:
    snapshot = world(THREE, [portfolio(f"p-{i}") for i in range(6)])
    plan = make_plan(snapshot, POLICY)
    assert loads(applied(snapshot, plan)) == {"node-1": 2, "node-2": 2, "node-3": 2}
    assert plan.pending == plan.stuck == plan.move == ()


def test_placement_has_a_reason() -> None:
    plan = make_plan(world(THREE, [portfolio("p"), *on(1, "a")]), POLICY)
    assert render(plan.place[0].reason) == "node-2 has the lowest load of 3 nodes: 0 → 1 of 5"


def test_unplaceable_portfolio_is_pending_with_a_sentence() -> None:
    full = [*on(1, "a", "b", "c", "d", "e"), *on(2, "f", "g", "h", "i")]
    plan = make_plan(world([node(1), node(2)], [*full, portfolio("p", weight=2)]), POLICY)
    assert pending(plan) == {
        "p": "needs 2 places: no room on 2 nodes: node-1 5 of 5, node-2 4 of 5; "
        "add a node, raise a capacity or stop a portfolio"
    }


def test_everything_is_pending_without_nodes() -> None:
    plan = make_plan(world([], [portfolio("p"), *on(7, "q")]), POLICY)
    sentence = "needs 1 place: there is no node yet; start one with run_node"
    assert pending(plan) == {"p": sentence, "q": sentence}
    assert plan.changes == 0


def test_placement_order_is_priority_weight_name() -> None:
    # Three places: "late" (priority 9) takes 1, the heavier "b" 2, and nothing is left for "a".
    waiting = [portfolio("a"), portfolio("b", weight=2), portfolio("late", priority=9)]
    plan = make_plan(world([node(1, capacity=3)], waiting), POLICY)
    assert [step.portfolio.name for step in plan.place] == ["late", "b"]
    assert list(pending(plan)) == ["a"]
    plan = make_plan(world([node(1, capacity=1)], [portfolio("b"), portfolio("a")]), POLICY)
    assert places(plan) == {"a": "node-1"}


def test_load_is_relative_to_capacity() -> None:
    # With p, node-1 would be at 3/4 = 0.75, node-2 at 5/8 = 0.625.
    nodes = [node(1, capacity=4), node(2, capacity=8)]
    running = [*on(1, "a", "b"), *on(2, "c", "d", "e", "f")]
    assert places(make_plan(world(nodes, [*running, portfolio("p")]), POLICY)) == {"p": "node-2"}


def test_capacity_is_a_sum_of_weights() -> None:
    running = on(1, "a", weight=4)
    plan = make_plan(world([node(1)], [*running, portfolio("p", weight=2)]), POLICY)
    assert places(plan) == {}
    plan = make_plan(world([node(1)], [*running, portfolio("p", weight=1)]), POLICY)
    assert places(plan) == {"p": "node-1"}


def test_a_selector_is_a_hard_rule() -> None:
    nodes = [node(1), node(2, labels={"gpu": "yes"})]
    running = on(2, "a", "b", "c", "d")
    plan = make_plan(world(nodes, [*running, portfolio("p", selector={"gpu": "yes"})]), POLICY)
    assert places(plan) == {"p": "node-2"}


def test_a_node_with_another_strategy_version_or_other_data_is_not_eligible() -> None:
    nodes = [
        node(1, strategies={"sma": 2}, feeds={"replay": "aa"}),
        node(2, strategies={"sma": 1}, feeds={"replay": "bb"}),
        node(3, strategies={"sma": 1}, feeds={"replay": "aa"}),
    ]
    wanted = {"strategy": "sma", "strategy_version": 1, "feed": "replay", "feed_sha": "aa"}
    plan = make_plan(world(nodes, [*on(3, "a", "b"), portfolio("p", **wanted)]), POLICY)
    assert places(plan) == {"p": "node-3"}


def test_members_of_a_hard_spread_group_never_share_a_node() -> None:
    group = {"spread_group": "alpha", "spread_hard": True}
    plan = make_plan(world(THREE, [portfolio(f"p-{i}", **group) for i in range(4)]), POLICY)
    assert sorted(places(plan).values()) == ["node-1", "node-2", "node-3"]
    assert pending(plan) == {
        "p-3": "needs 1 place: no room on 3 nodes: node-1 runs another member of alpha, "
        "node-2 runs another member of alpha, node-3 runs another member of alpha; "
        "add a node or make the spread group soft"
    }


def test_members_of_a_soft_spread_group_share_only_when_each_node_has_one() -> None:
    # node-1 is the emptiest, but has a member; node-2 has none, at load 3.
    running = [*on(1, "m", spread_group="alpha"), *on(2, "a", "b", "c")]
    p, q = portfolio("p", spread_group="alpha"), portfolio("q", spread_group="alpha")
    snapshot = world([node(1), node(2)], [*running, p])
    assert places(make_plan(snapshot, POLICY)) == {"p": "node-2"}
    snapshot = world([node(1), node(2)], [*running, p, q])
    assert places(make_plan(snapshot, POLICY)) == {"p": "node-2", "q": "node-1"}


def test_cordoned_draining_lost_left_and_flapping_nodes_get_nothing_new() -> None:
    nodes = [
        node(1, cordoned=True),
        node(2, draining=True),
        node(3, status="lost"),
        node(4, status="left"),
        node(5, flapping_until=NOW + 14),
    ]
    plan = make_plan(world(nodes, [portfolio("p")]), POLICY)
    assert pending(plan) == {
        "p": "needs 1 place: no room on 4 nodes: node-1 cordoned, node-2 draining, node-3 lost, "
        "node-5 flapping; uncordon node-1 or add a node"
    }


def test_node_is_eligible_after_its_flapping_period() -> None:
    plan = make_plan(world([node(1, flapping_until=NOW)], [portfolio("p")]), POLICY)
    assert places(plan) == {"p": "node-1"}


def test_a_suspect_node_is_chosen_only_when_nothing_else_has_room() -> None:
    nodes = [node(1, status="suspect"), node(2)]
    almost_full = on(2, "a", "b", "c", "d")
    plan = make_plan(world(nodes, [*almost_full, portfolio("p"), portfolio("q")]), POLICY)
    assert places(plan) == {"p": "node-2", "q": "node-1"}
    assert (
        render(plan.place[1].reason)
        == "no alive node has room; node-1 is suspect but has room: load 0 → 1 of 5"
    )


def test_portfolio_avoids_a_node_where_it_failed_twice() -> None:
    p = portfolio("p", failed_nodes=frozenset({1}))
    assert places(make_plan(world([node(1), node(2)], [p, *on(2, "a")]), POLICY)) == {"p": "node-2"}


def test_failed_node_is_tried_again_if_it_is_the_only_one() -> None:
    p = portfolio("p", failed_nodes=frozenset({1}))
    assert places(make_plan(world([node(1)], [p]), POLICY)) == {"p": "node-1"}


def test_backing_off_portfolio_is_pending_with_its_wait() -> None:
    plan = make_plan(world(THREE, [portfolio("p", not_before=NOW + 4)]), POLICY)
    assert pending(plan) == {"p": "the last attempt failed; the next one starts in 4 s"}
    assert places(make_plan(world(THREE, [portfolio("p", not_before=NOW)]), POLICY)) != {}


def test_stopped_halted_and_quarantined_portfolios_are_not_placed() -> None:
    waiting = [
        portfolio("s", desired="stopped", phase="stopped"),
        portfolio("h", phase="halted"),
        portfolio("q", phase="quarantined"),
    ]
    plan = make_plan(world(THREE, waiting), POLICY)
    assert (plan.changes, plan.pending) == (0, ())


def test_places_of_an_active_handoff_are_taken() -> None:
    coming = portfolio("c", weight=5, handoff=HandoffView(1, "place", target=1))
    plan = make_plan(world([node(1), node(2)], [coming, portfolio("p")]), POLICY)
    assert places(plan) == {"p": "node-2"}


def test_placement_on_a_lost_target_is_superseded() -> None:
    p = portfolio("p", handoff=HandoffView(17, "place", target=1))
    plan = make_plan(world([node(1, status="lost"), node(2)], [p]), POLICY)
    assert [(step.target.name, step.supersedes) for step in plan.place] == [("node-2", 17)]


def test_active_placement_is_kept() -> None:
    p = portfolio("p", handoff=HandoffView(17, "place", target=1))
    assert make_plan(world(THREE, [p]), POLICY).changes == 0


def test_pinned_portfolio_is_placed_on_its_pin() -> None:
    p = portfolio("p", pinned=1)
    plan = make_plan(world(THREE, [*on(1, "a", "b"), p]), POLICY)
    assert places(plan) == {"p": "node-1"}
    assert render(plan.place[0].reason) == "pinned to node-1: load 2 → 3 of 5"


def test_pinned_portfolio_is_placed_elsewhere_if_its_pin_is_closed() -> None:
    p = portfolio("p", pinned=1)
    plan = make_plan(world([node(1, cordoned=True), node(2)], [p]), POLICY)
    assert render(plan.place[0].reason) == (
        "pinned to node-1, which cannot take it now; "
        "node-2 is the only eligible node: load 0 → 1 of 5"
    )


def test_placements_are_balanced_before_they_start() -> None:
    # By priority: a → node-1, b → node-2, then the heavy one (4) → node-1, that is 5 and 1.
    # Reassigned: a → node-2, so 4 and 2, without interrupting anything.
    new = [portfolio("a", priority=1), portfolio("b", priority=1), portfolio("heavy", weight=4)]
    snapshot = world([node(1, capacity=10), node(2, capacity=10)], new)
    plan = make_plan(snapshot, POLICY)
    assert sorted(loads(applied(snapshot, plan)).values()) == [2, 4]
    assert make_plan(applied(snapshot, plan), POLICY).changes == 0


def test_new_portfolios_are_placed_during_a_freeze_and_a_storm() -> None:
    snapshot = world(THREE, [portfolio("p")], frozen=True, frozen_failover=True, storm_hold=True)
    assert places(make_plan(snapshot, POLICY)) == {"p": "node-1"}
    assert moves(make_plan(snapshot, POLICY)) == {}


def test_portfolio_heavier_than_any_node_is_pending() -> None:
    plan = make_plan(world([node(1), node(2, capacity=8)], [portfolio("p", weight=9)]), POLICY)
    assert pending(plan) == {
        "p": "needs 9 places on one node: the largest of 2 nodes has 8; "
        "raise a node's capacity or lower the weight"
    }


def test_a_pin_does_not_break_a_hard_spread_group() -> None:
    group = {"spread_group": "alpha", "spread_hard": True}
    running = on(1, "m", **group)
    plan = make_plan(
        world([node(1), node(2)], [*running, portfolio("p", pinned=1, **group)]), POLICY
    )
    assert places(plan) == {"p": "node-2"}


def test_reassigning_a_placement_precedes_moving_a_running_portfolio() -> None:
    # f (important) → node-1, heavy (5) → node-1: 1 + 1 + 5 = 7 against 4. f or r would balance it
    # to 6 and 5; r runs, f does not yet.
    waiting = [portfolio("f", priority=9), portfolio("heavy", weight=5)]
    running = [*on(1, "r"), *on(2, "s", weight=4)]
    nodes = [node(1, capacity=10), node(2, capacity=10)]
    plan = make_plan(world(nodes, [*running, *waiting]), POLICY)
    assert places(plan) == {"f": "node-2", "heavy": "node-1"}
    assert moves(plan) == {}


def test_room_from_reassigning_goes_to_unplaced_portfolios() -> None:
    # a, b and heavy (4) land 5 and 1, so p (6, only on node-1) finds 5 free; then a is
    # reassigned to node-2, and p has its 6.
    new = [
        portfolio("a", priority=2),
        portfolio("b", priority=2),
        portfolio("heavy", priority=1, weight=4),
        portfolio("p", weight=6, selector={"zone": "hk"}),
    ]
    nodes = [node(1, capacity=10, labels={"zone": "hk"}), node(2, capacity=10)]
    snapshot = world(nodes, new)
    plan = make_plan(snapshot, POLICY)
    assert plan.pending == ()
    assert loads(applied(snapshot, plan)) == {"node-1": 6, "node-2": 6}


def test_a_large_soft_group_is_spread_exactly_like_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new = [portfolio(f"p-{i:02}", weight=1 + i % 3, spread_group="alpha") for i in range(20)]
    snapshot = world([node(i, capacity=6 + i) for i in range(1, 5)], new)
    small = make_plan(snapshot, POLICY)
    monkeypatch.setattr(fleet_state, "LARGE_GROUP", 0)
    assert make_plan(snapshot, POLICY) == small
