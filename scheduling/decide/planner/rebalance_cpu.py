"""Balance measured CPU by single moves, if the operator chose to rebalance by CPU.

Places still decide what fits; the balanced quantity is the CPU usage of machines. Only running,
measured portfolios move, and only between measured nodes without other handoffs. Nodes and
portfolios without a measured figure are left alone.

Figures are noisy, and a move changes them only once they are measured again. Three rules prevent
portfolios from moving back and forth: a node in a handoff waits (its daemon reports no figure until
a minute after the last process started or ended), two nodes must differ by the gain, and the target
after the move must be below the source before it by half the gain. As long as each measured figure
is wrong by less than a tenth of the gain, every move therefore lowers the sum of the squared true
figures, and repeated passes terminate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.planner.handoff_slots import HandoffSlots
from scheduling.decide.types import Cpu, PortfolioView

#: Per cent of a machine. A portfolio that uses less is not worth a move; a smaller margin is noise.
MIN_CPU_PERCENT = 1.0
MAX_CHECKS = 60_000  #: checks of one target for one portfolio, in one plan


class CpuRebalanceStep(NamedTuple):
    """A move that evens CPU usage. Figures are per cent, before the move."""

    portfolio: PortfolioView
    source: int  #: index of the node, as is `target`
    target: int
    share: float  #: of its node's machine, used by the portfolio
    source_cpu: float
    target_cpu: float


class CpuRebalancer:
    """Move the portfolio that relieves the busiest node most to the idlest allowed node."""

    def __init__(
        self,
        fleet: FleetState,
        cpu: Cpu,
        running: Callable[[int], list[PortfolioView]],
        gain: float,
        handoff_slots: HandoffSlots,
        touched: Collection[int],
    ) -> None:
        """Prepare the steps: find the nodes that may be source or target.

        `running` returns the portfolios that may leave a node. `gain` is a fraction of a machine.
        `touched` are the nodes from or to which the plan already moves portfolios.
        """
        self.fleet = fleet
        self.cpu_by_portfolio = cpu.portfolios
        self.running = running
        #: Per cent. Half of it is the margin of a move, which has to be above noise.
        self.gain = max(100 * gain, 2 * MIN_CPU_PERCENT)
        self.handoff_slots = handoff_slots
        self.checks_left = MAX_CHECKS
        #: Node → per cent of its machine in use, for nodes that may be source or target.
        self.cpu_by_node = {
            number: cpu.nodes[node.id]
            for number, node in enumerate(fleet.nodes)
            if node.id in cpu.nodes
            and fleet.open[number]
            and fleet.alive[number]
            and not node.handoffs
            and number not in touched
        }

    def steps(self, limit: int) -> Iterator[CpuRebalanceStep]:
        """Yield at most `limit` steps. Each is applied before it is yielded."""
        for _ in range(limit):
            step = self._next_step()
            if step is None:
                return
            self._apply(step)
            yield step

    def _next_step(self) -> CpuRebalanceStep | None:
        """Return the best step of the busiest node that has one, or None."""
        idlest_first = sorted(self.cpu_by_node, key=lambda node: (self.cpu_by_node[node], node))
        for source in sorted(self.cpu_by_node, key=lambda node: (-self.cpu_by_node[node], node)):
            if self.cpu_by_node[source] - self.cpu_by_node[idlest_first[0]] < self.gain:
                return None
            step = (
                None if source in self.handoff_slots.full else self._best_step(source, idlest_first)
            )
            if step is not None:
                return step
        return None

    def _best_step(self, source: int, idlest_first: list[int]) -> CpuRebalanceStep | None:
        """Return the step from `source` after which the higher figure is lowest, or None.

        Ties: the least important portfolio, then the lower name.
        """
        high = self.cpu_by_node[source]
        best: tuple[float, tuple[float, str, int], CpuRebalanceStep] | None = None
        for portfolio in self.running(source):
            share = self.cpu_by_portfolio.get(portfolio.id, 0.0)
            if share < MIN_CPU_PERCENT:
                continue
            target = self._target(source, portfolio, share, idlest_first)
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
        """Return the idlest node that the portfolio, with its `share`, may move to, or None."""
        high, fleet = self.cpu_by_node[source], self.fleet
        members = fleet.spread_members(portfolio)  # empty without a spread group: then 0 < 1 below
        at_source = members.get(source, 1)
        for node in idlest_first:
            low = self.cpu_by_node[node]
            self.checks_left -= 1
            differ_enough = high - low >= self.gain
            stays_below_source = low + share <= high - self.gain / 2
            if self.checks_left < 0 or not (differ_enough and stays_below_source):
                return None  # the next nodes are busier still
            if (
                node not in self.handoff_slots.full
                and fleet.nodes[node].id not in portfolio.failed_nodes
                and fleet.is_allowed(node, portfolio)
                and members.get(node, 0) < at_source
            ):
                return node
        return None

    def _apply(self, step: CpuRebalanceStep) -> None:
        """Apply a step to the fleet state, the slots and the figures."""
        fleet, portfolio = self.fleet, step.portfolio
        fleet.hold(step.target, portfolio)
        fleet.expect(step.target, portfolio)
        fleet.expect(step.source, portfolio, -1)
        self.cpu_by_node[step.source] -= step.share
        self.cpu_by_node[step.target] += step.share
        self.handoff_slots.take(step.source)
        self.handoff_slots.take(step.target)
