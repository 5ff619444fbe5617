"""Sentences on the outcome of an action, as commands and admin show them."""

from __future__ import annotations

from typing import Any

from scheduling.models import Handoff


def handoff_sentence(handoff: Handoff) -> str:
    """Return one line about a handoff: what, from where to where, how far, and its pause."""
    route = " → ".join(str(node) for node in (handoff.source_node, handoff.target_node) if node)
    pause = "" if handoff.pause_ms is None else f", pause {handoff.pause_ms:.0f} ms"
    where = f" ({route})" if route else ""
    return f"{handoff.kind} of {handoff.portfolio}{where}: {handoff.state}{pause} [{handoff.pk}]"


def start_sentence(name: str, handoff: Handoff | None) -> str:
    """Return the outcome of a start: its handoff, or that the portfolio is pending."""
    if handoff is None:
        return f"{name} is pending: the balancer places it at its next pass."
    return handoff_sentence(handoff)


def revoked_sentence(revoked: int, name: str) -> str:
    """Return the outcome for the person who asked for it."""
    what = "1 token of {0} is" if revoked == 1 else "{1} tokens of {0} are"
    return f"{what.format(name, revoked)} revoked."


def held_sentence(storm: dict[str, Any]) -> str:
    """Return since when failover is held, by whom, until when and why."""
    until = f"until {storm['until']}" if storm["until"] else "until a person releases it"
    by = f" by {storm['by']}" if storm["by"] else ""
    reason = f": {storm['reason']}" if storm["reason"] else ""
    lost = f"; {len(storm['nodes'])} of {storm['of_nodes']} nodes were lost at once"
    return (
        f"Failover is held since {storm['at']}{by} {until}{reason}{lost if storm['nodes'] else ''}."
    )
