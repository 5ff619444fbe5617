"""Targets offered to an operator for a portfolio."""

from __future__ import annotations

import pytest

from scheduling.decide.planner.targets import NotInSnapshot, choose_target, targets
from scheduling.decide.reasons import render
from scheduling.decide.types import Reason, TargetAnswer
from tests.support.plan_factories import NOW, node, on, portfolio, world


def test_targets_are_sorted_by_name_with_codes() -> None:
    group = {"spread_group": "alpha", "spread_hard": True}
    asked = portfolio("p", node=1, selector={"zone": "hk"}, **group)
    hk = {"zone": "hk"}
    nodes = [
        node(9, labels=hk, name="node-9"),
        node(1, labels=hk),
        node(2, labels=hk, capacity=1),
        node(3, labels=hk, status="lost"),
        node(4, labels=hk, status="left"),
        node(5),
        node(6, labels=hk, cordoned=True),
        node(7, labels=hk, draining=True),
        node(8, labels=hk),
    ]
    running = [asked, *on(2, "a"), *on(8, "m", **group), *on(9, "b", "c")]
    answers = targets(world(nodes, running), "p")
    assert [(a.node, a.code, a.sentence) for a in answers] == [
        ("node-1", "same_node", "it already runs on node-1"),
        ("node-2", "node_full", "node-2 is full: load 1 of 1, the portfolio needs 1"),
        ("node-3", "node_lost", "node-3 is lost"),
        ("node-4", "node_lost", "node-4 has left"),
        ("node-5", "node_lacks", "node-5 lacks zone=hk"),
        ("node-6", "node_cordoned", "node-6 is cordoned: it takes no new portfolios"),
        ("node-7", "node_cordoned", "node-7 is draining: it takes no new portfolios"),
        ("node-8", "no_room", "node-8 runs another member of spread group alpha"),
        ("node-9", None, "node-9 can take it: load 2 → 3 of 5"),
    ]
    assert answers[-1] == TargetAnswer(
        "node-9", True, None, "node-9 can take it: load 2 → 3 of 5", None, 2, 3, 5
    )


def test_node_without_the_strategy_version_or_feed_data_is_refused_as_node_lacks() -> None:
    wanted = {"strategy": "sma", "strategy_version": 2, "feed": "replay", "feed_sha": "ab" * 32}
    nodes = [
        node(1, strategies={"sma": 1}, feeds={"replay": "ab" * 32}),
        node(2, strategies={"sma": 2}, feeds={"replay": "cd" * 32}),
    ]
    answers = targets(world(nodes, [portfolio("p", **wanted)]), "p")
    assert [(a.code, a.sentence) for a in answers] == [
        ("node_lacks", "node-1 lacks strategy sma 2"),
        ("node_lacks", "node-2 lacks feed replay with sha256 abababab…"),
    ]


def test_risky_node_is_a_feasible_target_with_its_risk_stated() -> None:
    risky = [node(2, status="suspect"), node(3, flapping_until=NOW + 40)]
    nodes = [node(1), *risky, node(4), node(5), node(6)]
    asked = portfolio("p", node=1, failed_nodes=frozenset({4}), spread_group="alpha")
    answers = targets(world(nodes, [asked, *on(5, "m", spread_group="alpha")]), "p")[1:]
    assert all(answer.feasible for answer in answers)
    assert [answer.risk for answer in answers] == [
        "node-2 is suspect: a heartbeat is missing",
        "node-3 was lost repeatedly: it can be chosen again in 40 s",
        "it failed to start on node-4 twice",
        "node-5 runs another member of spread group alpha",
        None,
    ]


def test_choose_target_returns_the_least_loaded_other_node() -> None:
    snapshot = world([node(1), node(2), node(3)], [*on(1, "p"), *on(2, "a", "b"), *on(3, "c")])
    answer = choose_target(snapshot, "p")
    assert isinstance(answer, TargetAnswer)
    assert (answer.node, answer.load_before, answer.load_after) == ("node-3", 1, 2)


@pytest.mark.parametrize(("capacity", "chosen"), [(5, "node-1"), (2, "node-2")])
def test_unassigned_portfolio_prefers_its_pin(capacity: int, chosen: str) -> None:
    """As in a plan: placed elsewhere, it would be moved to its pin by the next pass."""
    asked = portfolio("p", pinned=1)
    snapshot = world([node(1, capacity=capacity), node(2)], [asked, *on(1, "a", "b")])
    answer = choose_target(snapshot, "p")
    assert isinstance(answer, TargetAnswer)
    assert answer.node == chosen


def test_choose_target_returns_the_reason_without_room() -> None:
    answer = choose_target(world([node(1), node(2, capacity=1)], [*on(1, "p"), *on(2, "a")]), "p")
    assert isinstance(answer, Reason)
    assert (answer.code, render(answer)) == (
        "no_room",
        "needs 1 place: no room on 1 other node: node-2 1 of 1; "
        "add a node, raise a capacity or stop a portfolio",
    )


def test_target_of_an_unknown_portfolio_raises_not_in_snapshot() -> None:
    snapshot = world([node(1)], [portfolio("p")])
    with pytest.raises(NotInSnapshot, match="There is no portfolio named q"):
        targets(snapshot, "q")
    with pytest.raises(NotInSnapshot, match="There is no portfolio named q"):
        choose_target(snapshot, "q")
