"""Why a portfolio is placed or moved."""

from __future__ import annotations

from scheduling.decide.reasons.english.parts import load
from scheduling.decide.reasons.figures import Params, Sentence, number, per_cent


def _why_target(p: Params) -> str:
    """Explain the choice of the target: `node-3 has the lowest load of 2 nodes: 2 → 3 of 5`."""
    loads = load(p["load_before"], p["load_after"], p["capacity"])
    name = p["target"]
    match p["how"]:
        case "pinned":
            return f"pinned to {name}: load {loads}"
        case "prepared":
            return f"{name} has already prepared it: load {loads}"
        case "suspect":
            return f"no alive node has room; {name} is suspect but has room: load {loads}"
        case "failed":
            return (
                f"no other node has room; {name} again, where it failed to start twice: "
                f"load {loads}"
            )
    if p["of"] == 1:
        return f"{name} is the only eligible node: load {loads}"
    return f"{name} has the lowest load of {number(p['of'])} nodes: {loads}"


def _why_placed(p: Params) -> str:
    if p["pinned"]:
        return f"pinned to {p['pinned']}, which cannot take it now; {_why_target(p)}"
    return _why_target(p)


def _why_failed_over(p: Params) -> str:
    if p["source"] is None:
        gone = "its node is no longer known"
    elif p["source_status"] == "left":
        gone = f"{p['source']} has left"
    else:
        gone = f"{p['source']} is lost"
    return f"{gone}; {_why_target(p)}"


def _why_rebalanced_by_cpu(p: Params) -> str:
    source, target, share = p["source_cpu"], p["target_cpu"], p["share"]
    return (
        f"rebalances CPU: {p['source']} {per_cent(source, source - share)}, "
        f"{p['target']} {per_cent(target, target + share)}"
    )


def _source_and_target_loads(p: Params) -> str:
    """Return the loads of source and target, before → after the move."""
    after = p["source_load"] - p["weight"]
    source = load(p["source_load"], after, p["source_capacity"])
    target = load(p["load_before"], p["load_after"], p["capacity"])
    return f"{p['source']} {source}, {p['target']} {target}"


SENTENCES: dict[str, Sentence] = {
    "place": _why_placed,
    "failover": _why_failed_over,
    "drain": lambda p: f"{p['source']} is draining; {_why_target(p)}",
    "pin": _why_target,
    "rebalance": lambda p: f"rebalances load: {_source_and_target_loads(p)}",
    "rebalance_cpu": _why_rebalanced_by_cpu,
    "makes_room": lambda p: f"makes room for {p['for']}: {_source_and_target_loads(p)}",
    "rule_broken": lambda p: f"{p['source']} no longer meets its requirements; {_why_target(p)}",
    "spread": lambda p: (
        f"another member of spread group {p['group']} runs on {p['source']}; {_why_target(p)}"
    ),
}
