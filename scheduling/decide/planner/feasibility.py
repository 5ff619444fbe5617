"""Explain why a portfolio cannot run on one node, or on any node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.types import ArtifactNeeds, NodeView, PortfolioView, Reason, Requirements

#: Nodes named in a sentence; the others are only counted by state.
MAX_NAMED_NODES = 6


def obstacle(fleet: FleetState, portfolio: PortfolioView, node: int) -> str | None:
    """Return the code of the first hard rule that the node breaks for the portfolio, or None."""
    view = fleet.nodes[node]
    missing = portfolio.requirements.missing_on(view)
    checks = (
        ("lost", not fleet.hosting[node] and view.status != "left"),
        ("left", view.status == "left"),
        ("selector", missing.selector),
        ("strategy", missing.strategy),
        ("feed", missing.feed),
        ("python", missing.python),
        ("artifact", missing.artifact),
        ("draining", view.draining),
        ("cordoned", view.cordoned),
        ("spread", portfolio.spread_hard and node in fleet.spread_members(portfolio)),
        ("full", not fleet.fits(node, portfolio.weight)),
    )
    return next((code for code, applies in checks if applies), None)


def automatic_obstacle(fleet: FleetState, portfolio: PortfolioView, node: int) -> str | None:
    """Return the code of the `obstacle`; without one, `flapping` if the node is, else None."""
    found = obstacle(fleet, portfolio, node)
    return "flapping" if found is None and fleet.is_flapping(fleet.nodes[node]) else found


def why_unplaced(fleet: FleetState, portfolio: PortfolioView, source: int | None = None) -> Reason:
    """Return why no node takes the portfolio: the first requirement that none meets, else no room.

    `source` is the node that the portfolio should leave, which is not considered. Examines every
    node once.
    """
    requirements = portfolio.requirements
    candidates = [
        node for node, view in enumerate(fleet.nodes) if view.status != "left" and node != source
    ]
    base = {
        "weight": portfolio.weight,
        **describe_requirements(requirements),
        "nodes": len(candidates),
        "other": source is not None,
    }
    if not candidates:
        return Reason("no_other_node" if source is not None else "no_nodes", base)
    if not any(fleet.hosting[node] for node in candidates):
        return Reason("no_live_node", base)
    missing = [requirements.missing_on(fleet.nodes[node]) for node in candidates]
    for kind in ("selector", "strategy", "feed"):
        if all(getattr(each, kind) for each in missing):
            return Reason(f"no_{kind}", base)
    # A lost node with the right Python, such as the last owner, is no help: count living ones.
    living = [fleet.nodes[node] for node in candidates if fleet.hosting[node]]
    for kind, code in (("python", "no_python"), ("artifact", "no_artifact_python")):
        if all(getattr(requirements.missing_on(view), kind) for view in living):
            found = sorted({view.python for view in living})
            return Reason(code, {**base, "nodes": len(living), "found": found})
    matching = [node for node, each in zip(candidates, missing, strict=True) if not any(each)]
    if not matching:
        return Reason("no_match", base)
    base["nodes"] = len(matching)
    largest = max(fleet.capacity[node] for node in matching)
    if portfolio.weight > largest:
        return Reason("too_heavy", {**base, "largest": largest})
    # A node without an obstacle is busy: its handoff slots are taken.
    states = [(node, automatic_obstacle(fleet, portfolio, node) or "busy") for node in matching]
    return Reason(
        "no_room",
        {
            **base,
            "states": [_node_params(fleet, node, code) for node, code in states[:MAX_NAMED_NODES]],
            "more": dict(sorted(Counter(code for _, code in states[MAX_NAMED_NODES:]).items())),
            "group": portfolio.spread_group or "",
            **_remedy(fleet, portfolio, dict(states)),
        },
    )


def why_pin_waits(fleet: FleetState, portfolio: PortfolioView, node: int) -> Reason:
    """Return why a portfolio cannot move to the node it is pinned to."""
    view = fleet.nodes[node]
    code = automatic_obstacle(fleet, portfolio, node)
    if code is None:  # allowed there: it failed there twice, or all handoff slots are taken
        code = "failed_there" if view.id in portfolio.failed_nodes else "busy"
    return Reason("pin_waits", {"state": node_state(fleet, portfolio, node, code)})


def node_state(
    fleet: FleetState, portfolio: PortfolioView, node: int, code: str
) -> dict[str, object]:
    """Return the state of one node for a portfolio, as parameters of a sentence."""
    return {
        **_node_params(fleet, node, code),
        **describe_requirements(portfolio.requirements),
        "weight": portfolio.weight,
        "group": portfolio.spread_group or "",
    }


def describe_requirements(requirements: Requirements) -> dict[str, object]:
    """Return requirements as parameters of a sentence."""
    return {
        "selector": ", ".join(f"{key}={value}" for key, value in requirements.selector),
        "strategy": f"{requirements.strategy} {requirements.strategy_version}"
        if requirements.strategy
        else "",
        "feed": requirements.feed,
        "feed_sha": requirements.feed_sha[:8],
        "python": requirements.python,
        "accept_python": requirements.accept_python,
        **describe_artifact(requirements.artifact),
    }


def describe_artifact(needs: ArtifactNeeds | None) -> dict[str, object]:
    """Return the needs of an artifact, as parameters of a reason; {} without an artifact."""
    if needs is None:
        return {}
    return {"artifact": needs.label, "artifact_python": needs.python}


def _node_params(fleet: FleetState, node: int, code: str) -> dict[str, object]:
    """Return the state of one node, whatever the portfolio, as parameters of a sentence."""
    view = fleet.nodes[node]
    return {
        "node": view.name,
        "state": code,
        "load": fleet.held[node],
        "capacity": view.capacity,
        "wait_s": _flapping_s(fleet, view),
        "node_python": view.python,
    }


def _flapping_s(fleet: FleetState, view: NodeView) -> float:
    """Return for how many seconds the node is still flapping; 0 if it is not."""
    return max(0.0, view.flapping_until - fleet.now) if view.flapping_until is not None else 0.0


def _remedy(
    fleet: FleetState, portfolio: PortfolioView, states: Mapping[int, str]
) -> dict[str, object]:
    """Return what would help, as parameters of a sentence: the smallest action, else a new node."""
    for code in ("cordoned", "draining"):
        for node, state in states.items():
            has_room = fleet.fits(node, portfolio.weight) and fleet.hosting[node]
            if state == code and has_room and not fleet.is_flapping(fleet.nodes[node]):
                return {"remedy": code, "remedy_node": fleet.nodes[node].name}
    for code in ("flapping", "spread"):
        if code in states.values():
            return {"remedy": code, "remedy_node": ""}
    return {"remedy": "more", "remedy_node": ""}
