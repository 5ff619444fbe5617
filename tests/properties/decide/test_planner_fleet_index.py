"""An updated fleet index gives byte-identical plans to one built anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import HandoffView, Policy, Snapshot
from tests.properties.decide.test_planner import POLICIES, nodes, portfolios, snapshots
from tests.support.drawn_examples import examples
from tests.support.plan_factories import applied, node, on, portfolio, world

#: Weights whose running totals would depend on the order of additions.
CROOKED = st.sampled_from([1, 2, 0.1, 0.2, 0.7])


def update_index(index: FleetIndex, before: Snapshot, after: Snapshot) -> None:
    """Update the index with the differences, like the snapshot cache does."""
    was = {each.id: each for each in before.portfolios}
    now = {each.id: each for each in after.portfolios}
    index.update([each for each in now.values() if was.get(each.id) != each], was.keys() - now)


@st.composite
def changed(draw: st.DrawFn, snapshot: Snapshot) -> Snapshot:
    """Draw the snapshot with some portfolios and one node changed."""
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


@given(snapshots(), st.data())
@settings(max_examples=examples(80), deadline=None)
def test_updated_index_gives_the_plan_of_a_new_index(
    snapshot: Snapshot, data: st.DataObject
) -> None:
    index = FleetIndex.of(snapshot.portfolios)
    for _ in range(4):
        policy = data.draw(POLICIES)
        plan = make_plan(snapshot, policy, index)
        assert repr(plan) == repr(make_plan(snapshot, policy))
        happens = data.draw(st.booleans())
        after = applied(snapshot, plan) if happens else data.draw(changed(snapshot))
        update_index(index, snapshot, after)
        snapshot = after


def test_index_keeps_settled_portfolios_as_totals_and_lists_the_unsettled_ones() -> None:
    index = FleetIndex.of([*on(1, "a", "b"), portfolio("c"), portfolio("d", desired="stopped")])
    assert {each.name for each in index.unsettled.values()} == {"c"}
    assert index.settled_by_node[1].weight == 2


@pytest.mark.parametrize("weights", [(0.1, 0.2, 0.3), (0.3, 0.2, 0.1), (0.2, 0.3, 0.1)])
def test_settled_weight_is_independent_of_update_order(weights: tuple[float, ...]) -> None:
    index = FleetIndex.of([])
    for number, weight in enumerate((*weights, 5.5)):
        index.update([portfolio(f"p-{weight}", id=number, node=1, weight=weight)])
        assert index.settled_by_node[1].weight > 0  # read in between: a total could be cached
    index.update([], gone=[3])
    assert index.settled_by_node[1].weight == 0.6


def test_hard_group_conflict_with_a_portfolio_moving_to_the_node_is_found() -> None:
    """One member is settled on node-1; the other member is moving there."""
    steady = portfolio("a", node=1, spread_group="g", spread_hard=True)
    moving = portfolio("b", node=2, spread_group="g", handoff=HandoffView(7, "migrate", 2, 1))
    plan = make_plan(world([node(1), node(2), node(3)], [steady, moving]), Policy())
    assert [(move.portfolio.name, move.target.name) for move in plan.move] == [("a", "node-3")]
