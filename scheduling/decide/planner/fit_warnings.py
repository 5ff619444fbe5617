"""Does a portfolio still fit where it runs? For the person who has just changed what it needs."""

from __future__ import annotations

from scheduling.decide.planner.feasibility import describe_requirements, why_unplaced
from scheduling.decide.planner.fleet_state import FleetState, lacks
from scheduling.decide.planner.targets import choose_target
from scheduling.decide.reasons import number, render
from scheduling.decide.types import PortfolioView, Reason, Snapshot


def fit_warnings(snapshot: Snapshot, name: str) -> list[str]:
    """Return a sentence for each way in which it does not fit, with what follows; [] if it does.

    Also [] for one that is not in the snapshot, as one that is stopped. Pure.
    """
    portfolio = next((p for p in snapshot.portfolios if p.name == name), None)
    if portfolio is None or portfolio.desired != "running":
        return []
    if portfolio.node is None:
        chosen = choose_target(snapshot, name)
        return [f"{name} {render(chosen)}."] if isinstance(chosen, Reason) else []
    fleet = FleetState.of(snapshot)
    node = fleet.live_index(portfolio.node)
    if node is None:
        return []
    return [*_missing(fleet, portfolio, node), *_overfull(fleet, portfolio, node)]


def _missing(fleet: FleetState, portfolio: PortfolioView, node: int) -> list[str]:
    """Say that the balancer moves it to where its labels are, or why it cannot."""
    if not lacks(fleet.nodes[node], portfolio.requirements).selector:
        return []
    here = fleet.nodes[node].name
    labels = describe_requirements(portfolio.requirements)["selector"]
    if portfolio.pinned == portfolio.node:
        return [f"{portfolio.name} is pinned to {here}, which has no {labels}: unpin it to move."]
    if fleet.choose(portfolio, frozenset({node})) is not None:
        return [f"{here}, where {portfolio.name} runs, has no {labels}: the next passes move it."]
    why = render(why_unplaced(fleet, portfolio, node))
    return [f"{here}, where {portfolio.name} runs, has no {labels}, and it stays there: {why}."]


def _overfull(fleet: FleetState, portfolio: PortfolioView, node: int) -> list[str]:
    """Say that its node holds more than it has places for."""
    view = fleet.nodes[node]
    if fleet.fits(node, 0):
        return []
    load = f"{number(fleet.held[node])} of {number(view.capacity)} places"
    return [
        f"{view.name} now holds {load}: what runs there goes on, nothing new is placed there until "
        f"places are free; migrate {portfolio.name}, lower its weight, or add capacity."
    ]
