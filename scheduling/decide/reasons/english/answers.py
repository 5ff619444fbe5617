"""What an operator is told about one node, or about one portfolio."""

from __future__ import annotations

from scheduling.decide.reasons.english.parts import artifact_python, count, load, python
from scheduling.decide.reasons.figures import Params, Sentence, number


def on_node(p: Params) -> str:
    """Return whether one node takes a portfolio, and if not, why: `node-2 lacks gpu=yes`."""
    node = p["node"]
    match p["state"]:
        case "lost":
            return f"{node} is lost"
        case "left":
            return f"{node} has left"
        case "selector":
            return f"{node} lacks {p['selector']}"
        case "strategy":
            return f"{node} lacks strategy {p['strategy']}"
        case "feed":
            return f"{node} lacks feed {p['feed']} with sha256 {p['feed_sha']}…"
        case "python":
            return (
                f"{node} has Python {p['node_python']}, but the portfolio last ran under "
                f"{python(p)}: allow another version with accept_python"
            )
        case "artifact":
            return (
                f"{node} has Python {p['node_python']}, but the portfolio needs "
                f"{artifact_python(p)}"
            )
        case "draining":
            return f"{node} is draining: it takes no new portfolios"
        case "cordoned":
            return f"{node} is cordoned: it takes no new portfolios"
        case "flapping":
            wait = f"it can be chosen again in {number(round(p['wait_s']))} s"
            return f"{node} was lost repeatedly: {wait}"
        case "spread":
            return f"{node} runs another member of spread group {p['group']}"
        case "full":
            return (
                f"{node} is full: load {number(p['load'])} of {number(p['capacity'])}, "
                f"the portfolio needs {number(p['weight'])}"
            )
        case "failed_there":
            return f"it failed to start on {node} twice"
        case "same_node":
            return f"it already runs on {node}"
        case "suspect":
            return f"{node} is suspect: a heartbeat is missing"
        case "fits":
            loads = load(p["load"], p["load"] + p["weight"], p["capacity"])
            return f"{node} can take it: load {loads}"
    return f"{node} is busy with other handoffs"


def _why_older_revision(p: Params) -> str:
    if p.get("artifact"):
        return (
            f"runs {p['running']}: {p['node']} has Python {p['node_python']}, the wanted "
            f"{p['wanted']} needs {artifact_python(p)}, and {number(p['having'])} of "
            f"{count(p['nodes'], 'node')} can run it; migrate it to such a node"
        )
    have = "has" if p["having"] == 1 else "have"
    return (
        f"runs {p['running']}: {p['node']} lacks strategy {p['strategy']}, which the wanted "
        f"{p['wanted']} needs, and {number(p['having'])} of {count(p['nodes'], 'node')} {have} it; "
        f"install it on {p['node']}"
    )


SENTENCES: dict[str, Sentence] = {
    "on_node": on_node,
    "would_place": lambda p: (
        f"would be placed on {p['node']}: "
        f"load {load(p['load_before'], p['load_after'], p['capacity'])}"
    ),
    "would_wait": lambda p: "would be pending",
    "in_handoff": lambda p: "is in a handoff already; wait until it has ended",
    "needs_start": lambda p: "does not run: it is stopped, halted or quarantined; start it first",
    "symbol_in_use": lambda p: (
        f"runs {p['running']} until positions are closed: it holds or has ordered "
        f"{', '.join(p['symbols'])}, which the wanted {p['wanted']} lacks"
    ),
    "older_revision": _why_older_revision,
}
