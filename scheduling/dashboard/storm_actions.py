"""The two acts of the storm banner, and what their dialogs say first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduling import operations
from scheduling.dashboard.actions import Action, Lines
from scheduling.presentation.formatting import counted

if TYPE_CHECKING:
    from scheduling.observe.fleet_view import FleetView


def waiting(board: FleetView) -> list[str]:
    """Return the names of portfolios whose node is lost."""
    lost = {node.name for node in board.nodes if node.status == "lost"}
    return [p.name for p in board.portfolios if p.node in lost]


def _release_lines(_: None, board: FleetView) -> Lines:
    names = waiting(board)
    now = (
        f"{counted(len(names), 'portfolio')} of lost nodes {'is' if len(names) == 1 else 'are'} "
        "started elsewhere, a few a pass. A node that is only cut off goes on working for nothing: "
        "it cannot commit any more what was given to another."
        if names
        else "No portfolio waits, so nothing moves."
    )
    return [
        ("Now", now),
        ("Better", "Wait where the network is at fault: nodes that beat again keep theirs."),
    ]


def _hold_lines(_: None, board: FleetView) -> Lines:
    return [
        ("Now", "What is on lost nodes runs nowhere and waits, whatever happens to the nodes."),
        ("Goes on", "New portfolios are placed. Stops, moves and what a person asks for are done."),
        ("Until", "a person releases it. It does not end by itself any more."),
    ]


STORM_ACTS = {
    "release-storm": Action(
        "release-storm",
        "Let failover go on now?",
        "Release the hold",
        "manage.py storm --release",
        _release_lines,
        operations.release_storm,
        "Failover goes on.",
        danger=True,
    ),
    "hold-storm": Action(
        "hold-storm",
        "Hold failover until it is released?",
        "Hold failover",
        "manage.py storm --hold",
        _hold_lines,
        operations.hold_storm,
        "Failover is held until somebody releases it.",
        danger=True,
    ),
}
