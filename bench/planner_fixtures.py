"""Fleets to plan for, and their state after plans are enacted."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from math import ceil
from typing import Any, NamedTuple

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import NodeView, Plan, Policy, PortfolioView, Snapshot

#: No limit on moves, as with kafka.
FREE = Policy(rebalance_gain=0, max_moves=1_000_000, handoffs_per_node=1_000_000)


def empty_fleet(count: int, node_count: int) -> Snapshot:
    """Return empty nodes with room, and equal unassigned portfolios."""
    capacity = 2 * ceil(count / node_count)
    nodes = [node(number, capacity) for number in range(1, node_count + 1)]
    portfolios = [PortfolioView(id=n, name=f"p-{n:06}") for n in range(1, count + 1)]
    return Snapshot(taken_at=0, nodes=tuple(nodes), portfolios=tuple(portfolios))


def node(number: int, capacity: float, **given: Any) -> NodeView:
    """Return a node that is alive."""
    return NodeView(id=number, name=f"node-{number:04}", capacity=capacity, **given)


class Converged(NamedTuple):
    """A fleet without further moves, and the cost of reaching it."""

    end: Snapshot
    moves: int
    took_ms: float


def warm_index(snapshot: Snapshot) -> FleetIndex:
    """Return the fleet index as a pass leaves it to the next one."""
    index = FleetIndex.of(snapshot.portfolios)
    make_plan(snapshot, FREE, index)
    return index


def converge(snapshot: Snapshot, index: FleetIndex | None = None) -> Converged:
    """Run passes until nothing moves. Return the final fleet, the moves, and the planning time.

    The first pass places; later ones may rebalance. Building the index counts if none is given; the
    last plan, which is empty, does not count.
    """
    moves, began = 0, time.process_time()
    index = FleetIndex.of(snapshot.portfolios) if index is None else index
    took_s = time.process_time() - began
    while True:
        began = time.process_time()
        plan = make_plan(snapshot, FREE, index)
        planned_s = time.process_time() - began
        if not plan.changes:
            return Converged(snapshot, moves, took_s * 1000)
        moves += plan.changes
        changed = after_handoffs(plan)
        began = time.process_time()
        index.update(changed)
        took_s += planned_s + time.process_time() - began
        views = {view.id: view for view in snapshot.portfolios}
        views.update((view.id, view) for view in changed)
        snapshot = replace(snapshot, portfolios=tuple(views.values()))


def after_handoffs(plan: Plan) -> list[PortfolioView]:
    """Return the portfolios that the plan places or moves, on their targets."""
    targets = [(step.portfolio, step.target) for step in plan.place]
    targets += [(step.portfolio, step.target) for step in plan.move]
    return [replace(view, node=target.id, phase="running") for view, target in targets]


def highest_load(snapshot: Snapshot) -> float:
    """Return the highest sum of weights on one node."""
    load: Counter[int] = Counter()
    for view in snapshot.portfolios:
        if view.node is not None:
            load[view.node] += view.weight  # type: ignore[assignment]
    return max(load.values())
