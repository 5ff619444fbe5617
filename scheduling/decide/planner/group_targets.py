"""Answer for several portfolios at once which of them each node could take.

Portfolios are considered in the planner's order, each with the room that those before it leave. The
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
    find_portfolio,
    obstacle_on,
    risk_on,
    state_on,
)
from scheduling.decide.planner.worklist import placing_order
from scheduling.decide.types import NEEDS_OPERATOR_PHASES, PortfolioView, Reason, Snapshot


@dataclass(frozen=True, slots=True)
class NoMove:
    """Why one portfolio of a group cannot move; `code` is the error code that the API answers."""

    portfolio: str
    code: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class GroupTarget:
    """Which portfolios of a group could move to one node, or where the balancer would move them."""

    node: str | None  #: None: the balancer chooses a node for each
    moves: tuple[tuple[str, str], ...]  #: (portfolio, node)
    refused: tuple[NoMove, ...]
    risks: tuple[tuple[str, Reason], ...]  #: of `moves`: what the operator should know beforehand
    load_before: float = 0  #: of `node`
    load_after: float = 0
    capacity: float = 0


def group_targets(snapshot: Snapshot, names: Collection[str]) -> list[GroupTarget]:
    """Return the balancer's moves of the portfolios, then one answer for each node, by name.

    A node's answer says which of them it could take. Raise `NotInSnapshot` if the snapshot lacks a
    portfolio.
    """
    fleet = FleetState.of(snapshot)
    group = _in_placing_order(fleet, snapshot, names)
    return [_answer(fleet, group, node) for node in (None, *range(len(fleet.nodes)))]


def group_target(snapshot: Snapshot, names: Collection[str], node: str | None) -> GroupTarget:
    """Return which portfolios `node` could take or, if it is None, where the balancer puts each.

    Raise `NotInSnapshot` if the snapshot lacks the node or a portfolio.
    """
    fleet = FleetState.of(snapshot)
    group = _in_placing_order(fleet, snapshot, names)
    if node is None:
        return _answer(fleet, group, None)
    for index, view in enumerate(fleet.nodes):
        if view.name == node:
            return _answer(fleet, group, index)
    raise NotInSnapshot("node", node)


def _in_placing_order(
    fleet: FleetState, snapshot: Snapshot, names: Collection[str]
) -> list[PortfolioView]:
    found = (find_portfolio(snapshot, name) for name in dict.fromkeys(names))
    return sorted(map(fleet.with_granted_revision, found), key=placing_order)


def _answer(fleet: FleetState, group: Sequence[PortfolioView], node: int | None) -> GroupTarget:
    """Return which of `group` could go to `node` or, if it is None, where the balancer puts each.

    `node` is an index of `fleet.nodes`. The fleet is left as it was.
    """
    before = 0.0 if node is None else fleet.held[node]
    going: list[tuple[PortfolioView, int]] = []
    refused: list[NoMove] = []
    risks: list[tuple[str, Reason]] = []
    for portfolio in group:
        target = _target(fleet, portfolio, node)
        if isinstance(target, NoMove):
            refused.append(target)
            continue
        risk = risk_on(fleet, portfolio, target)
        if risk is not None:
            risks.append((portfolio.name, risk))
        going.append((portfolio, target))
        fleet.hold(target, portfolio)
    after = 0.0 if node is None else fleet.held[node]
    for portfolio, target in going:
        fleet.hold(target, portfolio, -1)
    fleet.invalidate_pools()
    view = None if node is None else fleet.nodes[node]
    return GroupTarget(
        node=None if view is None else view.name,
        moves=tuple((portfolio.name, fleet.nodes[target].name) for portfolio, target in going),
        refused=tuple(refused),
        risks=tuple(risks),
        load_before=before,
        load_after=after,
        capacity=0 if view is None else view.capacity,
    )


def _target(fleet: FleetState, portfolio: PortfolioView, node: int | None) -> int | NoMove:
    """Return the node to move to, or why the portfolio cannot move.

    `node` is the only node considered; None: the balancer chooses one.
    """
    if portfolio.handoff is not None:
        return NoMove(portfolio.name, "handoff_in_progress", Reason("in_handoff"))
    if portfolio.desired == "stopped" or portfolio.phase in NEEDS_OPERATOR_PHASES:
        return NoMove(portfolio.name, "already_stopped", Reason("needs_start"))
    if node is None:
        chosen = choose_node(fleet, portfolio)
        return NoMove(portfolio.name, "no_room", chosen) if isinstance(chosen, Reason) else chosen
    found = obstacle_on(fleet, portfolio, node)
    if found is None:
        return node
    why = state_on(fleet, portfolio, node, found)
    return NoMove(portfolio.name, PUBLIC_CODES.get(found, found), why)
