"""Sentences for screen readers on what changed between two snapshots of the board."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from scheduling.dashboard.board.columns import display_status
from scheduling.dashboard.handoff_steps import kind_text
from scheduling.presentation.formatting import because
from scheduling.presentation.state_words import state_word

if TYPE_CHECKING:
    from scheduling.observe.fleet_view.types import FleetView


def describe_changes(before: FleetView, after: FleetView) -> list[str]:
    """Return sentences on new states of nodes, ended handoffs, and portfolios that stopped."""
    sentences = []
    old_nodes = {node.name: display_status(node) for node in before.nodes}
    for node in after.nodes:
        status = display_status(node)
        if node.name not in old_nodes:
            sentences.append(_("%(name)s joined") % {"name": node.name})
        elif old_nodes[node.name] != status:
            sentences.append(_state_sentence(node.name, status))
    active_before = {handoff.id for handoff in before.handoffs_active}
    for handoff in after.handoffs_recent:
        if handoff.id in active_before:
            # The text of the kind itself says that a handoff has failed.
            done = f" {state_word('done')}" if handoff.state == "done" else ""
            sentences.append(because(handoff.portfolio, kind_text(handoff) + done))
    old_phases = {p.name: p.phase for p in before.portfolios}
    sentences += [
        _state_sentence(p.name, p.phase)
        for p in after.portfolios
        if p.phase in ("pending", "halted", "quarantined") and old_phases.get(p.name) != p.phase
    ]
    return sentences


def _state_sentence(name: str, state: str) -> str:
    """Return the sentence that a node or portfolio is in a state now."""
    return _("%(name)s is %(state)s") % {"name": name, "state": state_word(state)}
