"""Build the reason of each entry of a plan, with the figures behind the decision."""

from __future__ import annotations

from scheduling.decide.planner import feasibility
from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.planner.worklist import PlacementTask
from scheduling.decide.types import Reason


class Explainer:
    """Gives each entry of one plan its reason."""

    def __init__(self, fleet: FleetState) -> None:
        self.fleet = fleet
        self._known: dict[tuple[object, ...], Reason] = {}

    def why(self, task: PlacementTask) -> Reason:
        """Return the reason of a placement or move.

        Its parameter `how` says why this target: it is `pinned`, `prepared` by the active handoff,
        the `lowest` loaded, or `suspect` or `failed` where no better node has room.
        """
        assert task.target is not None
        portfolio, target = task.portfolio, self.fleet.nodes[task.target]
        source = self.fleet.node_by_id(portfolio.node)
        if task.target in (task.preferred_node, task.only_node):
            how = "pinned" if task.cause in (None, "pin") else "prepared"
        elif target.id in portfolio.failed_nodes:
            how = "failed"
        else:
            how = "lowest" if target.status == "alive" else "suspect"
        pin = self.fleet.pinned_node(portfolio) if task.cause is None and how != "pinned" else None
        return Reason(
            task.why or task.cause or "place",
            {
                "how": how,
                "of": self.fleet.count_candidates(portfolio.requirements),
                "target": target.name,
                "load_before": task.load_before,
                "load_after": task.load_before + portfolio.weight,
                "capacity": target.capacity,
                "source": source.name if source else None,
                "source_status": source.status if source else None,
                "source_load": task.source_load,
                "for": task.room_for,
                "source_capacity": source.capacity if source else None,
                "weight": portfolio.weight,
                "group": portfolio.spread_group or "",
                "pinned": self.fleet.nodes[pin].name if pin is not None else None,
                **(task.cpu or {}),
            },
        )

    def why_unplaced(self, task: PlacementTask) -> Reason:
        """Return why no node takes the portfolio. Computed once for equivalent tasks."""
        portfolio = task.portfolio
        group = portfolio.spread_group if portfolio.spread_hard else None
        source = task.source if task.is_leaving else None
        key = (portfolio.requirements, portfolio.weight, group, source)
        reason = self._known.get(key)
        if reason is None:
            reason = feasibility.why_unplaced(self.fleet, portfolio, source)
            self._known[key] = reason
        return reason

    def why_stuck(self, task: PlacementTask) -> Reason:
        """Return why a portfolio cannot move: to its `only_node`, or without one to any other."""
        if task.only_node is not None:
            return feasibility.why_pin_waits(self.fleet, task.portfolio, task.only_node)
        return self.why_unplaced(task)
