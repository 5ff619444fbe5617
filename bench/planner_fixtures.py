"""Fleets to plan for, and what becomes of them once plans are enacted."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import NodeView, Plan, Policy, PortfolioView, Snapshot

#: kafka moves as much as evenness needs; so may we here.
FREE = Policy(rebalance_gain=0, max_moves=1_000_000, handoffs_per_node=1_000_000)


def fleet(count: int, node_count: int) -> Snapshot:
    """Return empty nodes with room and equal portfolios that run nowhere."""
    capacity = 2 * -(-count // node_count)
    nodes = [node(number, capacity) for number in range(1, node_count + 1)]
    portfolios = [PortfolioView(id=n, name=f"p-{n:06}") for n in range(1, count + 1)]
    return Snapshot(taken_at=0, nodes=tuple(nodes), portfolios=tuple(portfolios))


def node(number: int, capacity: float, **given: Any) -> NodeView:
    """Return a living node."""
    return NodeView(id=number, name=f"node-{number:04}", capacity=capacity, **given)


class Settled(NamedTuple):
    """A world in which nothing moves any more, and what it took to come there."""

    end: Snapshot
    moves: int
    took_ms: float


def kept(snapshot: Snapshot) -> FleetIndex:
    """Return the stock of a fleet as a pass leaves it to the next one."""
    stock = FleetIndex.of(snapshot.portfolios)
    make_plan(snapshot, FREE, stock)
    return stock


def settled(snapshot: Snapshot, stock: FleetIndex | None = None) -> Settled:
    """Return the world after pass and pass until nothing moves, the moves, and the time planning.

    One pass places; the next ones may move to even out, as they do in the house. Where no stock is
    handed in, taking it counts; the last plan, which is empty, does not.
    """
    moves, began = 0, time.process_time()
    stock = FleetIndex.of(snapshot.portfolios) if stock is None else stock
    took_s = time.process_time() - began
    while True:
        began = time.process_time()
        plan = make_plan(snapshot, FREE, stock)
        planned_s = time.process_time() - began
        if not plan.changes:
            return Settled(snapshot, moves, took_s * 1000)
        moves += plan.changes
        changed = enacted(plan)
        began = time.process_time()
        stock.update(changed)
        took_s += planned_s + time.process_time() - began
        views = {view.id: view for view in snapshot.portfolios}
        views.update((view.id, view) for view in changed)
        snapshot = replace(snapshot, portfolios=tuple(views.values()))


def enacted(plan: Plan) -> list[PortfolioView]:
    """Return the portfolios of a plan as they are once it is done."""
    return [
        replace(step.portfolio, node=step.target.id, phase="running")
        for step in (*plan.place, *plan.move)
    ]


def highest(snapshot: Snapshot) -> float:
    """Return the highest sum of weights on one node."""
    load: Counter[int] = Counter()
    for view in snapshot.portfolios:
        if view.node is not None:
            load[view.node] += view.weight  # type: ignore[assignment]
    return max(load.values())
