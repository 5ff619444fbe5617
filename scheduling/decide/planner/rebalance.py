"""Balance the loads of nodes, one change of target after the other, the best first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from typing import Any, NamedTuple

from scheduling.decide.planner.candidate_pool import NO_CAPACITY, SLACK, CandidatePool
from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.planner.handoff_slots import HandoffSlots
from scheduling.decide.types import PortfolioView, Requirements


class Movable(NamedTuple):
    """A portfolio that may go to another node."""

    portfolio: PortfolioView
    #: The `PlacementTask` if this plan places the portfolio: then another target costs nothing.
    task: Any = None

    @property
    def is_placement(self) -> bool:
        """Return whether the plan under construction places the portfolio."""
        return self.task is not None


class RebalanceStep(NamedTuple):
    """A change of target that evens loads, with the loads before the change."""

    movable: Movable
    source: int  #: index of the node, as is `target`
    target: int
    source_load: float
    target_load: float


class Rebalancer:
    """Move the portfolio that unloads the fullest node most to the emptiest allowed node.

    A step is taken only if the loads of its two nodes differ by `gain` or more, and if the higher
    one afterwards is below the source's load before. Placements of the plan go first: reassigning
    one interrupts nothing. Loads are relative to capacities.
    """

    def __init__(
        self,
        fleet: FleetState,
        planned: dict[int, list[Movable]],
        running: Callable[[int], list[PortfolioView]],
        lightest: Callable[[int], float],
        gain: float,
        handoff_slots: HandoffSlots,
        moves_left: int,
    ) -> None:
        """Prepare the steps, and the pool of nodes that may receive portfolios.

        `planned` and `running` have the portfolios that may leave each node, `lightest` a lower
        bound for the weights of the running ones, of which at most `moves_left` are moved. A step
        needs a difference of relative loads of at least `gain`.
        """
        self.fleet = fleet
        self.planned = planned
        self.running = running
        self.lightest = lightest
        self.gain = max(gain, 2 * SLACK)  # equal loads may differ by rounding
        self.largest_capacity = max(fleet.capacity, default=0) or NO_CAPACITY
        self.handoff_slots = handoff_slots
        self.moves_left = moves_left
        self.pools: dict[Requirements, CandidatePool] = {}
        self.receivers = self._pool(
            node for node in range(len(fleet.nodes)) if fleet.open[node] and fleet.alive[node]
        )

    def steps(self) -> Iterator[RebalanceStep]:
        """Yield steps until none evens loads enough. Each is applied before it is yielded."""
        improved = True
        while improved:  # a step may make another one possible for a source that had none
            improved = False
            for step in self._round():
                improved = True
                yield step

    def _round(self) -> Iterator[RebalanceStep]:
        """Yield steps, the fullest source first.

        A source without a possible step is left out until it receives a portfolio.
        """
        fleet = self.fleet
        # To give a planned move another target takes no further move.
        sources = range(len(fleet.nodes)) if self.moves_left > 0 else self.planned
        heap = [(-fleet.relative_load(node), node) for node in sources if self._may_give(node)]
        heapify(heap)
        while heap:
            negated_load, node = heap[0]
            high = fleet.relative_load(node)
            if -negated_load != high:  # the load has changed since this entry was made
                heapreplace(heap, (-high, node))
                continue
            low = self.receivers.lowest_relative_load()
            if low is None or high - low < self.gain - SLACK:
                return
            step = None
            # In a nearly balanced fleet most sources have nothing light enough: skip the search.
            if low + self._lightest_movable(node) / self.largest_capacity < high:
                step = self._best_step(node)
            if step is None:
                heappop(heap)
                continue
            self._apply(step)
            if self._may_give(step.target):  # it may be among the fullest nodes now
                heappush(heap, (-fleet.relative_load(step.target), step.target))
            yield step

    def _may_give(self, node: int) -> bool:
        """Return whether portfolios may leave `node` to balance loads.

        A draining node is emptied anyway, and a cordoned one could not take anything back.
        """
        view = self.fleet.nodes[node]
        return self.fleet.alive[node] and not view.draining and not view.cordoned

    def _lightest_movable(self, source: int) -> float:
        """Return a lower bound for the weights that may leave `source`."""
        lightest_planned = min(
            (each.portfolio.weight for each in self.planned.get(source, ())), default=inf
        )
        if self.moves_left > 0 and source not in self.handoff_slots.full:
            return min(lightest_planned, self.lightest(source))
        return lightest_planned

    def _best_step(self, source: int) -> RebalanceStep | None:
        """Return the best step from `source`, or None.

        To retarget a placement of this plan, which is free, is better than to move a running
        portfolio. Then the step is best after which the higher of the two nodes' loads is lowest.
        Ties: the least important portfolio, then the lower name.
        """
        fleet = self.fleet
        movables = list(self.planned.get(source, ()))
        if self.moves_left > 0 and source not in self.handoff_slots.full:
            movables.extend(Movable(portfolio) for portfolio in self.running(source))
        first: dict[tuple[Any, ...], Movable] = {}  # in order, of those that nodes treat alike
        for movable in movables:
            portfolio = movable.portfolio
            key = (
                portfolio.requirements,
                portfolio.spread_group,
                portfolio.spread_hard,
                portfolio.failed_nodes,
                movable.is_placement,
                portfolio.weight,
            )
            known = first.get(key)
            if known is None or _rebalance_order(portfolio) < _rebalance_order(known.portfolio):
                first[key] = movable
        best: tuple[tuple[bool, float, int, str, int], RebalanceStep] | None = None
        for movable in first.values():
            target = self._target(source, movable)
            if target is None:
                continue
            weight = movable.portfolio.weight
            higher = max(fleet.relative_load(source, -weight), fleet.relative_load(target, weight))
            if higher >= fleet.relative_load(source) - SLACK:
                continue
            rank = (not movable.is_placement, higher, *_rebalance_order(movable.portfolio))
            if best is None or rank < best[0]:
                loads = fleet.expected[source], fleet.expected[target]
                best = (rank, RebalanceStep(movable, source, target, *loads))
        return None if best is None else best[1]

    def _target(self, source: int, movable: Movable) -> int | None:
        """Return the allowed node that is least loaded once it holds the portfolio.

        None if none has a load lower than the source's by `gain`. Placements may exceed the limit
        of handoffs.
        """
        fleet, portfolio = self.fleet, movable.portfolio
        avoid = {
            source,
            *(fleet.index_by_id[i] for i in portfolio.failed_nodes if i in fleet.index_by_id),
        }
        if not movable.is_placement:
            avoid |= self.handoff_slots.full
        members = fleet.spread_members(portfolio)
        if portfolio.spread_hard:
            avoid.update(members)
        elif members:  # only to a node with fewer members of its group than its own has, with it
            at_source = members.get(source, 1)
            avoid.update(node for node, count in members.items() if count >= at_source)
        requirements = portfolio.requirements
        pool = self.pools.get(requirements)
        if pool is None:
            pool = self.pools[requirements] = self._pool(fleet.eligible_nodes(requirements))
        most_loaded = fleet.relative_load(source) - self.gain + SLACK
        return pool.best(portfolio.weight, avoid, most_loaded)

    def _pool(self, nodes: Iterable[int]) -> CandidatePool:
        return CandidatePool(nodes, self.fleet.capacity, self.fleet.expected, self.fleet.held)

    def _apply(self, step: RebalanceStep) -> None:
        """Apply a step to the fleet state, the handoff slots and the candidate pools.

        The source of a move keeps its places until the target has committed.
        """
        fleet, movable, source, target = self.fleet, step.movable, step.source, step.target
        portfolio = movable.portfolio
        fleet.hold(target, portfolio)
        fleet.expect(target, portfolio)
        fleet.expect(source, portfolio, -1)
        if movable.is_placement:
            fleet.hold(source, portfolio, -1)
            self.handoff_slots.give_back(source)
            self.planned[source].remove(movable)
            self.planned.setdefault(target, []).append(movable)
        else:
            self.handoff_slots.take(source)
            self.moves_left -= 1
        self.handoff_slots.take(target)
        # The target's load rose: a pool corrects that by itself when its entry reaches the top.
        for pool in (self.receivers, *self.pools.values()):
            pool.load_decreased(source)


def _rebalance_order(portfolio: PortfolioView) -> tuple[int, str, int]:
    return (portfolio.priority, portfolio.name, portfolio.id)
