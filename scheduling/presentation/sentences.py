"""Sentences on the outcome of an action, as commands and admin show them."""

from __future__ import annotations

from typing import Any

from django.utils.translation import get_language, gettext, ngettext

from scheduling.decide.reasons import count, is_chinese
from scheduling.models import Handoff, LogLine
from scheduling.observe.localized_reason import localized_text
from scheduling.presentation.formatting import because
from scheduling.presentation.state_words import alert_word


def handoff_sentence(handoff: Handoff) -> str:
    """Return a handoff in one line: `migrate of ibm (node-1 → node-2): done, pause 18 ms [7]`."""
    route = " → ".join(str(node) for node in (handoff.source_node, handoff.target_node) if node)
    pause = "" if handoff.pause_ms is None else f", pause {handoff.pause_ms:.0f} ms"
    nodes = f" ({route})" if route else ""
    return f"{handoff.kind} of {handoff.portfolio}{nodes}: {handoff.state}{pause} [{handoff.pk}]"


def pending_sentence(name: str) -> str:
    """Return the outcome of a start that has begun no handoff."""
    return f"{name} is pending: the next pass places it if a node has room."


def revoked_sentence(revoked: int, name: str) -> str:
    """Return the sentence that says how many tokens of `name` were revoked."""
    return f"{count(revoked, 'token')} of {name} {'is' if revoked == 1 else 'are'} revoked."


def held_sentence(storm: dict[str, Any]) -> str:
    """Return since when failover is held, by whom, until when and why."""
    until = f"until {storm['until']}" if storm["until"] else "until an operator releases it"
    by = f" by {storm['by']}" if storm["by"] else ""
    reason = f": {storm['reason']}" if storm["reason"] else ""
    lost = f"; {len(storm['nodes'])} of {storm['of_nodes']} nodes were lost at once"
    return (
        f"Failover has been held since {storm['at']}{by} {until}{reason}"
        f"{lost if storm['nodes'] else ''}."
    )


def delivered_text(title: str, body: str) -> tuple[str, str]:
    """Return the stored title and body of an alert's message in the active language.

    They are stored in English, the title as "KIND: NAME" or "KIND"; the title of a message that the
    alert has closed begins with "over: ".
    """
    if is_chinese(get_language()):
        has_closed = title.startswith("over: ")
        kind, _, name = title.removeprefix("over: ").partition(": ")
        alert = because(alert_word(kind.replace(" ", "_")), name)
        title = gettext("over: {alert}").format(alert=alert) if has_closed else alert
    return title, localized_text(body)


def log_line_text(line: LogLine) -> str:
    """Return what a line of a portfolio's log says: its text, or how many lines were lost."""
    if not line.lost:
        return line.text
    return ngettext(
        "(%(number)s line was lost here)", "(%(number)s lines were lost here)", line.lost
    ) % {"number": f"{line.lost:,}"}
