"""Placement of unassigned portfolios, and the reasons of those that stay pending."""

from __future__ import annotations

import pytest

from scheduling.decide.planner import fleet_state
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.reasons import render
from scheduling.decide.types import HandoffView, NodeView, Policy, PortfolioView
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
GPU = {"gpu": "yes"}
HARD = {"spread_group": "alpha", "spread_hard": True}
P, PINNED = portfolio("p"), portfolio("p", pinned=1)
FAILED = portfolio("p", failed_nodes=frozenset({1}))
SOFT_P, SOFT_Q = (portfolio(name, spread_group="alpha") for name in "pq")
#: node-1 is the emptiest, but has a member; node-2 has none, at load 3.
SOFT = [*on(1, "m", spread_group="alpha"), *on(2, *"abc"), SOFT_P]
NO_NODE = "needs 1 place: there is no node yet; start one with run_node"

PLACED: dict[str, tuple[list[NodeView], list[PortfolioView], dict[str, str]]] = {
    # With p, node-1 would be at 3/4 = 0.75, node-2 at 5/8 = 0.625.
    "load is relative to capacity":
        ([node(1, capacity=4), node(2, capacity=8)], [*on(1, *"ab"), *on(2, *"cdef"), P],
         {"p": "node-2"}),
    "too heavy beside others":
        ([node(1)], [*on(1, "a", weight=4), portfolio("p", weight=2)], {}),
    "just light enough beside others": ([node(1)], [*on(1, "a", weight=4), P], {"p": "node-1"}),
    "a selector is a hard rule":
        ([node(1), node(2, labels=GPU)], [*on(2, *"abcd"), portfolio("p", selector=GPU)],
         {"p": "node-2"}),
    "other strategy versions and other data are not eligible":
        ([node(1, strategies={"sma": 2}, feeds={"replay": "aa"}),
          node(2, strategies={"sma": 1}, feeds={"replay": "bb"}),
          node(3, strategies={"sma": 1}, feeds={"replay": "aa"})],
         [*on(3, *"ab"), portfolio("p", strategy="sma", strategy_version=1, feed="replay",
                                   feed_sha="aa")], {"p": "node-3"}),
    "soft group members do not share a node": (THREE[:2], SOFT, {"p": "node-2"}),
    "soft group members share a node if each has one":
        (THREE[:2], [*SOFT, SOFT_Q], {"p": "node-2", "q": "node-1"}),
    "flapping is over": ([node(1, flapping_until=NOW)], [P], {"p": "node-1"}),
    "back-off is over": ([node(1)], [portfolio("p", not_before=NOW)], {"p": "node-1"}),
    "where it failed twice is avoided": (THREE[:2], [FAILED, *on(2, "a")], {"p": "node-2"}),
    "where it failed twice is the only node": ([node(1)], [FAILED], {"p": "node-1"}),
    "places of an active handoff are taken":
        (THREE[:2], [portfolio("c", weight=5, handoff=HandoffView(1, "place", target=1)), P],
         {"p": "node-2"}),
    "a pin does not break a hard spread group":
        (THREE[:2], [*on(1, "m", **HARD), portfolio("p", pinned=1, **HARD)], {"p": "node-2"}),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "portfolios", "expected"), PLACED.values(), ids=PLACED)
def test_planner_places_portfolios_on_the_expected_nodes(
    nodes: list[NodeView], portfolios: list[PortfolioView], expected: dict[str, str]
) -> None:
    assert places(make_plan(world(nodes, portfolios), POLICY)) == expected


def test_new_portfolios_are_placed_during_a_freeze_and_a_storm() -> None:
    plan = make_plan(world(THREE, [P], frozen=True, frozen_failover=True, storm_hold=True), POLICY)
    assert (places(plan), moves(plan)) == ({"p": "node-1"}, {})


PENDING: dict[str, tuple[list[NodeView], list[PortfolioView], dict[str, str]]] = {
    "no room":
        (THREE[:2], [*on(1, *"abcde"), *on(2, *"fghi"), portfolio("p", weight=2)],
         {"p": "needs 2 places: no room on 2 nodes: node-1 5 of 5, node-2 4 of 5; "
               "add a node, raise a capacity or stop a portfolio"}),
    "no nodes": ([], [P, *on(7, "q")], {"p": NO_NODE, "q": NO_NODE}),
    "cordoned, draining, lost, left and flapping nodes":
        ([node(1, cordoned=True), node(2, draining=True), node(3, status="lost"),
          node(4, status="left"), node(5, flapping_until=NOW + 14)], [P],
         {"p": "needs 1 place: no room on 4 nodes: node-1 cordoned, node-2 draining, node-3 lost, "
               "node-5 flapping; uncordon node-1 or add a node"}),
    "heavier than any node":
        ([node(1), node(2, capacity=8)], [portfolio("p", weight=9)],
         {"p": "needs 9 places on one node: the largest of 2 nodes has 8; "
               "raise a node's capacity or lower the weight"}),
    "back-off":
        (THREE, [portfolio("p", not_before=NOW + 4)],
         {"p": "the last attempt failed; the next one starts in 4 s"}),
    "stopped, halted and quarantined portfolios":
        (THREE, [portfolio("s", desired="stopped", phase="stopped"), portfolio("h", phase="halted"),
                 portfolio("q", phase="quarantined")], {}),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "portfolios", "expected"), PENDING.values(), ids=PENDING)
