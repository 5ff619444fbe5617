"""The reason of each entry of a plan, with the numbers it was decided on."""

from __future__ import annotations

from scheduling.decide.planner import feasibility
from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.planner.worklist import PlacementTask
from scheduling.decide.types import Reason


class Explainer:
    """Explains what came of the wishes of one plan."""

    def __init__(self, fleet: FleetState) -> None:
        self.fleet = fleet
        self._known: dict[tuple[object, ...], Reason] = {}

    def why(self, wish: PlacementTask) -> Reason:
        """Return the reason of a placement or move, with the loads it was decided on."""
        assert wish.target is not None
        portfolio, target = wish.portfolio, self.fleet.nodes[wish.target]
        source = self.fleet.node_by_id(portfolio.node)
        if wish.target in (wish.prefer, wish.only):
            how = "pinned" if wish.cause in (None, "pin") else "prepared"
        elif target.id in portfolio.failed_nodes:
            how = "failed"
        else:
            how = "lowest" if target.status == "alive" else "suspect"
        pin = self.fleet.pinned_node(portfolio) if wish.cause is None and how != "pinned" else None
        return Reason(
            wish.why or wish.cause or "place",
            {
                "how": how,
                "of": self.fleet.count_candidates(portfolio.requirements),
                "target": target.name,
                "load_before": wish.load_before,
                "load_after": wish.load_before + portfolio.weight,
                "capacity": target.capacity,
                "source": source.name if source else None,
                "source_status": source.status if source else None,
                "source_load": wish.source_load,
                "for": wish.room_for,
                "source_capacity": source.capacity if source else None,
                "weight": portfolio.weight,
                "group": portfolio.spread_group or "",
                "pinned": self.fleet.nodes[pin].name if pin is not None else None,
                **(wish.cpu or {}),
            },
        )

    def why_unplaced(self, wish: PlacementTask) -> Reason:
        """Return why no node takes it. Worked out once for all that ask for the same."""
        portfolio = wish.portfolio
        group = portfolio.spread_group if portfolio.spread_hard else None
        alike = (
            portfolio.requirements,
            portfolio.weight,
            group,
            wish.source if wish.is_leaving else None,
        )
        reason = self._known.get(alike)
        if reason is None:
            reason = feasibility.why_unplaced(self.fleet, portfolio, alike[3])
            self._known[alike] = reason
        return reason

    def why_stuck(self, wish: PlacementTask) -> Reason:
        """Return why nothing else takes what should leave, or why not the node it is pinned to."""
        if wish.only is not None:
            return feasibility.why_pin_waits(self.fleet, wish.portfolio, wish.only)
        return self.why_unplaced(wish)
