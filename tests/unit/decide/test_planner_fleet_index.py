"""Aggregates and spread-group members in the fleet index follow updates."""

from __future__ import annotations

from dataclasses import replace

from scheduling.decide.planner.fleet_index import FleetIndex
from tests.support.plan_factories import node, on, portfolio

GPU = {"gpu": "yes"}
HARD = {"spread_group": "alpha", "spread_hard": True}


def test_requirements_are_checked_again_after_new_labels() -> None:
    settled = FleetIndex.of(on(1, "a", selector=GPU)).settled_by_node[1]
    assert settled.all_can_run_on(node(1, labels=GPU))
    assert not settled.all_can_run_on(node(1))
    assert settled.all_can_run_on(node(1, labels=GPU))


def test_members_of_a_group_are_counted_on_each_node() -> None:
    first, second = on(1, "a", "b", spread_group="alpha")
    index = FleetIndex.of([first, second])
    assert index.groups == {"alpha": {1: 2}}
    index.update([replace(first, node=2)])
    assert index.groups == {"alpha": {1: 1, 2: 1}}
    index.update([], gone=[second.id])
    assert index.groups == {"alpha": {2: 1}}


def test_a_node_is_crowded_while_a_spread_hard_member_is_not_alone_there() -> None:
    hard, soft = portfolio("a", node=1, **HARD), portfolio("b", node=1, spread_group="alpha")
    index = FleetIndex.of([hard, soft])
    assert index.crowded == {("alpha", 1)}
    index.update([replace(hard, spread_hard=False)])
    assert index.crowded == set()
    index.update([hard])
    assert index.crowded == {("alpha", 1)}
    index.update([replace(soft, node=2)])
    assert index.crowded == set()


def test_index_forgets_a_group_without_members() -> None:
    (member,) = on(1, "a", **HARD)
    index = FleetIndex.of([member])
    index.update([], gone=[member.id])
    assert (index.settled_by_node, index.groups, index.crowded) == ({}, {}, set())
