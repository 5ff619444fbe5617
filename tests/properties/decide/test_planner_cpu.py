"""Rebalancing by CPU is safe, deterministic, and stable under measurement noise."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import Cpu, Policy, Snapshot
from tests.properties.decide.test_planner import POLICIES, check_targets, shuffled, snapshots
from tests.properties.decide.test_planner_make_room import crowded_snapshots
from tests.support.drawn_examples import examples
from tests.support.plan_factories import applied, node, portfolio, world

#: Error of a figure, in points; the limit is 1, a tenth of the gain.
NOISE = 0.9


@st.composite
def measured(draw: st.DrawFn) -> Snapshot:
    """Draw any snapshot, or a nearly full but healthy one; partly measured."""
    snapshot = draw(snapshots() | crowded_snapshots())
    # Mostly a busy node, an idle one, and portfolios that would balance them.
    per_cent = st.sampled_from([0.0, 5.0, 90.0, 100.0, None]) | st.floats(0, 100)
    share = st.sampled_from([10.0, 30.0, 40.0, None]) | st.floats(0, 100)
    nodes = {n.id: figure for n in snapshot.nodes if (figure := draw(per_cent)) is not None}
    shares = {p.id: figure for p in snapshot.portfolios if (figure := draw(share)) is not None}
    # Placements and handoffs exclude their nodes from rebalancing: half the snapshots have none.
    if draw(st.booleans()):
        steady = tuple(p for p in snapshot.portfolios if p.node and p.handoff is None)
        snapshot = replace(snapshot, portfolios=steady)
    return replace(snapshot, cpu=Cpu(nodes, shares))


@st.composite
def fleets_with_usage(draw: st.DrawFn) -> tuple[Snapshot, dict[int, float]]:
    """A healthy fleet, and the true CPU usage of each portfolio."""
    count = draw(st.integers(2, 4))
    nodes = [node(i, capacity=draw(st.integers(4, 12))) for i in range(1, count + 1)]
    true: dict[int, float] = {}
    views = []
    room = {each.id: each.capacity for each in nodes}
    for i in range(draw(st.integers(1, 12))):
        home = draw(st.integers(1, count))
        if room[home] >= 1:
            room[home] -= 1
            views.append(portfolio(f"p-{i:02}", id=i, node=home, priority=draw(st.integers(0, 1))))
            true[i] = draw(st.floats(0, 30))
    return world(nodes, views), true


def loads(snapshot: Snapshot, true: dict[int, float]) -> Counter[int]:
    """Node id → true CPU usage of its portfolios."""
    load: Counter[int] = Counter({each.id: 0.0 for each in snapshot.nodes})  # type: ignore[dict-item]
    for each in snapshot.portfolios:
        load[each.node or 0] += true[each.id]  # type: ignore[assignment]
    return load


def unevenness(snapshot: Snapshot, true: dict[int, float]) -> float:
    return sum(load**2 for load in loads(snapshot, true).values())


def measure(snapshot: Snapshot, true: dict[int, float], noise: random.Random) -> Snapshot:
    """Add measured figures, which are nearly right."""

    def wrong(figure: float) -> float:
        return max(0.0, figure + noise.uniform(-NOISE, NOISE))

    nodes = {number: wrong(load) for number, load in loads(snapshot, true).items()}
    return replace(snapshot, cpu=Cpu(nodes, {p: wrong(share) for p, share in true.items()}))


@given(measured(), POLICIES, st.randoms(use_true_random=False))
@settings(max_examples=examples(120), deadline=None)
def test_cpu_rebalance_obeys_all_hard_rules_and_is_the_same_in_any_order(
    snapshot: Snapshot, policy: Policy, shuffler: random.Random
) -> None:
    plan = make_plan(snapshot, policy)
    check_targets(snapshot, plan)
    cpu = snapshot.cpu
    assert cpu is not None
    for move in plan.move:
        if move.reason.code == "rebalance_cpu":
            assert move.source is not None
            assert move.target.status == "alive"
            assert {move.source.id, move.target.id} <= cpu.nodes.keys()
            assert move.portfolio.id in cpu.portfolios
    assert len([move for move in plan.move if move.cause != "failover"]) <= policy.max_moves
    assert repr(make_plan(shuffled(snapshot, shuffler), policy)) == repr(plan)


@given(fleets_with_usage(), st.randoms(use_true_random=False))
@settings(max_examples=examples(100), deadline=None)
def test_measurement_noise_moves_no_portfolio_back_and_forth(
    fleet: tuple[Snapshot, dict[int, float]], noise: random.Random
) -> None:
    """Every plan balances the true figures better whatever the noise, so no state repeats."""
    snapshot, true = fleet
    for _ in range(30):
        plan = make_plan(measure(snapshot, true, noise), Policy())
        before = unevenness(snapshot, true)
        snapshot = applied(snapshot, plan)
        if plan.move:
            assert unevenness(snapshot, true) < before
