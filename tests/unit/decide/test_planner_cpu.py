"""Rebalancing by measured CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scheduling.decide.planner.planner import make_plan
from scheduling.decide.reasons import render
from scheduling.decide.types import Cpu, NodeView, Plan, Policy, PortfolioView, Snapshot
from tests.support.plan_factories import moves, node, on, places, portfolio, world

#: node-1 82 %, node-2 12 %. All of weight 1, so by weight 3 and 1 of 5.
BUSY = {"a": 40.0, "b": 21.0, "c": 20.0}


def cpu_of(nodes: dict[int, float], **shares: float) -> Cpu:
    return Cpu(nodes, {portfolio(name).id: share for name, share in shares.items()})


def two_nodes(**changes: Any) -> Snapshot:
    cpu = cpu_of({1: 82.0, 2: 12.0}, **BUSY, d=11.0)
    return world([node(1), node(2)], [*on(1, *"abc"), *on(2, "d")], cpu=cpu, **changes)


def with_view(snapshot: Snapshot, name: str, **changes: Any) -> Snapshot:
    views = (replace(v, **changes) if v.name == name else v for v in snapshot.portfolios)
    return replace(snapshot, portfolios=tuple(views))


def with_node(snapshot: Snapshot, number: int, **changes: Any) -> Snapshot:
    nodes = (replace(n, **changes) if n.id == number else n for n in snapshot.nodes)
    return replace(snapshot, nodes=tuple(nodes))


def test_busiest_node_gives_the_portfolio_that_evens_out_cpu_most() -> None:
    # a: 42 and 52; b: 61 and 33; c: 62 and 32. Then 42 and 52 differ by 10, and b would not help.
    plan = make_plan(two_nodes(), Policy())
    assert [render(move.reason) for move in plan.move] == [
        "rebalances CPU: node-1 82 → 42 %, node-2 12 → 52 %"
    ]
    assert [(move.portfolio.name, move.cause) for move in plan.move] == [("a", "rebalance")]


def test_cpu_is_ignored_when_balancing_by_weight() -> None:
    assert moves(make_plan(replace(two_nodes(), cpu=None), Policy())) == {"a": "node-2"}
    assert make_plan(world([node(1), node(2)], [*on(1, "a"), *on(2, "b")]), Policy()).move == ()


STAY: dict[str, Snapshot] = {
    **{
        f"node-{which} excluded by {next(iter(changes))}": with_node(two_nodes(), which, **changes)
        for which, changes in (
            (1, {"cordoned": True}), (2, {"cordoned": True}), (2, {"status": "suspect"}),
            (1, {"handoffs": 1}), (2, {"handoffs": 1}), (2, {"flapping_until": 2_000_000.0}),
            (2, {"draining": True}),
        )
    },
    **{
        f"node-{known} alone measured": replace(two_nodes(), cpu=cpu_of({known: 82.0}, **BUSY))
        for known in (1, 2)
    },
    "a freeze": two_nodes(frozen=True),
    "a storm": two_nodes(storm_hold=True),
    "less than one per cent": replace(two_nodes(), cpu=cpu_of({1: 82.0, 2: 12.0}, a=0.9)),
    "uneven weights with an even CPU":
        world([node(1), node(2)], on(1, *"abc"), cpu=cpu_of({1: 3.0, 2: 3.0}, a=1, b=1, c=1)),
}  # fmt: skip


@pytest.mark.parametrize("snapshot", STAY.values(), ids=STAY)
def test_excluded_or_unmeasured_nodes_or_a_freeze_stop_cpu_moves(snapshot: Snapshot) -> None:
    assert moves(make_plan(snapshot, Policy()), "rebalance") == {}


def test_idle_node_without_places_gets_nothing() -> None:
    snapshot = with_view(with_node(two_nodes(), 2, capacity=3), "a", weight=3)
    assert moves(make_plan(snapshot, Policy(max_moves=1))) == {"b": "node-2"}


def test_unmeasured_portfolio_stays() -> None:
    cpu = cpu_of({1: 82.0, 2: 12.0}, b=21.0)
    assert moves(make_plan(replace(two_nodes(), cpu=cpu), Policy())) == {"b": "node-2"}


def test_cpu_move_needs_gain_and_margin() -> None:
    # 12 and 9.9 points apart; then 15 apart, where 11 more would leave the target only 4 below.
    for high, low, share, expected in (
        (52.0, 40.0, 6.0, {"a": "node-2"}),
        (52.0, 42.1, 5.0, {}),
        (55.0, 40.0, 11.0, {}),
    ):
        cpu = cpu_of({1: high, 2: low}, a=share)
        assert moves(make_plan(replace(two_nodes(), cpu=cpu), Policy())) == expected


def test_cpu_move_avoids_spread_group_members() -> None:
    snapshot = with_view(with_view(two_nodes(), "a", spread_group="g"), "d", spread_group="g")
    assert moves(make_plan(snapshot, Policy(max_moves=1))) == {"b": "node-2"}


def test_less_important_of_equal_portfolios_moves() -> None:
    cpu = cpu_of({1: 82.0, 2: 12.0}, b=20.0, c=20.0)
    snapshot = with_view(replace(two_nodes(), cpu=cpu), "b", priority=1)
    assert next(iter(moves(make_plan(snapshot, Policy())))) == "c"


def test_cpu_moves_continue_within_limits_until_balanced() -> None:
    names = [f"p-{i}" for i in range(8)]
    nodes: list[NodeView] = [node(1, capacity=10), node(2, capacity=10)]
    cpu = cpu_of({1: 80.0, 2: 0.0}, **dict.fromkeys(names, 10.0))
    views: list[PortfolioView] = on(1, *names)
    plan: Plan = make_plan(world(nodes, views, cpu=cpu), Policy(handoffs_per_node=10))
    # 80/0, 70/10, 60/20, 50/30, and 40/40 is balanced: four moves.
    assert list(moves(plan)) == ["p-0", "p-1", "p-2", "p-3"]
    assert len(make_plan(world(nodes, views, cpu=cpu), Policy()).move) == 2


def test_placement_is_by_weight_and_its_target_gets_no_cpu_move_in_the_same_pass() -> None:
    snapshot = two_nodes()
    snapshot = replace(snapshot, portfolios=(*snapshot.portfolios, portfolio("e")))
    plan = make_plan(snapshot, Policy())
    assert places(plan) == {"e": "node-2"}
    assert plan.move == ()
