"""A index that followed every change plans as one made anew, to the byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import HandoffView, Policy, Snapshot
from tests.properties.decide.test_planner import POLICIES, nodes, portfolios, worlds
from tests.support.plan_factories import applied, node, on, portfolio, world

#: Weights whose running totals would remember the order they were added in.
CROOKED = st.sampled_from([1, 2, 0.1, 0.2, 0.7])


def follow(index: FleetIndex, before: Snapshot, after: Snapshot) -> None:
    """Tell the index what is different, as the reader of the database does."""
    was = {each.id: each for each in before.portfolios}
    now = {each.id: each for each in after.portfolios}
    index.update([each for each in now.values() if was.get(each.id) != each], was.keys() - now)


@st.composite
def changed(draw: st.DrawFn, snapshot: Snapshot) -> Snapshot:
    """The snapshot after somebody did something: some portfolios and one node are others now."""
    count = len(snapshot.nodes)
    kept = [each for each in snapshot.portfolios if draw(st.integers(0, 3))]
    fresh = draw(st.lists(st.integers(0, 20), max_size=4, unique=True))
    views = {each.id: each for each in kept}
    for number in fresh:
        view = draw(portfolios(number, count, handoffs=True))
        views[number] = replace(view, weight=draw(CROOKED))
    which = draw(st.integers(1, count))
    others = [each for each in snapshot.nodes if each.id != which]
    return replace(snapshot, nodes=(*others, draw(nodes(which))), portfolios=tuple(views.values()))


@given(worlds(), st.data())
@settings(max_examples=80, deadline=None)
def test_a_stock_that_followed_every_change_gives_the_plan_of_a_new_one(
    snapshot: Snapshot, data: st.DataObject
) -> None:
    index = FleetIndex.of(snapshot.portfolios)
    for _ in range(4):
        policy = data.draw(POLICIES)
        plan = make_plan(snapshot, policy, index)
        assert repr(plan) == repr(make_plan(snapshot, policy))
        happens = data.draw(st.booleans())
        after = applied(snapshot, plan) if happens else data.draw(changed(snapshot))
        follow(index, snapshot, after)
        snapshot = after


@given(worlds(), POLICIES)
@settings(max_examples=100, deadline=None)
def test_a_plan_changes_nothing_in_the_stock_it_reads(snapshot: Snapshot, policy: Policy) -> None:
    index = FleetIndex.of(snapshot.portfolios)
    first = make_plan(snapshot, policy, index)
    assert repr(make_plan(snapshot, policy, index)) == repr(first)


def test_what_runs_steadily_is_not_looked_at_one_by_one() -> None:
    index = FleetIndex.of([*on(1, "a", "b"), portfolio("c"), portfolio("d", desired="stopped")])
    assert {each.name for each in index.unsettled.values()} == {"c"}
    assert index.settled_by_node[1].weight == 2


@pytest.mark.parametrize("weights", [(0.1, 0.2, 0.3), (0.3, 0.2, 0.1), (0.2, 0.3, 0.1)])
def test_a_share_weighs_the_same_in_whatever_order_it_came(weights: tuple[float, ...]) -> None:
    index = FleetIndex.of([])
    for number, weight in enumerate((*weights, 5.5)):
        index.update([portfolio(f"p-{weight}", id=number, node=1, weight=weight)])
        assert index.settled_by_node[1].weight > 0  # looked at in between, so a total could be kept
    index.update([], gone=[3])
    assert index.settled_by_node[1].weight == 0.6


def test_two_that_may_not_share_a_node_are_noticed_though_one_is_in_a_handoff() -> None:
    """It runs steadily on node-1; the other one of its group is on its way there."""
    steady = portfolio("a", node=1, spread_group="g", spread_hard=True)
    moving = portfolio("b", node=2, spread_group="g", handoff=HandoffView(7, "migrate", 2, 1))
    plan = make_plan(world([node(1), node(2), node(3)], [steady, moving]), Policy())
    assert [(move.portfolio.name, move.target.name) for move in plan.move] == [("a", "node-3")]
