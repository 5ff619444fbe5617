"""Why no node takes a portfolio."""

from __future__ import annotations

from scheduling.decide.reasons.english.parts import artifact_python, count, python
from scheduling.decide.reasons.figures import Params, Sentence, number


def _needs(p: Params) -> str:
    """Return `gpu=yes and strategy sma_cross 1`, or an empty string."""
    parts = (
        p["selector"],
        f"strategy {p['strategy']}" if p["strategy"] else "",
        f"feed {p['feed']}" if p["feed"] else "",
        python(p),
        artifact_python(p),
    )
    return " and ".join(part for part in parts if part)


def _places(p: Params) -> str:
    """Return `2 places`."""
    return count(p["weight"], "place")


def _nodes(p: Params) -> str:
    """Return `3 nodes`, or `2 other nodes` for a portfolio that runs and should leave its node."""
    return count(p["nodes"], "other node" if p["other"] else "node")


def _none_has(p: Params) -> str:
    """Return `0 of 3 nodes have it`."""
    have = "has" if p["nodes"] == 1 else "have"
    return f"0 of {_nodes(p)} {have} it"


def _why_no_live_node(p: Params) -> str:
    alive = "is alive" if p["nodes"] == 1 else "are alive"
    return f"needs {_places(p)}: 0 of {_nodes(p)} {alive}; start one again or add one"


def _why_too_heavy(p: Params) -> str:
    where = f" with {p['selector']}" if p["selector"] else ""
    return (
        f"needs {_places(p)} on one node: the largest of "
        f"{_nodes(p)}{where} has {number(p['largest'])}; "
        "raise a node's capacity or lower the weight"
    )


def _why_no_room(p: Params) -> str:
    states = ", ".join(
        f"{state['node']} {_short_state(state, p['group'])}" for state in p["states"]
    )
    if p["more"]:
        rest = ", ".join(f"{number(n)} {code}" for code, n in p["more"].items())
        states = f"{states} and {number(sum(p['more'].values()))} more ({rest})"
    where = f" with {p['selector']}" if p["selector"] else ""
    return f"needs {_places(p)}: no room on {_nodes(p)}{where}: {states}; {_remedy(p)}"


def _short_state(state: Params, group: str) -> str:
    """Return `8 of 8`, `draining`, `runs another member of alpha`."""
    match state["state"]:
        case "full":
            return f"{number(state['load'])} of {number(state['capacity'])}"
        case "spread":
            return f"runs another member of {group}"
    return str(state["state"])


def _remedy(p: Params) -> str:
    match p["remedy"]:
        case "cordoned":
            return f"uncordon {p['remedy_node']} or add a node"
        case "draining":
            return f"undo the drain of {p['remedy_node']} or add a node"
        case "flapping":
            return "wait until the flapping node is stable or add a node"
        case "spread":
            return "add a node or make the spread group soft"
    return "add a node, raise a capacity or stop a portfolio"


SENTENCES: dict[str, Sentence] = {
    "no_nodes": lambda p: f"needs {_places(p)}: there is no node yet; start one with run_node",
    "no_other_node": lambda p: f"needs {_places(p)} elsewhere: there is no other node; add one",
    "no_live_node": _why_no_live_node,
    "no_selector": lambda p: (
        f"needs {p['selector']}: {_none_has(p)}; add the label to one node or drop the selector"
    ),
    "no_strategy": lambda p: (
        f"needs strategy {p['strategy']}: {_none_has(p)}; "
        "install it on one node or change the portfolio's strategy"
    ),
    "no_feed": lambda p: (
        f"needs feed {p['feed']} with sha256 {p['feed_sha']}…: {_none_has(p)}; "
        "install the same data on one node"
    ),
    "no_python": lambda p: (
        f"last ran under {python(p)}: {_none_has(p)}, found Python {', '.join(p['found'])}; "
        "start a node with it, or allow another version with accept_python"
    ),
    "no_artifact_python": lambda p: (
        f"needs {artifact_python(p)}: {_none_has(p)}, found Python {', '.join(p['found'])}; "
        "start a node with it, or build the artifact for one of these"
    ),
    "no_match": lambda p: (
        f"needs {_needs(p)}: 0 of {_nodes(p)} have all of it; "
        "install what is missing on one node or reduce the requirements"
    ),
    "too_heavy": _why_too_heavy,
    "no_room": _why_no_room,
}
