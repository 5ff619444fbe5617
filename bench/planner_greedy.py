"""A greedy heap without names, labels, reasons or limits: a lower bound of a plan's time."""

from __future__ import annotations

import gc
import heapq
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf
from typing import Any

from bench.planner_fixtures import node
from bench.result_table import median_row
from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import Policy, PortfolioView, Snapshot
from scheduling.decide.what_if.hypothetical import lose

WARM = "plan after one node lost, index kept"
#: Targets: the time of a plan, and the same as a multiple of the time of the greedy heap.
PLAN_LIMIT_MS = 250.0
MAX_GREEDY = 8.0


def mixed_fleet(count: int, node_count: int) -> Snapshot:
    """Return a converged fleet with weights, labels, strategies, feeds and spread groups."""
    chance = random.Random(0)
    weights = [chance.randint(1, 5) for _ in range(count)]
    capacity = 1.25 * sum(weights) / node_count
    features = {"feeds": {"replay": "ab"}, "strategies": {"sma": 1}}
    nodes = [
        node(number, capacity, labels={"zone": "hk" if number % 2 else "ny"}, **features)
        for number in range(1, node_count + 1)
    ]
    portfolios = []
    for number, weight in enumerate(weights):
        home = number % node_count + 1
        portfolios.append(
            PortfolioView(
                id=number,
                name=f"p-{number:06}",
                weight=weight,
                priority=number % 3,
                selector=dict(nodes[home - 1].labels) if number % 5 == 0 else {},
                spread_group=f"g-{number // 100}" if number % 10 == 0 else None,
                spread_hard=number % 20 == 0,
                strategy="sma",
                feed="replay",
                feed_sha="ab",
                node=home,
                phase="running",
            )
        )
    return Snapshot(taken_at=0, nodes=tuple(nodes), portfolios=tuple(portfolios))


def greedy(snapshot: Snapshot, dead: int) -> Callable[[], int]:
    """Return a function that puts the portfolios of the node `dead` on others, and counts them.

    The heaviest comes first, and goes to the least loaded node.
    """
    weights = [view.weight for view in snapshot.portfolios]
    owners = [view.node for view in snapshot.portfolios]
    node_ids = [view.id for view in snapshot.nodes]

    def reassign() -> int:
        load = {node_id: 0.0 for node_id in node_ids if node_id != dead}
        unassigned, new_owners = [], {}
        for index, owner in enumerate(owners):
            if owner == dead:
                unassigned.append(index)
            else:
                load[owner] += weights[index]  # type: ignore[index]  # all run somewhere
        heap = [(held, node_id) for node_id, held in load.items()]
        heapq.heapify(heap)
        for index in sorted(unassigned, key=weights.__getitem__, reverse=True):
            held, node_id = heap[0]
            new_owners[index] = node_id
            heapq.heapreplace(heap, (held + weights[index], node_id))
        return len(new_owners)

    return reassign


def against_greedy(count: int, node_count: int) -> Iterator[dict[str, Any]]:
    """Yield the times of plans after one lost node, and after a change and its reversal."""
    world = mixed_fleet(count, node_count)
    after_loss = lose(world, ["node-0001"])
    index = FleetIndex.of(world.portfolios)
    make_plan(world, Policy(), index)  # as earlier passes did
    greedy_ms = statistics.median(time_ms(greedy(world, 1)))
    setup = f"{count:,} on {node_count:,}, weights, labels, spread"
    changed = next(view for view in world.portfolios if view.node == 2)  # any of a living node

    def change_and_restore() -> None:
        index.update([replace(changed, phase="starting")])
        make_plan(world, Policy(), index)
        index.update([changed])
        make_plan(world, Policy(), index)

    for name, work, limit_ms, times_greedy in (
        (WARM, lambda: make_plan(after_loss, Policy(), index), PLAN_LIMIT_MS, MAX_GREEDY),
        ("the same, new index", lambda: make_plan(after_loss, Policy()), PLAN_LIMIT_MS, None),
        ("one portfolio changed, then back: 2 plans", change_and_restore, None, 2.0),
    ):
        took = time_ms(work)
        limits = [f"≤ {limit_ms:g} ms"] if limit_ms else []
        limits += [f"≤ {times_greedy:g} × greedy"] if times_greedy else []
        most_ms = min(limit_ms or inf, (times_greedy or inf) * greedy_ms)
        is_met, target = statistics.median(took) <= most_ms, ", ".join(limits)
        yield median_row(setup, name, took, "ms", against=greedy_ms, target=target, met=is_met)


def time_ms(work: Callable[[], object], times: int = 7) -> list[float]:
    """Return the processor time in ms of each call of `work`."""
    took = []
    for _ in range(times):
        gc.collect()
        began = time.process_time()
        work()
        took.append((time.process_time() - began) * 1000)
    return took
