"""Why a node is lost or suspect."""

from __future__ import annotations

from scheduling.decide.reasons.figures import Params, Sentence, clock_time, tenths


def _why_lost(p: Params) -> str:
    """Return why a lease ended. `enact/lease/loss.py` builds the same text in SQL: change both."""
    silent, limit = tenths(p["silent_s"]), tenths(p["limit_s"])
    match p["cause"]:
        case "closed":
            return (
                f"its connection closed {clock_time(p['at'])} and it did not return in "
                f"{tenths(p['grace_s'])} s"
            )
        case "ended":
            return f"its process was found ended at {clock_time(p['at'])}"
        case "unheard":
            unheard = tenths(p["unheard_s"])
            return (
                f"{silent} s without a heartbeat after {unheard} s without an answer, "
                f"limit {limit} s"
            )
    return f"{silent} s without a heartbeat, limit {limit} s"


def _why_suspect(p: Params) -> str:
    if p["closed_at"]:
        return f"its connection closed {clock_time(p['closed_at'])}"
    return f"{tenths(p['silent_s'])} s without a heartbeat, limit {tenths(p['limit_s'])} s"


SENTENCES: dict[str, Sentence] = {
    "lost": _why_lost,
    "suspect": _why_suspect,
    # The text of the alert, as `enact/alerts.py` stores it.
    "node_lost": lambda p: (
        f"{p['node']} is lost since {clock_time(p['since'])}: {_why_lost(p['loss'])}"
    ),
}
