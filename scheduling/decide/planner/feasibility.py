"""What stands between a portfolio and a node, and between a portfolio and every node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from scheduling.decide.planner.fleet_state import FleetState, lacks
from scheduling.decide.types import (
    NodeView,
    PortfolioView,
    Reason,
    Requirements,
    may_continue_under,
)

#: So many nodes are named in a sentence; of the others only how many are in which state.
MAX_NAMED_NODES = 6


def obstacle(fleet: FleetState, portfolio: PortfolioView, node: int) -> str | None:
    """Return the code of the first hard rule that keeps the portfolio off the node, or None."""
    view = fleet.nodes[node]
    missing = lacks(view, portfolio.requirements)
    checks = (
        ("lost", not fleet.hosting[node] and view.status != "left"),
        ("left", view.status == "left"),
        ("selector", missing.selector),
        ("strategy", missing.strategy),
        ("feed", missing.feed),
        ("python", missing.python),
        ("draining", view.draining),
        ("cordoned", view.cordoned),
        ("spread", portfolio.spread_hard and node in fleet.spread_members(portfolio)),
        ("full", not fleet.fits(node, portfolio.weight)),
    )
    return next((code for code, applies in checks if applies), None)


def automatic_obstacle(fleet: FleetState, portfolio: PortfolioView, node: int) -> str | None:
    """Return the same for a choice that no person made: a flapping node is out too."""
    found = obstacle(fleet, portfolio, node)
    return "flapping" if found is None and fleet.is_flapping(fleet.nodes[node]) else found


def why_unplaced(fleet: FleetState, portfolio: PortfolioView, source: int | None = None) -> Reason:
    """Return why no node takes the portfolio: the narrowest thing that no node has, else no room.

    `source` is where it runs and should leave; that node is not asked. Looks at every node once.
    """
    need = portfolio.requirements
    numbers = [
        node for node, view in enumerate(fleet.nodes) if view.status != "left" and node != source
    ]
    base = {
        "weight": portfolio.weight,
        **describe_requirements(need),
        "nodes": len(numbers),
        "other": source is not None,
    }
    if not numbers:
        return Reason("no_other_node" if source is not None else "no_nodes", base)
    if not any(fleet.hosting[node] for node in numbers):
        return Reason("no_live_node", base)
    missing = [lacks(fleet.nodes[node], need) for node in numbers]
    for code, at in (("no_selector", 0), ("no_strategy", 1), ("no_feed", 2)):
        if all(lack[at] for lack in missing):
            return Reason(code, base)
    living = [node for node in numbers if fleet.hosting[node]]
    if not any(
        may_continue_under(need.python, need.accept_python, fleet.nodes[n].python) for n in living
    ):
        # A lost node that has it, as its last owner, is no help.
        found = sorted({fleet.nodes[node].python for node in living})
        return Reason("no_python", {**base, "nodes": len(living), "found": found})
    suitable = [node for node, lack in zip(numbers, missing, strict=True) if not any(lack)]
    if not suitable:
        return Reason("no_match", base)
    base["nodes"] = len(suitable)
    largest = max(fleet.capacity[node] for node in suitable)
    if portfolio.weight > largest:
        return Reason("too_heavy", {**base, "largest": largest})
    states = [(node, automatic_obstacle(fleet, portfolio, node) or "busy") for node in suitable]
    return Reason(
        "no_room",
        {
            **base,
            "states": [_state(fleet, node, code) for node, code in states[:MAX_NAMED_NODES]],
            "more": dict(sorted(Counter(code for _, code in states[MAX_NAMED_NODES:]).items())),
            "group": portfolio.spread_group or "",
            **_remedy(fleet, portfolio, dict(states)),
        },
    )


def why_pin_waits(fleet: FleetState, portfolio: PortfolioView, node: int) -> Reason:
    """Return why a portfolio cannot go to the node it is pinned to."""
    view = fleet.nodes[node]
    code = automatic_obstacle(fleet, portfolio, node)
    if code is None and view.id in portfolio.failed_nodes:
        code = "failed_there"
    return Reason("pin_waits", {"state": node_state(fleet, portfolio, node, code or "busy")})


def node_state(
    fleet: FleetState, portfolio: PortfolioView, node: int, code: str
) -> dict[str, object]:
    """Return one node's obstacle as the parameters of a sentence."""
    return {
        **_state(fleet, node, code),
        **describe_requirements(portfolio.requirements),
        "weight": portfolio.weight,
        "group": portfolio.spread_group or "",
    }


def describe_requirements(need: Requirements) -> dict[str, object]:
    """Return a need in the words of a sentence."""
    return {
        "selector": ", ".join(f"{key}={value}" for key, value in need.selector),
        "strategy": f"{need.strategy} {need.strategy_version}" if need.strategy else "",
        "feed": need.feed,
        "feed_sha": need.feed_sha[:8],
        "python": need.python,
        "accept_python": need.accept_python,
    }


def _state(fleet: FleetState, node: int, code: str) -> dict[str, object]:
    view = fleet.nodes[node]
    return {
        "node": view.name,
        "state": code,
        "load": fleet.held[node],
        "capacity": view.capacity,
        "wait_s": _wait_s(fleet, view),
        "node_python": view.python,
    }


def _wait_s(fleet: FleetState, view: NodeView) -> float:
    return max(0.0, view.flapping_until - fleet.now) if view.flapping_until is not None else 0.0


def _remedy(
    fleet: FleetState, portfolio: PortfolioView, states: Mapping[int, str]
) -> dict[str, object]:
    """Return what would help: the smallest act that makes room, else a new node."""
    for code in ("cordoned", "draining"):
        for node, state in states.items():
            roomy = fleet.fits(node, portfolio.weight) and fleet.hosting[node]
            if state == code and roomy and not fleet.is_flapping(fleet.nodes[node]):
                return {"remedy": code, "remedy_node": fleet.nodes[node].name}
    for code in ("flapping", "spread"):
        if code in states.values():
            return {"remedy": code, "remedy_node": ""}
    return {"remedy": "more", "remedy_node": ""}
