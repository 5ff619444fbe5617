"""A small cast for planner tests, and what the world looks like once a plan was enacted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from scheduling.decide.reasons import render
from scheduling.decide.types import NodeView, Plan, PortfolioView, Snapshot

NOW = 1_000_000.0


def node(number: int, **changes: Any) -> NodeView:
    """node-1 is alive, has five places and nothing on it."""
    return NodeView(**{"id": number, "name": f"node-{number}", **changes})


def portfolio(name: str, **changes: Any) -> PortfolioView:
    """A portfolio of weight 1; with `node` it runs there."""
    phase = "running" if changes.get("node") is not None else "pending"
    number = int.from_bytes(name.encode()[-7:], "big")
    return PortfolioView(**{"id": number, "name": name, "phase": phase, **changes})


def on(number: int, *names: str, **changes: Any) -> list[PortfolioView]:
    """Portfolios that run on node `number`."""
    return [portfolio(name, node=number, **changes) for name in names]


def world(
    nodes: Iterable[NodeView], portfolios: Iterable[PortfolioView], **changes: Any
) -> Snapshot:
    """A snapshot taken at NOW."""
    return Snapshot(
        **{"taken_at": NOW, "nodes": tuple(nodes), "portfolios": tuple(portfolios), **changes}
    )


def applied(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The world once every handoff of the plan is done. Drain and failover have cleared the pin."""
    goes = {step.portfolio.id: step.target.id for step in plan.place}
    goes |= {step.portfolio.id: step.target.id for step in plan.move}
    unpinned = {move.portfolio.id for move in plan.move if move.cause in ("drain", "failover")}
    return replace(
        snapshot,
        portfolios=tuple(
            replace(
                each,
                node=goes[each.id],
                phase="running",
                handoff=None,
                pinned=None if each.id in unpinned else each.pinned,
            )
            if each.id in goes
            else each
            for each in snapshot.portfolios
        ),
    )


def places(plan: Plan) -> dict[str, str]:
    """Portfolio name → node name, of the placements."""
    return {step.portfolio.name: step.target.name for step in plan.place}


def moves(plan: Plan, cause: str | None = None) -> dict[str, str]:
    """Portfolio name → node name, of the moves, or of those with one cause."""
    return {
        step.portfolio.name: step.target.name
        for step in plan.move
        if cause is None or step.cause == cause
    }


def pending(plan: Plan) -> dict[str, str]:
    """Portfolio name → sentence."""
    return {entry.portfolio.name: render(entry.reason) for entry in plan.pending}


def stuck(plan: Plan) -> dict[str, str]:
    """Portfolio name → sentence."""
    return {entry.portfolio.name: render(entry.reason) for entry in plan.stuck}


def loads(snapshot: Snapshot) -> dict[str, float]:
    """Node name → the sum of weights that run there."""
    return {
        each.name: sum(p.weight for p in snapshot.portfolios if p.node == each.id)
        for each in snapshot.nodes
    }
