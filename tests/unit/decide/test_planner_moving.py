"""Failover, drain, pin and rebalance moves, their limits, and portfolios that stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scheduling.decide.planner.planner import make_plan
from scheduling.decide.reasons import render
from scheduling.decide.types import HandoffView, Policy, PortfolioView, Snapshot
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
    stuck,
    world,
)

POLICY = Policy()
GPU = {"gpu": "yes"}
HARD = {"spread_group": "alpha", "spread_hard": True}
LOST, SECOND, THIRD = node(1, status="lost"), node(2), node(3)
DRAINING = node(1, draining=True)


def with_handoff(name: str, kind: Any, **changes: Any) -> PortfolioView:
    """Return a portfolio on node-1 in an active handoff, to node-2 unless it is a stop."""
    target = None if kind == "stop" else 2
    return portfolio(name, node=1, handoff=HandoffView(7, kind, source=1, target=target), **changes)


STAY: dict[str, tuple[Snapshot, Policy]] = {
    "on a suspect node":
        (world([node(1, status="suspect"), SECOND], on(1, *"abc")), POLICY),
    "on a cordoned node":
        (world([node(1, cordoned=True), SECOND], on(1, *"abcd")), POLICY),
    "a stop is never superseded by failover":
        (world([LOST, SECOND], [with_handoff("p", "stop", desired="stopped")]), POLICY),
    "a stop ends before a restarted portfolio fails over":
        (world([LOST, SECOND], [with_handoff("p", "stop")]), POLICY),
    "a difference of one portfolio":
        (world([node(1), SECOND], [*on(1, *"ab"), *on(2, "c")]), POLICY),
    "the target has no free slots":
        (world([node(1), node(2, handoffs=2)], on(1, *"abcd")), POLICY),
    "a drain whose target has no free slots waits and is not stuck":
        (world([DRAINING, node(2, handoffs=2)], on(1, "a")), POLICY),
    # node-1 will have 2 once a and b have stopped, as many as node-2.
    "stopping portfolios are not expected load":
        (world([node(1), SECOND], [with_handoff("a", "stop", desired="stopped"),
               with_handoff("b", "stop", desired="stopped"), *on(1, *"cd"), *on(2, *"ef")]),
         POLICY),
    "hard group members stay apart":
        (world([node(1), SECOND], [*on(1, "a", **HARD), *on(1, *"xyz", pinned=1),
               *on(2, "m", **HARD)]), POLICY),
    # Only node-1 (6 of 100) and node-2 (4 of 100) have the label: 0.02 apart, less than the gain.
    "an ineligible empty node":
        (world([node(1, capacity=100, labels=GPU), node(2, capacity=100, labels=GPU), THIRD],
               [*on(1, *"abcdef", selector=GPU), *on(2, *"uvwx", selector=GPU)]),
         Policy(rebalance_gain=0.05)),
    "suspect, cordoned, draining and flapping nodes take nothing":
        (world([node(1), node(2, status="suspect"), node(3, cordoned=True),
                node(4, draining=True), node(5, flapping_until=NOW + 60)], on(1, *"abcde")),
         POLICY),
    # a and b are on their way to node-2, which makes it 2 and 2.
    "active moves count at their target":
        (world([node(1, handoffs=2), node(2, handoffs=2), node(3, cordoned=True)],
               [with_handoff("a", "migrate"), with_handoff("b", "migrate"), *on(1, *"cd")]),
         Policy(handoffs_per_node=9)),
    "a drain that waits":
        (world([node(1, draining=True, handoffs=2), SECOND, THIRD],
               [*on(1, "a"), *on(2, *"bcd")]), POLICY),
    "a freeze": (world([node(1), SECOND], on(1, *"abcde"), frozen=True), POLICY),
    "pinned portfolios": (world([node(1), SECOND], on(1, *"abcd", pinned=1)), POLICY),
    "starting portfolios":
        (world([node(1), SECOND], [replace(p, phase="starting") for p in on(1, *"abcde")]),
         POLICY),
}  # fmt: skip


@pytest.mark.parametrize(("snapshot", "policy"), STAY.values(), ids=STAY)
def test_planner_leaves_portfolios_where_they_are(snapshot: Snapshot, policy: Policy) -> None:
    plan = make_plan(snapshot, policy)
    assert (plan.changes, plan.stuck) == (0, ())


MOVE: dict[str, tuple[Snapshot, Policy, dict[str, str]]] = {
    "failover before a more important placement":
        (world([LOST, node(2, capacity=1)], [*on(1, "old"), portfolio("new", priority=9)]),
         POLICY, {"old": "node-2"}),
    "failover ignores the pin":
        (world([LOST, SECOND], on(1, "p", pinned=1)), POLICY, {"p": "node-2"}),
    "drain ignores the pin":
        (world([DRAINING, SECOND], on(1, "a", pinned=1)), POLICY, {"a": "node-2"}),
    # 6 and 0 of 10: moving 3 leaves 3 and 3; moving 1 or 2 would need a second move.
    "the portfolio that balances most":
        (world([node(1, capacity=10), node(2, capacity=10)],
               [portfolio(n, node=1, weight=w) for n, w in (("a", 1), ("b", 2), ("c", 3))]),
         POLICY, {"c": "node-2"}),
    "the least important of equal portfolios":
        (world([node(1), SECOND], [*on(1, "a", "c", "d", priority=5), *on(1, "b", priority=1)]),
         Policy(max_moves=1), {"b": "node-2"}),
    # a goes back to its pin: 2 and 1. Counted as 3 and 1, b would move too.
    "planned moves do not count at their source":
        (world([node(1), SECOND], [*on(1, "a", pinned=2), *on(1, *"bc")]), POLICY, {"a": "node-2"}),
}  # fmt: skip


@pytest.mark.parametrize(("snapshot", "policy", "expected"), MOVE.values(), ids=MOVE)
def test_planner_moves_portfolios_to_the_expected_nodes(
    snapshot: Snapshot, policy: Policy, expected: dict[str, str]
) -> None:
    assert moves(make_plan(snapshot, policy)) == expected


NOT_MOVED: dict[str, tuple[Snapshot, str, str]] = {
    "failover without room":
        (world([LOST, node(2, capacity=2)], [*on(1, "a"), *on(2, *"bc")]), "pending",
         "needs 1 place: no room on 2 nodes: node-1 lost, node-2 2 of 2; "
         "add a node, raise a capacity or stop a portfolio"),
    "storm":
        (world([LOST, node(2, status="lost"), THIRD], on(1, "a"), storm_hold=True), "pending",
         "node-1 was lost together with many others, so failover is held; "
         "it continues when they come back, or release the hold"),
    "late nodes beside a lost one":
        (world([LOST, node(2, status="suspect"), THIRD], on(1, "a"), storm_late=("node-2",)),
         "pending", "node-1 is lost and node-2 is late: failover waits until it is known whether "
         "they were lost together"),
    "held by an operator":
        (world([LOST, SECOND], on(1, "a"), storm_hold=True, storm_by="ann"), "pending",
         "node-1 is lost, but ann holds failover; release the hold, or migrate it"),
    "drain without room":
        (world([DRAINING, node(2, capacity=1), node(3, cordoned=True)], [*on(1, "a"), *on(2, "b")]),
         "stuck", "needs 1 place: no room on 2 other nodes: node-2 1 of 1, node-3 cordoned; "
         "uncordon node-3 or add a node"),
    "drain of the only node":
        (world([DRAINING], on(1, "a")), "stuck",
         "needs 1 place elsewhere: there is no other node; add one"),
    "frozen drain":
        (world([DRAINING, SECOND], on(1, "a"), frozen=True), "stuck",
         "its node is draining, but automatic moves are frozen; unfreeze, or migrate it manually"),
    "back-off after a failed move":
        (world([DRAINING, SECOND], on(1, "a", not_before=NOW + 30)), "stuck",
         "the last attempt failed; the next one starts in 30 s"),
    "unreachable pin":
        (world([node(1), node(2, cordoned=True)], on(1, "a", pinned=2)), "stuck",
         "cannot move to its pinned node: node-2 is cordoned: it takes no new portfolios; "
         "unpin it or make room there"),
    "unmet selector":
        (world([node(1), SECOND], on(1, "a", selector=GPU)), "stuck",
         "needs gpu=yes: 0 of 1 other node has it; add the label to one node or drop the selector"),
}  # fmt: skip


@pytest.mark.parametrize(("snapshot", "state", "sentence"), NOT_MOVED.values(), ids=NOT_MOVED)
def test_portfolio_that_cannot_move_says_why(snapshot: Snapshot, state: str, sentence: str) -> None:
    plan = make_plan(snapshot, POLICY)
    told = {"pending": pending(plan), "stuck": stuck(plan)}
    assert (plan.changes, told) == (0, {"pending": {}, "stuck": {}} | {state: {"a": sentence}})


def test_failover_goes_to_the_least_loaded_nodes_without_limits() -> None:
    nodes = [node(1, status="lost", capacity=9), node(2, capacity=9), node(3, capacity=9)]
    snapshot = world(nodes, on(1, *"abcdefgh"))
    plan = make_plan(snapshot, Policy(max_moves=1, handoffs_per_node=1))
    assert loads(applied(snapshot, plan)) == {"node-1": 0, "node-2": 4, "node-3": 4}
    assert {move.cause for move in plan.move} == {"failover"}
    assert render(plan.move[0].reason) == (
        "node-1 is lost; node-2 has the lowest load of 2 nodes: 0 → 1 of 9"
    )


def test_portfolios_of_left_and_unknown_nodes_fail_over() -> None:
    plan = make_plan(world([node(1, status="left"), node(2)], [*on(1, "a"), *on(9, "b")]), POLICY)
    assert moves(plan, "failover") == {"a": "node-2", "b": "node-2"}
    assert [render(move.reason) for move in plan.move] == [
        "node-1 has left; node-2 is the only eligible node: load 0 → 1 of 5",
        "its node is no longer known; node-2 is the only eligible node: load 1 → 2 of 5",
    ]


def test_failover_supersedes_a_migrate_and_uses_its_prepared_target() -> None:
    # node-2 has 1 of 2 and holds the second place for p: full for others, not for p.
    nodes = [LOST, node(2, capacity=2), THIRD]
    plan = make_plan(world(nodes, [with_handoff("p", "migrate"), *on(2, "a")]), POLICY)
    assert [(move.target.name, move.supersedes) for move in plan.move] == [("node-2", 7)]
    assert render(plan.move[0].reason) == (
        "node-1 is lost; node-2 has already prepared it: load 1 → 2 of 2"
    )


def test_warm_source_takes_over_from_a_lost_new_owner() -> None:
    p = portfolio("p", node=2, handoff=HandoffView(7, "migrate", source=1, target=2))
    plan = make_plan(world([node(1), node(2, status="lost"), node(3)], [p, *on(1, "a")]), POLICY)
    assert [(move.target.name, move.supersedes) for move in plan.move] == [("node-1", 7)]


def test_active_failover_is_kept_until_its_target_is_lost() -> None:
    p, both_lost = with_handoff("p", "failover"), [LOST, node(2, status="lost"), THIRD]
    assert make_plan(world([LOST, SECOND, THIRD], [p]), POLICY).changes == 0
    assert moves(make_plan(world(both_lost, [p]), POLICY)) == {"p": "node-3"}


def test_pass_after_a_storm_begins_ten_failovers_of_the_highest_priority() -> None:
    nodes = [node(1, status="lost", capacity=20), node(2, capacity=20)]
    names = [f"p{i:02}" for i in range(12)]
    snapshot = world(nodes, [*on(1, *names[:11]), *on(1, "p11", priority=5)], after_storm=True)
    plan = make_plan(snapshot, Policy(failovers_after_storm=10))
    assert sorted(moves(plan)) == [*names[:9], "p11"]
    waits = (
        "node-1 was lost in a storm: failover continues with 10 per pass, and it waits for its turn"
    )
    assert pending(plan) == {"p09": waits, "p10": waits}
    assert len(moves(make_plan(replace(snapshot, after_storm=False), Policy()))) == 12


def test_a_freeze_holds_failover_only_where_asked() -> None:
    snapshot = world([node(1, status="lost"), node(2)], on(1, "a"), frozen=True)
    assert moves(make_plan(snapshot, POLICY)) == {"a": "node-2"}
    plan = make_plan(replace(snapshot, frozen_failover=True), POLICY)
    assert plan.changes == 0
    assert pending(plan) == {
        "a": "node-1 is lost, but failover is frozen; unfreeze, or migrate it manually"
    }


def test_no_rebalance_in_a_pass_with_failovers() -> None:
    # The lost node's portfolio goes to node-3; the 5 against 1 wait for a pass without failover.
    snapshot = world([LOST, SECOND, THIRD], [*on(1, "x"), *on(2, *"abcde")])
    plan = make_plan(snapshot, POLICY)
    assert moves(plan) == {"x": "node-3"}
    then = moves(make_plan(applied(snapshot, plan), POLICY), "rebalance")
    assert set(then.values()) == {"node-3"}


def test_added_node_gets_load_with_the_fewest_moves() -> None:
    # 9 over 3, then a fourth: 3 3 3 0 → two moves → 2 2 3 2, a difference of 1 that no move lowers.
    running = [*on(1, "a", "b", "c"), *on(2, "d", "e", "f"), *on(3, "g", "h", "i")]
    snapshot = world([node(i) for i in (1, 2, 3, 4)], running)
    plan = make_plan(snapshot, POLICY)
    assert moves(plan, "rebalance") == {"a": "node-4", "d": "node-4"}
    after = applied(snapshot, plan)
    assert loads(after) == {"node-1": 2, "node-2": 2, "node-3": 3, "node-4": 2}
    assert make_plan(after, POLICY).changes == 0
    assert render(plan.move[0].reason) == "rebalances load: node-1 3 → 2 of 5, node-4 0 → 1 of 5"


def test_rebalance_moves_nothing_for_less_than_its_minimum_gain() -> None:
    # 6 of 100 and 2 of 100: a difference of 0.04. One move would make it 5 and 3.
    running = [*on(1, *"abcdef"), *on(2, "x", "y")]
    snapshot = world([node(1, capacity=100), node(2, capacity=100)], running)
    assert make_plan(snapshot, Policy(rebalance_gain=0.05)).changes == 0
    assert make_plan(snapshot, Policy(rebalance_gain=0.04)).changes == 1


def test_portfolio_returns_to_its_pin() -> None:
    snapshot = world([node(1), node(2)], on(1, "a", pinned=2))
    plan = make_plan(snapshot, POLICY)
    assert moves(plan, "pin") == {"a": "node-2"}
    assert make_plan(applied(snapshot, plan), POLICY).changes == 0


def test_node_may_give_and_receive_portfolios_in_one_plan() -> None:
    # 10, 0 and 8 of 12. Portfolios on node-3 can only go to node-1, which first gives to node-2
    # until both have 5: then 6, 5 and 7, where one more move would only swap the 6 and the 7.
    disk = {"disk": "yes"}
    first, third = (node(number, capacity=12, labels=disk) for number in (1, 3))
    running = [*on(1, *"abcdefghij"), *on(3, *"qrstuvwx", selector=disk)]
    snapshot = world([first, node(2, capacity=12), third], running)
    plan = make_plan(snapshot, Policy(rebalance_gain=0, max_moves=99, handoffs_per_node=99))
    assert loads(applied(snapshot, plan)) == {"node-1": 6, "node-2": 5, "node-3": 7}


def test_rebalanced_placement_frees_its_handoff_slot() -> None:
    # a and b go to node-1 (4 of 10), its two handoffs; a is reassigned to node-2, so r can leave.
    nodes = [node(1, capacity=10, labels=GPU), node(2, capacity=10), node(3, capacity=10)]
    running = [
        *on(1, "r", "s", weight=2),
        *on(2, "t", weight=5, pinned=2),
        *on(3, "u", weight=5, pinned=3),
    ]
    new = [portfolio("a", weight=2, priority=1), portfolio("b", weight=4, selector=GPU)]
    plan = make_plan(world(nodes, [*running, *new]), POLICY)
    assert places(plan) == {"a": "node-2", "b": "node-1"}
    assert moves(plan) == {"r": "node-3"}


def test_changed_selector_moves_the_portfolio() -> None:
    plan = make_plan(world([node(1), node(2, labels=GPU)], on(1, "a", selector=GPU)), POLICY)
    assert moves(plan) == {"a": "node-2"}
    assert render(plan.move[0].reason) == (
        "node-1 no longer meets its requirements; node-2 is the only eligible node: load 0 → 1 of 5"
    )


def test_one_of_two_members_of_a_hard_spread_group_on_one_node_moves_away() -> None:
    snapshot = world([node(1), SECOND], on(1, "a", "b", **HARD))
    plan = make_plan(snapshot, POLICY)
    assert moves(plan) == {"b": "node-2"}
    assert make_plan(applied(snapshot, plan), POLICY).changes == 0
