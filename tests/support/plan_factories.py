"""Factories of snapshots for planner tests, and readers of plans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.reasons import render
from scheduling.decide.types import NodeView, Plan, PortfolioView, Snapshot
from scheduling.decide.what_if.answer import Answer, answer
from scheduling.decide.what_if.drain import snapshot_after
from scheduling.decide.what_if.hypothetical import Scenario
from scheduling.decide.what_if.wording import summary

NOW = 1_000_000.0

applied = snapshot_after


def node(number: int, **changes: Any) -> NodeView:
    """Return a live node with capacity 5."""
    return NodeView(**{"id": number, "name": f"node-{number}", **changes})


def portfolio(name: str, **changes: Any) -> PortfolioView:
    """Return a portfolio of weight 1, running if `node` is given."""
    phase = "running" if changes.get("node") is not None else "pending"
    number = int.from_bytes(name.encode()[-7:], "big")
    return PortfolioView(**{"id": number, "name": name, "phase": phase, **changes})


def on(number: int, *names: str, **changes: Any) -> list[PortfolioView]:
    """Return portfolios running on node `number`."""
    return [portfolio(name, node=number, **changes) for name in names]


def world(
    nodes: Iterable[NodeView], portfolios: Iterable[PortfolioView], **changes: Any
) -> Snapshot:
    """Return a snapshot taken at NOW."""
    return Snapshot(
        **{"taken_at": NOW, "nodes": tuple(nodes), "portfolios": tuple(portfolios), **changes}
    )


def places(plan: Plan) -> dict[str, str]:
    """Return portfolio name → node name of the placements."""
    return {step.portfolio.name: step.target.name for step in plan.place}


def moves(plan: Plan, cause: str | None = None) -> dict[str, str]:
    """Return portfolio name → node name of the moves, or of those with one cause."""
    return {
        step.portfolio.name: step.target.name
        for step in plan.move
        if cause is None or step.cause == cause
    }


def pending(plan: Plan) -> dict[str, str]:
    """Return name → reason of the portfolios that could not be placed."""
    return {entry.portfolio.name: render(entry.reason) for entry in plan.pending}


def stuck(plan: Plan) -> dict[str, str]:
    """Return name → reason of the portfolios that should leave their node and cannot."""
    return {entry.portfolio.name: render(entry.reason) for entry in plan.stuck}


def loads(snapshot: Snapshot) -> dict[str, float]:
    """Return node name → sum of the weights of its portfolios."""
    return {
        each.name: sum(p.weight for p in snapshot.portfolios if p.node == each.id)
        for each in snapshot.nodes
    }


def ask(snapshot: Snapshot, **parts: Any) -> Answer:
    """Return the answer to the what-if scenario of these texts."""
    texts = {"lose": (), "drain": (), "add": (), **parts}
    return answer(snapshot, Scenario.of(**texts), FleetIndex.of(snapshot.portfolios), 0.5)


def sentence(found: Answer) -> str:
    """Return the summary of an answer as plain text."""
    return "".join(span.text for span in summary(found))
