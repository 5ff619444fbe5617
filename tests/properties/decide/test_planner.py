"""Properties of every plan, for arbitrary snapshots."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.reasons import SENTENCES, render
from scheduling.decide.types import (
    HandoffView,
    NodeView,
    Plan,
    Policy,
    PortfolioView,
    Reason,
    Snapshot,
)
from scheduling.decide.what_if.answer import answer
from scheduling.decide.what_if.hypothetical import Scenario
from scheduling.decide.what_if.node_loss import forecast_node_loss, hosting_nodes, pending_ids
from tests.support.drawn_examples import examples
from tests.support.plan_factories import NOW, applied, loads, node, portfolio, world

UNLIMITED = Policy(max_moves=10_000, handoffs_per_node=10_000)
POLICIES = st.builds(
    Policy, rebalance_gain=st.sampled_from([0.0, 0.1, 0.25]), max_moves=st.integers(0, 6),
    handoffs_per_node=st.integers(0, 3),
)  # fmt: skip
ZONES = st.sampled_from([{}, {"zone": "hk"}, {"zone": "ny"}])
#: Mostly ordinary nodes and portfolios, so that most snapshots allow some placements.
RARELY = st.sampled_from([False] * 5 + [True])


@st.composite
def nodes(draw: st.DrawFn, number: int) -> NodeView:
    return node(
        number, status=draw(st.sampled_from(["alive"] * 5 + ["suspect", "lost", "left"])),
        capacity=draw(st.integers(0, 8)), labels=draw(ZONES), cordoned=draw(RARELY),
        draining=draw(RARELY), strategies={"sma": draw(st.sampled_from([1, 1, 1, 2]))},
        python=draw(st.sampled_from(["3.11", "3.11", "3.11", "3.13", ""])),
        flapping_until=NOW + 10 if draw(RARELY) else None, handoffs=draw(st.integers(0, 1)),
    )  # fmt: skip


@st.composite
def portfolios(draw: st.DrawFn, number: int, node_count: int, handoffs: bool) -> PortfolioView:
    somewhere = st.none() | st.integers(1, node_count + 1)  # the last one is not in the snapshot
    owner, handoff = draw(somewhere), None
    if handoffs and draw(RARELY):
        target = draw(st.integers(1, node_count))
        kinds = ["place"] if owner is None else ["migrate", "reload", "failover", "stop"]
        kind: Any = draw(st.sampled_from(kinds))
        handoff = HandoffView(100 + number, kind, owner, None if kind == "stop" else target)
    return portfolio(
        f"p-{number:02}", id=number, weight=draw(st.integers(1, 4)),
        priority=draw(st.integers(0, 2)), selector=draw(ZONES),
        strategy=draw(st.sampled_from(["", "sma"])),
        python=draw(st.sampled_from(["", "3.11", "3.11"])),
        accept_python=draw(st.sampled_from(["", "", "3.13"])),
        spread_group=draw(st.sampled_from([None, None, "alpha", "beta"])),
        spread_hard=draw(st.booleans()), node=owner,
        desired=draw(st.sampled_from(["running"] * 6 + ["stopped"])),
        pinned=draw(somewhere) if draw(RARELY) else None, handoff=handoff,
        failed_nodes=frozenset(draw(st.sets(st.integers(1, node_count), max_size=1))),
        not_before=NOW + 5 if draw(RARELY) else None,
    )  # fmt: skip


@st.composite
def snapshots(draw: st.DrawFn, handoffs: bool = True) -> Snapshot:
    node_count = draw(st.integers(1, 5))
    count = draw(st.integers(0, 14))
    return world(
        [draw(nodes(i)) for i in range(1, node_count + 1)],
        [draw(portfolios(i, node_count, handoffs)) for i in range(count)],
        frozen=draw(RARELY), frozen_failover=draw(RARELY), storm_hold=draw(RARELY),
    )  # fmt: skip


@st.composite
def healthy_snapshots(draw: st.DrawFn) -> Snapshot:
    """Healthy nodes with room for everything, and portfolios without constraints, some running."""
    node_count = draw(st.integers(1, 5))
    capacity = st.integers(10, 20)
    return world(
        [node(i, capacity=draw(capacity)) for i in range(1, node_count + 1)],
        [
            portfolio(
                f"p-{i:02}", id=i, weight=draw(st.integers(1, 2)), priority=draw(st.integers(0, 2)),
                node=draw(st.none() | st.integers(1, node_count)),
            )
            for i in range(draw(st.integers(0, 5 * node_count)))
        ],
    )  # fmt: skip


@st.composite
def crowded_snapshots(draw: st.DrawFn) -> Snapshot:
    """Everything runs on one or two of five nodes: more moves are wanted than a limit allows."""
    owners = draw(st.integers(1, 2))
    return world(
        [node(i, capacity=40) for i in range(1, 6)],
        [portfolio(f"p-{i:02}", id=i, weight=draw(st.integers(1, 2)), node=1 + i % owners)
         for i in range(20)],
    )  # fmt: skip


def held(snapshot: Snapshot) -> Counter[int]:
    """Node id → places taken, including active handoffs; computed without the planner."""
    taken: Counter[int] = Counter()
    for each in snapshot.portfolios:
        ends = {each.node}
        if each.handoff is not None:
            ends |= {each.handoff.source, each.handoff.target}
        for end in ends:
            if end is not None:
                taken[end] += int(each.weight)
    return taken


def reasons_of(plan: Plan) -> list[Reason]:
    found = [entry.reason for entry in plan.place] + [entry.reason for entry in plan.move]
    found += [entry.reason for entry in plan.pending]
    return found + [entry.reason for entry in plan.stuck]


def steps(plan: Plan) -> list[tuple[PortfolioView, NodeView]]:
    placed = [(step.portfolio, step.target) for step in plan.place]
    return placed + [(step.portfolio, step.target) for step in plan.move]


def plan_until_settled(snapshot: Snapshot, policy: Policy, passes: int) -> tuple[Snapshot, Plan]:
    """Plan and enact until a plan is empty, at most `passes` times; return the last plan too."""
    plan = make_plan(snapshot, policy)
    for _ in range(passes):
        if plan.changes == 0:
            break
        snapshot = applied(snapshot, plan)
        plan = make_plan(snapshot, policy)
    return snapshot, plan


def check_targets(snapshot: Snapshot, plan: Plan) -> None:
    """Assert that every target obeys all hard rules, and that no capacity is exceeded."""
    taken = held(snapshot)
    for each, target in steps(plan):
        already = each.handoff is not None and target.id in (each.handoff.target, each.node)
        taken[target.id] += 0 if already else int(each.weight)
        assert target.status in ("alive", "suspect")
        assert not target.cordoned
        assert not target.draining
        assert target.flapping_until is None
        assert each.selector.items() <= target.labels.items()
        assert not each.strategy or target.strategies[each.strategy] == each.strategy_version
        if each.python and target.python:
            assert target.python in (each.python, each.accept_python)
        assert target.id != each.node
    assert all(taken[target.id] <= target.capacity for _, target in steps(plan))


def check_hard_groups(snapshot: Snapshot, plan: Plan) -> None:
    """Assert that no hard member of a spread group goes to a node of another member."""
    goes = {each.id: target.id for each, target in steps(plan)}
    for each, target in steps(plan):
        if each.spread_group is None or not each.spread_hard:
            continue
        others = [
            other
            for other in snapshot.portfolios
            if other.spread_group == each.spread_group and other.id != each.id
        ]
        assert target.id not in {other.node for other in others}
        beside = [other for other in others if goes.get(other.id) == target.id]
        # A soft member may still join a hard one that is placed before it.
        assert not any(other.spread_hard for other in beside)


def check_everybody_is_named(snapshot: Snapshot, plan: Plan) -> None:
    """Assert that each portfolio that should run has an owner, a handoff, or one entry."""
    hosting = {each.id for each in snapshot.nodes if each.status in ("alive", "suspect")}
    named = Counter(each.id for each, _ in steps(plan))
    named.update(entry.portfolio.id for entry in (*plan.pending, *plan.stuck))
    assert max(named.values(), default=1) == 1
    for each in snapshot.portfolios:
        comes = each.handoff is not None and (
            each.handoff.kind == "stop" or each.handoff.target in hosting
        )
        if each.desired == "running" and each.node not in hosting and not comes:
            assert each.id in named


def check_sentences(plan: Plan) -> None:
    """Assert that every entry has a whole sentence."""
    for reason in reasons_of(plan):
        assert reason.code in SENTENCES
        sentence = render(reason)
        assert "None" not in sentence
        assert "  " not in sentence
        assert sentence[-1] not in ".;:, "


def check_limits(snapshot: Snapshot, plan: Plan, policy: Policy) -> None:
    """Assert that only failovers and placements exceed the limits of moves, and a freeze."""
    limited = [move for move in plan.move if move.cause != "failover"]
    assert len(limited) <= policy.max_moves
    if snapshot.frozen:
        assert limited == []
    slots = {each.id: each.handoffs for each in snapshot.nodes}
    for move in limited:
        assert move.source is not None
        slots[move.source.id] += 1
        slots[move.target.id] += 1
    touched = {end.id for move in limited for end in (move.source, move.target) if end is not None}
    assert all(slots[end] <= policy.handoffs_per_node for end in touched)


def shuffled(snapshot: Snapshot, shuffler: random.Random) -> Snapshot:
    """Return the snapshot with nodes and portfolios in another order."""
    nodes, portfolios = list(snapshot.nodes), list(snapshot.portfolios)
    shuffler.shuffle(nodes)
    shuffler.shuffle(portfolios)
    return replace(snapshot, nodes=tuple(nodes), portfolios=tuple(portfolios))


@given(snapshots() | crowded_snapshots(), POLICIES, st.randoms(use_true_random=False))
@settings(max_examples=examples(200), deadline=None)
def test_every_plan_obeys_all_rules_names_all_portfolios_and_is_the_same_in_any_order(
    snapshot: Snapshot, policy: Policy, shuffler: random.Random
) -> None:
    plan = make_plan(snapshot, policy)
    check_targets(snapshot, plan)
    check_hard_groups(snapshot, plan)
    check_everybody_is_named(snapshot, plan)
    check_sentences(plan)
    check_limits(snapshot, plan, policy)
    assert repr(make_plan(shuffled(snapshot, shuffler), policy)) == repr(plan)


@given(snapshots(), POLICIES)
@settings(max_examples=examples(100), deadline=None)
def test_running_portfolios_stay_if_no_rule_is_broken(snapshot: Snapshot, policy: Policy) -> None:
    plan = make_plan(snapshot, replace(policy, rebalance_gain=float("inf")))
    by_id = {each.id: each for each in snapshot.nodes}
    for move in plan.move:
        if move.cause == "rebalance":  # then a rule must be broken on its node
            here = by_id[move.portfolio.node or 0]
            broken = not move.portfolio.selector.items() <= here.labels.items()
            lacks = move.portfolio.strategy and here.strategies["sma"] != 1
            lacks = lacks or (move.portfolio.python and here.python == "3.13")
            assert broken or lacks or move.portfolio.spread_hard


@given(snapshots(handoffs=False), st.sampled_from([0.0, 0.1]))
@settings(max_examples=examples(100), deadline=None)
def test_after_a_plan_without_moves_or_stuck_portfolios_the_next_one_is_empty(
    snapshot: Snapshot, gain: float
) -> None:
    policy = replace(UNLIMITED, rebalance_gain=gain)
    plan = make_plan(snapshot, policy)
    # A stuck portfolio may find room a pass later, freed by a reassigned placement of this plan.
    if not plan.move and not plan.stuck:
        assert make_plan(applied(snapshot, plan), policy).changes == 0


@given(snapshots(handoffs=False), st.sampled_from([0.0, 0.1]))
@settings(max_examples=examples(100), deadline=None)
def test_repeated_passes_reach_an_empty_plan(snapshot: Snapshot, gain: float) -> None:
    policy = Policy(rebalance_gain=gain, max_moves=2, handoffs_per_node=2)
    _, last = plan_until_settled(snapshot, policy, passes=60)
    assert last.changes == 0


@given(healthy_snapshots())
@settings(max_examples=examples(100), deadline=None)
def test_healthy_fleet_settles_in_two_passes_and_then_has_no_improving_move(
    snapshot: Snapshot,
) -> None:
    """The first pass may leave moves to the second, since its placements do not run yet."""
    settled, last = plan_until_settled(snapshot, replace(UNLIMITED, rebalance_gain=0), passes=2)
    assert (last.changes, last.pending) == (0, ())
    load = loads(settled)
    for each in settled.portfolios:
        source = next(n for n in settled.nodes if n.id == each.node)
        for target in settled.nodes:
            before = load[source.name] / source.capacity
            after = max(
                (load[source.name] - each.weight) / source.capacity,
                (load[target.name] + each.weight) / target.capacity,
            )
            assert target.id == source.id or after >= before - 1e-9


@given(st.integers(1, 6), st.integers(0, 30))
@settings(max_examples=examples(100))
def test_equal_portfolios_spread_evenly_over_equal_nodes(node_count: int, count: int) -> None:
    snapshot = world(
        [node(i) for i in range(1, node_count + 1)], [portfolio(f"p-{i:02}") for i in range(count)]
    )
    plan = make_plan(snapshot, Policy())
    load = loads(applied(snapshot, plan)).values()
    assert max(load) - min(load) <= 1
    assert len(plan.place) == min(count, 5 * node_count)
    assert len(plan.pending) == max(0, count - 5 * node_count)


@given(snapshots())
@settings(max_examples=examples(100), deadline=None)
def test_forecast_of_a_node_loss_agrees_with_the_what_if_answer(snapshot: Snapshot) -> None:
    index = FleetIndex.of(snapshot.portfolios)
    already_pending = pending_ids(make_plan(snapshot, Policy(), index))
    for each in hosting_nodes(snapshot):
        loss = forecast_node_loss(snapshot, each, index, already_pending)
        found = answer(snapshot, Scenario(lose=(each.name,)), index, 0.5)
        assert (loss.unplaced, loss.suspects) == (found.unplaced, found.suspects)
        fresh = {e.portfolio.id for e in (*loss.unplaced.no_place, *loss.unplaced.waiting)}
        named = {entry.portfolio.id for entry in found.plan.pending}
        assert fresh <= named
        assert len(named - fresh) == found.already_pending
