"""Which single moves make the measured cpu more even, where the operator chose to even out by it.

Places stay what decides whether something fits; what is evened is how busy machines are. Only what
runs and was measured is moved, only between nodes that were measured and that nothing else comes to
or leaves: a node or portfolio without a figure is left alone.

Figures are noisy and a move changes them only once they have been taken anew, so that flapping is
kept away three times: a node in a handoff waits (its daemon has no figure for it until a minute
after the last process came or went), two nodes must differ by the gain, and the target must come
out below the source by half of that. Every move therefore lowers the sum of the squared true
figures as long as each measured one is wrong by less than a tenth of the gain, and passes end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.planner.handoff_slots import HandoffSlots
from scheduling.decide.types import Cpu, PortfolioView

#: Per cent of a machine. Less than this is not worth a move, and as a margin it is noise.
MIN_CPU_PERCENT = 1.0
MAX_CHECKS = 60_000  #: at a target, in one plan


class CpuRebalanceStep(NamedTuple):
    """One improvement, already counted in the fleet. Figures are per cent, those before it."""

    portfolio: PortfolioView
    source: int
    target: int
    share: float  #: of its node's machine, the portfolio
    source_cpu: float
    target_cpu: float


class CpuRebalancer:
    """Takes from the busiest node what lowers it most, gives it to the idlest that may have it."""

    def __init__(
        self,
        fleet: FleetState,
        cpu: Cpu,
        running: Callable[[int], list[PortfolioView]],
        gain: float,
        slots: HandoffSlots,
        touched: Collection[int],
    ) -> None:
        """`touched` are nodes to or from which the plan under way sends something already."""
        self.fleet = fleet
        self.cpu_by_portfolio = cpu.portfolios
        self.running = running
        self.gain = max(100 * gain, 2 * MIN_CPU_PERCENT)
        self.slots = slots
        self.checks_left = MAX_CHECKS
        #: Node → per cent, of those that may give or take.
        self.cpu_by_node = {
            number: cpu.nodes[node.id]
            for number, node in enumerate(fleet.nodes)
            if node.id in cpu.nodes
            and fleet.open[number]
            and fleet.alive[number]
            and not node.handoffs
            and number not in touched
        }

    def steps(self, most: int) -> Iterator[CpuRebalanceStep]:
        """Yield step after step until none is worth it. Each is applied before it is yielded."""
        for _ in range(most):
            step = self._next()
            if step is None:
                return
            self._apply(step)
            yield step

    def _next(self) -> CpuRebalanceStep | None:
        """Return the best step of the busiest node that has one, or None."""
        idlest_first = sorted(self.cpu_by_node, key=lambda node: (self.cpu_by_node[node], node))
        for source in sorted(self.cpu_by_node, key=lambda node: (-self.cpu_by_node[node], node)):
            if self.cpu_by_node[source] - self.cpu_by_node[idlest_first[0]] < self.gain:
                return None
            step = None if source in self.slots.full else self._best(source, idlest_first)
            if step is not None:
                return step
        return None

    def _best(self, source: int, idlest_first: list[int]) -> CpuRebalanceStep | None:
        """Return the step that leaves the lowest higher figure. Ties: the least important, then
        the lower name.
        """
        high = self.cpu_by_node[source]
        best: tuple[float, tuple[float, str, int], CpuRebalanceStep] | None = None
        for portfolio in self.running(source):
            share = self.cpu_by_portfolio.get(portfolio.id, 0.0)
            target = (
                self._target(source, portfolio, share, idlest_first)
                if share >= MIN_CPU_PERCENT
                else None
            )
            if target is None:
                continue
            low = self.cpu_by_node[target]
            rank = (portfolio.priority, portfolio.name, portfolio.id)
            higher = max(high - share, low + share)
            if best is None or (higher, rank) < best[:2]:
                best = (higher, rank, CpuRebalanceStep(portfolio, source, target, share, high, low))
        return None if best is None else best[2]

    def _target(
        self, source: int, portfolio: PortfolioView, share: float, idlest_first: list[int]
    ) -> int | None:
        high, fleet = self.cpu_by_node[source], self.fleet
        neighbours = fleet.spread_members(portfolio)
        here = neighbours.get(source, 1)
        for node in idlest_first:
            low = self.cpu_by_node[node]
            self.checks_left -= 1
            if high - low < self.gain or low + share > high - self.gain / 2 or self.checks_left < 0:
                return None
            if (
                node not in self.slots.full
                and fleet.nodes[node].id not in portfolio.failed_nodes
                and fleet.is_allowed(node, portfolio)
                and neighbours.get(node, 0) < here
            ):
                return node
        return None

    def _apply(self, step: CpuRebalanceStep) -> None:
        fleet, portfolio = self.fleet, step.portfolio
        fleet.hold(step.target, portfolio)
        fleet.expect(step.target, portfolio)
        fleet.expect(step.source, portfolio, -1)
        self.cpu_by_node[step.source] -= step.share
        self.cpu_by_node[step.target] += step.share
        self.slots.take(step.source)
        self.slots.take(step.target)