def test_unplaceable_portfolio_is_pending_with_a_sentence(
    nodes: list[NodeView], portfolios: list[PortfolioView], expected: dict[str, str]
) -> None:
    plan = make_plan(world(nodes, portfolios), POLICY)
    assert (plan.changes, pending(plan)) == (0, expected)


REASONS: dict[str, tuple[list[NodeView], list[PortfolioView], str, str]] = {
    "lowest load":
        (THREE, [P, *on(1, "a")], "node-2", "node-2 has the lowest load of 3 nodes: 0 → 1 of 5"),
    "pin": (THREE, [*on(1, "a", "b"), PINNED], "node-1", "pinned to node-1: load 2 → 3 of 5"),
    "closed pin":
        ([node(1, cordoned=True), node(2)], [PINNED], "node-2", "pinned to node-1, which cannot "
         "take it now; node-2 is the only eligible node: load 0 → 1 of 5"),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "portfolios", "target", "why"), REASONS.values(), ids=REASONS)
def test_placement_has_a_reason(
    nodes: list[NodeView], portfolios: list[PortfolioView], target: str, why: str
) -> None:
    (step,) = make_plan(world(nodes, portfolios), POLICY).place
    assert (step.portfolio.name, step.target.name, render(step.reason)) == ("p", target, why)


def test_placement_order_is_priority_weight_name() -> None:
    # Three places: "late" (priority 9) takes 1, the heavier "b" 2, and nothing is left for "a".
    waiting = [portfolio("a"), portfolio("b", weight=2), portfolio("late", priority=9)]
    plan = make_plan(world([node(1, capacity=3)], waiting), POLICY)
    assert [step.portfolio.name for step in plan.place] == ["late", "b"]
    assert list(pending(plan)) == ["a"]
    plan = make_plan(world([node(1, capacity=1)], [portfolio("b"), portfolio("a")]), POLICY)
    assert places(plan) == {"a": "node-1"}


def test_members_of_a_hard_spread_group_never_share_a_node() -> None:
    plan = make_plan(world(THREE, [portfolio(f"p-{i}", **HARD) for i in range(4)]), POLICY)
    assert sorted(places(plan).values()) == ["node-1", "node-2", "node-3"]
    assert pending(plan) == {
        "p-3": "needs 1 place: no room on 3 nodes: node-1 runs another member of alpha, "
        "node-2 runs another member of alpha, node-3 runs another member of alpha; "
        "add a node or make the spread group soft"
    }


def test_a_suspect_node_is_chosen_only_when_nothing_else_has_room() -> None:
    nodes = [node(1, status="suspect"), node(2)]
    almost_full = on(2, "a", "b", "c", "d")
    plan = make_plan(world(nodes, [*almost_full, portfolio("p"), portfolio("q")]), POLICY)
    assert places(plan) == {"p": "node-2", "q": "node-1"}
    assert render(plan.place[1].reason) == (
        "no alive node has room; node-1 is suspect but has room: load 0 → 1 of 5"
    )


def test_placement_on_a_lost_target_is_superseded() -> None:
    p = portfolio("p", handoff=HandoffView(17, "place", target=1))
    plan = make_plan(world([node(1, status="lost"), node(2)], [p]), POLICY)
    assert [(step.target.name, step.supersedes) for step in plan.place] == [("node-2", 17)]


def test_portfolio_with_an_open_place_handoff_is_left_alone() -> None:
    p = portfolio("p", handoff=HandoffView(17, "place", target=1))
    assert make_plan(world(THREE, [p]), POLICY).changes == 0


def test_placements_are_balanced_before_they_start() -> None:
    # By priority: a → node-1, b → node-2, then the heavy one (4) → node-1, that is 5 and 1.
    # Reassigned: a → node-2, so 4 and 2, without interrupting anything.
    new = [portfolio("a", priority=1), portfolio("b", priority=1), portfolio("heavy", weight=4)]
    snapshot = world([node(1, capacity=10), node(2, capacity=10)], new)
    plan = make_plan(snapshot, POLICY)
    assert sorted(loads(applied(snapshot, plan)).values()) == [2, 4]
    assert make_plan(applied(snapshot, plan), POLICY).changes == 0


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
    snapshot = world([node(1, capacity=10, labels={"zone": "hk"}), node(2, capacity=10)], new)
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
