"""Evening out by measured cpu: safe, the same every time, and steady though figures are noisy."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import Cpu, Policy, Snapshot
from tests.properties.decide.test_planner import POLICIES, held, steps, worlds
from tests.properties.decide.test_planner_make_room import crowded_worlds
from tests.support.plan_factories import applied, node, portfolio, world

#: Points by which a figure may be wrong; a tenth of the gain would be 1.
NOISE = 0.9


@st.composite
def measured(draw: st.DrawFn) -> Snapshot:
    """Any world, or one that is nearly full and otherwise well; some of it measured."""
    snapshot = draw(worlds() | crowded_worlds())
    # Mostly a busy node or an idle one, and what would even them out.
    per_cent = st.sampled_from([0.0, 5.0, 90.0, 100.0, None]) | st.floats(0, 100)
    share = st.sampled_from([10.0, 30.0, 40.0, None]) | st.floats(0, 100)
    nodes = {n.id: figure for n in snapshot.nodes if (figure := draw(per_cent)) is not None}
    shares = {p.id: figure for p in snapshot.portfolios if (figure := draw(share)) is not None}
    # What runs nowhere, or is in a handoff, keeps its node still: half the worlds have none of it.
    if draw(st.booleans()):
        steady = tuple(p for p in snapshot.portfolios if p.node and p.handoff is None)
        snapshot = replace(snapshot, portfolios=steady)
    return replace(snapshot, cpu=Cpu(nodes, shares))


@st.composite
def at_work(draw: st.DrawFn) -> tuple[Snapshot, dict[int, float]]:
    """A healthy fleet, and what each portfolio truly takes of its machine."""
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
    """Node id → what its portfolios truly take."""
    load: Counter[int] = Counter({each.id: 0.0 for each in snapshot.nodes})  # type: ignore[dict-item]
    for each in snapshot.portfolios:
        load[each.node or 0] += true[each.id]  # type: ignore[assignment]
    return load


def unevenness(snapshot: Snapshot, true: dict[int, float]) -> float:
    return sum(load**2 for load in loads(snapshot, true).values())


def look(snapshot: Snapshot, true: dict[int, float], noise: random.Random) -> Snapshot:
    """The world with figures as a minute of measuring gives them: nearly right."""

    def wrong(figure: float) -> float:
        return max(0.0, figure + noise.uniform(-NOISE, NOISE))

    nodes = {number: wrong(load) for number, load in loads(snapshot, true).items()}
    return replace(snapshot, cpu=Cpu(nodes, {p: wrong(share) for p, share in true.items()}))


@given(measured(), POLICIES)
@settings(max_examples=100, deadline=None)
def test_no_plan_breaks_a_rule_to_even_out_the_cpu(snapshot: Snapshot, policy: Policy) -> None:
    plan = make_plan(snapshot, policy)
    taken = held(snapshot)
    for each, target in steps(plan):
        already = each.handoff is not None and target.id in (each.handoff.target, each.node)
        taken[target.id] += 0 if already else each.weight
    assert all(taken[target.id] <= target.capacity for _, target in steps(plan))
    cpu = snapshot.cpu
    assert cpu is not None
    evened = [move for move in plan.move if move.reason.code == "rebalance_cpu"]
    for move in evened:
        assert move.source is not None
        assert move.target.status == "alive"
        assert not (move.target.cordoned or move.target.draining)
        assert move.portfolio.selector.items() <= move.target.labels.items()
        assert {move.source.id, move.target.id} <= cpu.nodes.keys()
        assert move.portfolio.id in cpu.portfolios
    assert len([move for move in plan.move if move.cause != "failover"]) <= policy.max_moves


@given(measured(), POLICIES, st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_the_same_figures_in_another_order_give_the_same_plan(
    snapshot: Snapshot, policy: Policy, shuffler: random.Random
) -> None:
    nodes, views = list(snapshot.nodes), list(snapshot.portfolios)
    shuffler.shuffle(nodes)
    shuffler.shuffle(views)
    again = replace(snapshot, nodes=tuple(nodes), portfolios=tuple(views))
    assert repr(make_plan(again, policy)) == repr(make_plan(snapshot, policy))


@given(at_work(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_noise_moves_nothing_back_and_forth(
    fleet: tuple[Snapshot, dict[int, float]], noise: random.Random
) -> None:
    """Whatever the noise, every plan makes the true figures more even, so no state comes twice."""
    snapshot, true = fleet
    for _ in range(30):
        plan = make_plan(look(snapshot, true, noise), Policy())
        before = unevenness(snapshot, true)
        snapshot = applied(snapshot, plan)
        if plan.move:
            assert unevenness(snapshot, true) < before


@given(at_work())
@settings(max_examples=80, deadline=None)
def test_with_true_figures_passes_end_and_the_busiest_is_never_busier(
    fleet: tuple[Snapshot, dict[int, float]],
) -> None:
    snapshot, true = fleet
    highest = max(loads(snapshot, true).values())
    for _ in range(40):
        figures = Cpu(dict(loads(snapshot, true)), true)
        plan = make_plan(replace(snapshot, cpu=figures), Policy())
        snapshot = applied(snapshot, plan)
        assert max(loads(snapshot, true).values()) <= highest + 1e-9
        highest = max(loads(snapshot, true).values())
    assert plan.changes == 0
