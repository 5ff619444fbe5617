"""How many of several portfolios a node, or the balancer, could take at once."""

from __future__ import annotations

import pytest

from scheduling.decide.planner.group_targets import GroupTarget, group_target, group_targets
from scheduling.decide.planner.targets import NotInSnapshot
from scheduling.decide.reasons import render
from scheduling.decide.types import HandoffView
from tests.support.plan_factories import node, on, portfolio, world


def whys(answer: GroupTarget) -> dict[str, str]:
    return {each.portfolio: render(each.reason) for each in answer.refused}


def test_each_of_several_portfolios_takes_room_that_the_earlier_ones_leave():
    # node-2 has 2 of 3 places free; c has the highest priority, b is the heaviest of the others.
    views = [*on(2, "x"), *on(1, "a"), *on(1, "b", weight=2), *on(1, "c", priority=1)]
    fleet = world([node(1), node(2, capacity=3)], views)
    answer = group_target(fleet, ["a", "b", "c"], "node-2")
    assert answer.moves == (("c", "node-2"), ("a", "node-2"))
    assert whys(answer) == {"b": "node-2 is full: load 2 of 3, the portfolio needs 2"}
    assert (answer.load_before, answer.load_after, answer.capacity) == (1, 3, 3)


def test_each_target_is_answered_as_if_it_were_the_only_one():
    fleet = world([node(1), node(2, capacity=2), node(3, capacity=2)], on(1, "a", "b"))
    balanced, *nodes = group_targets(fleet, ["a", "b"])
    assert [each.node for each in nodes] == ["node-1", "node-2", "node-3"]
    assert [len(each.moves) for each in nodes] == [0, 2, 2]
    assert {each.load_before for each in nodes[1:]} == {0}
    # The balancer puts the second where the first is not.
    assert balanced.node is None
    assert balanced.moves == (("a", "node-2"), ("b", "node-3"))
    for one, answer in zip((None, "node-1", "node-2", "node-3"), (balanced, *nodes), strict=True):
        assert group_target(fleet, ["a", "b"], one) == answer


def test_each_portfolio_that_cannot_move_to_a_target_has_its_own_reason():
    fleet = world(
        [node(1), node(2, labels={"gpu": "yes"}), node(3, cordoned=True)],
        [
            *on(1, "a"),
            portfolio("g", node=1, selector={"zone": "hk"}),
            portfolio("m", node=1, handoff=HandoffView(7, "migrate", 1, 2)),
            portfolio("s", node=1, desired="stopped"),
            portfolio("q", node=None, phase="quarantined"),
        ],
    )
    nowhere = {
        "m": "is in a handoff already; wait until it has ended",
        "s": "does not run: it is stopped, halted or quarantined; start it first",
        "q": "does not run: it is stopped, halted or quarantined; start it first",
    }
    balanced, _, second, third = group_targets(fleet, ["a", "g", "m", "s", "q"])
    assert second.moves == (("a", "node-2"),)
    assert whys(second) == {"g": "node-2 lacks zone=hk", **nowhere}
    assert third.moves == ()
    assert whys(third)["a"] == "node-3 is cordoned: it takes no new portfolios"
    assert balanced.moves == (("a", "node-2"),)
    assert whys(balanced).keys() == {"g", "m", "s", "q"}


def test_the_second_member_of_a_spread_group_is_a_risk_and_a_hard_one_is_refused():
    soft = world([node(1), node(2)], on(1, "a", "b", spread_group="s"))
    answer = group_target(soft, ["a", "b"], "node-2")
    assert len(answer.moves) == 2
    assert [(name, render(why)) for name, why in answer.risks] == [
        ("b", "node-2 runs another member of spread group s")
    ]
    hard = world([node(1), node(2)], on(1, "a", "b", spread_group="s", spread_hard=True))
    answer = group_target(hard, ["a", "b"], "node-2")
    assert answer.moves == (("a", "node-2"),)
    assert whys(answer) == {"b": "node-2 runs another member of spread group s"}


def test_balancer_reports_the_risks_of_the_nodes_that_it_chooses():
    fleet = world([node(1), node(2, status="suspect")], on(1, "a", "b"))
    balanced, _, second = group_targets(fleet, ["a", "b"])
    assert balanced.moves == (("a", "node-2"), ("b", "node-2"))
    assert balanced.risks == second.risks
    assert [name for name, _ in balanced.risks] == ["a", "b"]
    # Each as the fleet is after those before it.
    spread = world([node(1), node(2)], on(1, "a", "b", spread_group="s"))
    assert [name for name, _ in group_target(spread, ["a", "b"], None).risks] == ["b"]


def test_unknown_portfolio_or_node_name_is_an_error():
    fleet = world([node(1)], on(1, "a"))
    with pytest.raises(NotInSnapshot, match="portfolio named nix"):
        group_target(fleet, ["a", "nix"], "node-1")
    with pytest.raises(NotInSnapshot, match="node named node-7"):
        group_target(fleet, ["a"], "node-7")
