"""Answer for several portfolios at once how many of them each node could take.

They are considered in the order of the planner, each with the room that those before it leave. The
same hard rules hold as for one portfolio (`targets`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.planner.targets import (
    PUBLIC_CODES,
    NotInSnapshot,
    choose_node,
    find_in,
    obstacle_on,
    risk_on,
    state_on,
)
from scheduling.decide.planner.worklist import placing_order
from scheduling.decide.types import NEEDS_OPERATOR_PHASES, PortfolioView, Reason, Snapshot


@dataclass(frozen=True, slots=True)
class NoMove:
    """Why one portfolio of a group cannot move there; `code` is one of the API."""

    portfolio: str
    code: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class GroupTarget:
    """The answer of one node, or of the balancer, to a group of portfolios."""

    node: str | None  #: None: the balancer chooses a node for each
    moves: tuple[tuple[str, str], ...]  #: (portfolio, node)
    refused: tuple[NoMove, ...]
    risks: tuple[tuple[str, Reason], ...]  #: of `moves`: what the operator should know beforehand
    load_before: float = 0  #: of `node`
    load_after: float = 0
    capacity: float = 0


def group_targets(snapshot: Snapshot, names: Collection[str]) -> list[GroupTarget]:
    """Return the answer of the balancer, then one per node, sorted by name.

    Raise `NotInSnapshot` if a portfolio is not there.
    """
    fleet = FleetState.of(snapshot)
    group = _in_order(fleet, snapshot, names)
    nodes = [_on_node(fleet, group, node) for node in range(len(fleet.nodes))]
    return [_balanced(fleet, group), *nodes]


def group_target(snapshot: Snapshot, names: Collection[str], node: str | None) -> GroupTarget:
    """Return the answer of this node; None: of the balancer. Raise `NotInSnapshot`."""
    fleet = FleetState.of(snapshot)
    group = _in_order(fleet, snapshot, names)
    if node is None:
        return _balanced(fleet, group)
    for index, view in enumerate(fleet.nodes):
        if view.name == node:
            return _on_node(fleet, group, index)
    raise NotInSnapshot("node", node)


def _in_order(fleet: FleetState, snapshot: Snapshot, names: Collection[str]) -> list[PortfolioView]:
    found = (find_in(snapshot, name) for name in dict.fromkeys(names))
    return sorted(map(fleet.with_granted_revision, found), key=placing_order)


def _why_nowhere(portfolio: PortfolioView) -> NoMove | None:
    """Return why the portfolio cannot move to any node, or None."""
    if portfolio.handoff is not None:
        return NoMove(portfolio.name, "handoff_in_progress", Reason("in_handoff"))
    if portfolio.desired == "stopped" or portfolio.phase in NEEDS_OPERATOR_PHASES:
        return NoMove(portfolio.name, "already_stopped", Reason("needs_start"))
    return None


def _on_node(fleet: FleetState, group: Sequence[PortfolioView], node: int) -> GroupTarget:
    """Return the answer of one node, and leave the fleet as it was."""
    view, before = fleet.nodes[node], fleet.held[node]
    going: list[PortfolioView] = []
    refused: list[NoMove] = []
    risks: list[tuple[str, Reason]] = []
    for portfolio in group:
        nowhere = _why_nowhere(portfolio)
        found = obstacle_on(fleet, portfolio, node)
        if nowhere is not None:
            refused.append(nowhere)
        elif found is not None:
            why = state_on(fleet, portfolio, node, found)
            refused.append(NoMove(portfolio.name, PUBLIC_CODES.get(found, found), why))
        else:
            risk = risk_on(fleet, portfolio, node)
            if risk is not None:
                risks.append((portfolio.name, risk))
            going.append(portfolio)
            fleet.hold(node, portfolio)
    after = fleet.held[node]
    for portfolio in going:
        fleet.hold(node, portfolio, -1)
    moves = tuple((portfolio.name, view.name) for portfolio in going)
    return GroupTarget(view.name, moves, tuple(refused), tuple(risks), before, after, view.capacity)


def _balanced(fleet: FleetState, group: Sequence[PortfolioView]) -> GroupTarget:
    """Return where the balancer would move each, and leave the fleet as it was."""
    going: list[tuple[PortfolioView, int]] = []
    refused: list[NoMove] = []
    risks: list[tuple[str, Reason]] = []
    for portfolio in group:
        nowhere = _why_nowhere(portfolio)
        node = choose_node(fleet, portfolio) if nowhere is None else None
        if nowhere is not None:
            refused.append(nowhere)
        elif isinstance(node, Reason):
            refused.append(NoMove(portfolio.name, "no_room", node))
        elif node is not None:
            risk = risk_on(fleet, portfolio, node)
            if risk is not None:
                risks.append((portfolio.name, risk))
            going.append((portfolio, node))
            fleet.hold(node, portfolio)
    for portfolio, node in going:
        fleet.hold(node, portfolio, -1)
    fleet.invalidate_pools()
    moves = tuple((portfolio.name, fleet.nodes[node].name) for portfolio, node in going)
    return GroupTarget(None, moves, tuple(refused), tuple(risks))
