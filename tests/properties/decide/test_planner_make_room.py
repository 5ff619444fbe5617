"""Compare plans of small fleets with all possible assignments: fewest moves, no room missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import NodeView, Policy, PortfolioView, Snapshot
from tests.properties.decide.test_planner import UNLIMITED, plan_until_settled, steps
from tests.support.drawn_examples import examples
from tests.support.plan_factories import NOW, applied, node, portfolio, world

ZONES = st.sampled_from([{}, {}, {"zone": "hk"}, {"zone": "ny"}])
GROUPS = st.sampled_from([None, None, None, "alpha"])


@st.composite
def equal_portfolios(draw: st.DrawFn) -> Snapshot:
    """Up to six portfolios of weight 1, running on nodes of different sizes."""
    count = draw(st.integers(2, 4))
    nodes = [node(i, capacity=draw(st.integers(6, 9))) for i in range(1, count + 1)]
    running = [
        portfolio(f"p-{i}", node=draw(st.integers(1, count)))
        for i in range(draw(st.integers(1, 6)))
    ]
    return world(nodes, running)


@st.composite
def crowded_snapshots(draw: st.DrawFn) -> Snapshot:
    """Nearly full nodes, and portfolios of which some are unassigned."""
    count = draw(st.integers(2, 4))
    nodes = [
        node(i, capacity=draw(st.integers(2, 6)), labels=draw(ZONES)) for i in range(1, count + 1)
    ]
    snapshot = world(nodes, [])
    for i in range(draw(st.integers(2, 6))):
        view = portfolio(
            f"p-{i}", id=i, weight=draw(st.integers(1, 3)), priority=draw(st.integers(0, 1)),
            selector=draw(ZONES), spread_group=draw(GROUPS), spread_hard=True,
        )  # fmt: skip
        runs = replace(view, node=draw(st.integers(1, count)), phase="running")
        with_it = replace(snapshot, portfolios=(*snapshot.portfolios, runs))
        if not allowed(with_it):
            with_it = replace(snapshot, portfolios=(*snapshot.portfolios, view))
        snapshot = with_it
    return snapshot


def allowed(snapshot: Snapshot) -> bool:
    """Return whether all rules hold for all running portfolios; computed without the planner."""
    for each in snapshot.nodes:
        here = [p for p in snapshot.portfolios if p.node == each.id]
        groups = [p.spread_group for p in here if p.spread_group]
        labels = all(p.selector.items() <= each.labels.items() for p in here)
        if sum(p.weight for p in here) > each.capacity or len(set(groups)) < len(groups):
            return False
        if not labels:
            return False
    return True


def sorted_loads(nodes: tuple[NodeView, ...], homes: tuple[int | None, ...]) -> list[float]:
    """The relative loads of portfolios of weight 1, highest first; smaller is more balanced."""
    load = Counter(homes)
    return sorted((round(load[n.id] / n.capacity, 9) for n in nodes), reverse=True)


@given(equal_portfolios())
@settings(max_examples=examples(60), deadline=None)
def test_rebalance_uses_the_fewest_moves(snapshot: Snapshot) -> None:
    homes = tuple(p.node for p in snapshot.portfolios)
    settled, last = plan_until_settled(snapshot, replace(UNLIMITED, rebalance_gain=0), passes=20)
    after = tuple(p.node for p in settled.portfolios)
    moved = sum(a != b for a, b in zip(homes, after, strict=True))
    found = sorted_loads(snapshot.nodes, after)
    assert last.changes == 0
    for other in product([n.id for n in snapshot.nodes], repeat=len(homes)):
        moves = sum(a != b for a, b in zip(homes, other, strict=True))
        if moves < moved:
            assert sorted_loads(snapshot.nodes, other) > found


def with_two_moves(snapshot: Snapshot, waiting: PortfolioView) -> Iterator[Snapshot]:
    """Every snapshot in which `waiting` runs after at most two others left its node."""
    running = [p for p in snapshot.portfolios if p.node is not None]
    ids = [n.id for n in snapshot.nodes]
    for home in ids:
        for count in (0, 1, 2):
            for movers in combinations(running, count):
                for homes in product([i for i in ids if i != home], repeat=count):
                    goes = dict(zip([p.id for p in movers], homes, strict=True))
                    goes[waiting.id] = home
                    yield replace(
                        snapshot,
                        portfolios=tuple(
                            replace(p, node=goes.get(p.id, p.node)) for p in snapshot.portfolios
                        ),
                    )


@given(crowded_snapshots())
@settings(max_examples=examples(60), deadline=None)
def test_no_portfolio_stays_pending_for_which_two_moves_would_make_room(snapshot: Snapshot) -> None:
    settled, last = plan_until_settled(snapshot, Policy(), passes=60)
    assert last.changes == 0
    assert allowed(settled)
    for entry in last.pending:
        assert not any(allowed(other) for other in with_two_moves(settled, entry.portfolio))


@given(crowded_snapshots(), st.lists(st.integers(1, 3), max_size=4))
@settings(max_examples=examples(100), deadline=None)
def test_passes_reach_an_empty_plan_after_a_node_stops_flapping(
    snapshot: Snapshot, steady_passes: list[int]
) -> None:
    """node-1 is lost and returns with growing flapping periods; then the fleet settles."""
    first, others = snapshot.nodes[0], snapshot.nodes[1:]
    failovers = 0
    for times, passes in enumerate(steady_passes, start=1):
        lost = replace(snapshot, nodes=(replace(first, status="lost"), *others))
        plan = make_plan(lost, Policy())
        failovers += sum(move.cause == "failover" for move in plan.move)
        snapshot = applied(lost, plan)
        back = replace(first, flapping_until=NOW + 10 * 2**times)
        snapshot = replace(snapshot, nodes=(back, *others))
        for _ in range(passes):
            plan = make_plan(snapshot, Policy())
            assert first.id not in {target.id for _, target in steps(plan)}
            snapshot = applied(snapshot, plan)
    # Portfolios that left stay away while it is flapping, so nothing fails over twice.
    assert failovers <= len(snapshot.portfolios)
    settled, last = plan_until_settled(
        replace(snapshot, nodes=(first, *others)), Policy(), passes=60
    )
    assert last.changes == 0
    assert allowed(settled)
