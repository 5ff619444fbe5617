"""Which single moves make the loads more even, best first."""

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
    """A portfolio that may go from its node to another one."""

    portfolio: PortfolioView
    task: Any = None  #: set where this very plan places it: then another target costs nothing

    @property
    def is_planned(self) -> bool:
        return self.task is not None


class RebalanceStep(NamedTuple):
    """One improvement, already counted in the fleet. Loads are those before it."""

    movable: Movable
    source: int
    target: int
    source_load: float
    target_load: float


class Rebalancer:
    """Takes from the fullest node what lowers it most, gives it to the emptiest that may have it.

    A step is taken only if its two nodes differ by the gain, and the higher of them comes
    out lower than the source was. Fresh placements go first: aiming one elsewhere interrupts
    nobody.
    """

    def __init__(
        self,
        fleet: FleetState,
        planned: dict[int, list[Movable]],
        running: Callable[[int], list[PortfolioView]],
        lightest: Callable[[int], float],
        gain: float,
        slots: HandoffSlots,
        moves_left: int,
    ) -> None:
        """`lightest` says what weighs least of what runs on a node, or less, without a look."""
        self.fleet = fleet
        self.fresh = planned
        self.running = running
        self.lightest = lightest
        self.gain = max(gain, 2 * SLACK)  # equal loads differ by their rounding
        self.largest = max(fleet.capacity, default=0) or NO_CAPACITY
        self.slots = slots
        self.moves_left = moves_left
        self.pools: dict[Requirements, CandidatePool] = {}
        self.receivers = self._pool(
            node for node in range(len(fleet.nodes)) if fleet.open[node] and fleet.alive[node]
        )

    def steps(self) -> Iterator[RebalanceStep]:
        """Yield step after step until none is worth it. Each is applied before it is yielded."""
        improved = True
        while improved:
            improved = False
            for step in self._sweep():
                improved = True
                yield step

    def _sweep(self) -> Iterator[RebalanceStep]:
        """Go through the givers, fullest first; one without a step is asked again once it rose."""
        fleet = self.fleet
        heap = [
            (-fleet.relative_load(node), node)
            for node in (range(len(fleet.nodes)) if self.moves_left > 0 else self.fresh)
            if self._may_give(node)
        ]
        heapify(heap)
        while heap:
            node = heap[0][1]
            high = fleet.relative_load(node)
            if -heap[0][0] != high:
                heapreplace(heap, (-high, node))
                continue
            low = self.receivers.lowest_relative_load()
            if low is None or high - low < self.gain - SLACK:
                return
            step = None
            # Most givers of a nearly even fleet have nothing light enough: no look at each of them.
            if low + self._lightest_movable(node) / self.largest < high:
                step = self._best_step(node)
            if step is None:
                heappop(heap)
                continue
            self._apply(step)
            if self._may_give(step.target):  # it may be among the fullest now
                heappush(heap, (-fleet.relative_load(step.target), step.target))
            yield step

    def _may_give(self, node: int) -> bool:
        """Draining nodes give by themselves, and a cordoned one could not take anything back."""
        view = self.fleet.nodes[node]
        return self.fleet.alive[node] and not view.draining and not view.cordoned

    def _lightest_movable(self, source: int) -> float:
        """Return a weight that nothing which may leave `source` is below."""
        fresh = min((each.portfolio.weight for each in self.fresh.get(source, ())), default=inf)
        if self.moves_left > 0 and source not in self.slots.full:
            return min(fresh, self.lightest(source))
        return fresh

    def _best_step(self, source: int) -> RebalanceStep | None:
        """Return the step from `source` that leaves the lowest higher load, or None.

        Ties: the least important portfolio, then the lower name.
        """
        fleet = self.fleet
        residents = list(self.fresh.get(source, ()))
        if self.moves_left > 0 and source not in self.slots.full:
            residents.extend(Movable(portfolio) for portfolio in self.running(source))
        first: dict[tuple[Any, ...], Movable] = {}
        for resident in residents:
            portfolio = resident.portfolio
            alike = (
                portfolio.requirements,
                portfolio.spread_group,
                portfolio.spread_hard,
                portfolio.failed_nodes,
                resident.is_planned,
                portfolio.weight,
            )
            known = first.get(alike)
            if known is None or _move_preference(portfolio) < _move_preference(known.portfolio):
                first[alike] = resident
        best: tuple[tuple[bool, float, int, str, int], RebalanceStep] | None = None
        for resident in first.values():
            target = self._target(source, resident)
            if target is None:
                continue
            weight = resident.portfolio.weight
            higher = max(
                fleet.relative_load_with(source, -weight), fleet.relative_load_with(target, weight)
            )
            if higher >= fleet.relative_load(source) - SLACK:
                continue
            rank = (not resident.is_planned, higher, *_move_preference(resident.portfolio))
            if best is None or rank < best[0]:
                loads = fleet.expected[source], fleet.expected[target]
                best = (rank, RebalanceStep(resident, source, target, *loads))
        return None if best is None else best[1]

    def _target(self, source: int, resident: Movable) -> int | None:
        fleet, portfolio = self.fleet, resident.portfolio
        avoid = {
            source,
            *(fleet.index_by_id[i] for i in portfolio.failed_nodes if i in fleet.index_by_id),
        }
        if not resident.is_planned:
            avoid |= self.slots.full
        neighbours = fleet.spread_members(portfolio)
        if portfolio.spread_hard:
            avoid.update(neighbours)
        elif neighbours:  # never to where it would have more neighbours than it has
            here = neighbours.get(source, 1)
            avoid.update(node for node, count in neighbours.items() if count >= here)
        need = portfolio.requirements
        pool = self.pools.get(need)
        if pool is None:
            pool = self.pools[need] = self._pool(fleet.eligible_nodes(need))
        below = fleet.relative_load(source) - self.gain + SLACK
        return pool.best(portfolio.weight, avoid, below)

    def _pool(self, nodes: Iterable[int]) -> CandidatePool:
        return CandidatePool(nodes, self.fleet.capacity, self.fleet.expected, self.fleet.held)

    def _apply(self, step: RebalanceStep) -> None:
        fleet, resident, source, target = self.fleet, step.movable, step.source, step.target
        portfolio = resident.portfolio
        fleet.hold(target, portfolio)
        fleet.expect(target, portfolio)
        fleet.expect(source, portfolio, -1)
        if resident.is_planned:
            fleet.hold(source, portfolio, -1)
            self.slots.give_back(source)
            self.fresh[source].remove(resident)
            self.fresh.setdefault(target, []).append(resident)
        else:
            self.slots.take(source)
            self.moves_left -= 1
        self.slots.take(target)
        for pool in (self.receivers, *self.pools.values()):
            pool.load_decreased(source)


def _move_preference(portfolio: PortfolioView) -> tuple[int, str, int]:
    return (portfolio.priority, portfolio.name, portfolio.id)
