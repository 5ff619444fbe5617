"""Warn an operator who changed a portfolio that it no longer fits on its node."""

from __future__ import annotations

from scheduling.decide.planner.feasibility import describe_requirements, why_unplaced
from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.planner.targets import choose_target
from scheduling.decide.reasons import number, render
from scheduling.decide.types import PortfolioView, Reason, Snapshot


def fit_warnings(snapshot: Snapshot, name: str) -> list[str]:
    """Return warnings: what the portfolio's node lacks, or, if it has no node, why none takes it.

    Empty if it fits, is stopped, is on a lost node, or is not in the snapshot. Pure.
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
    return [*_label_warnings(fleet, portfolio, node), *_capacity_warnings(fleet, portfolio, node)]


def _label_warnings(fleet: FleetState, portfolio: PortfolioView, node: int) -> list[str]:
    """Return a warning of labels that the node lacks, and of whether the portfolio will move."""
    if not portfolio.requirements.missing_on(fleet.nodes[node]).selector:
        return []
    here = fleet.nodes[node].name
    labels = describe_requirements(portfolio.requirements)["selector"]
    if portfolio.pinned == portfolio.node:
        return [
            f"{portfolio.name} is pinned to {here}, which has no {labels}; unpin it to let it move."
        ]
    if fleet.choose(portfolio, frozenset({node})) is not None:
        return [f"{here}, where {portfolio.name} runs, has no {labels}: the balancer will move it."]
    why = render(why_unplaced(fleet, portfolio, node))
    return [
        f"{here}, where {portfolio.name} runs, has no {labels}, and {portfolio.name} stays: {why}."
    ]


def _capacity_warnings(fleet: FleetState, portfolio: PortfolioView, node: int) -> list[str]:
    """Return a warning if the node is over its capacity, else nothing."""
    view = fleet.nodes[node]
    if fleet.fits(node, 0):
        return []
    load = f"{number(fleet.held[node])} of {number(view.capacity)} places"
    return [
        f"{view.name} now holds {load}: its portfolios keep running, but nothing new is placed "
        f"there until places are free; migrate {portfolio.name}, lower its weight, or add capacity."
    ]
