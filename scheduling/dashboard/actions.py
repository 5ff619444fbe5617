"""Dialogs of operator actions: the consequence from the registry, then what it means right now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext

from scheduling.operations import registry
from scheduling.operations.registry import Operation
from scheduling.presentation.formatting import counted, span, whole
from scheduling.presentation.shell_command import shell_line

if TYPE_CHECKING:
    from scheduling.observe.fleet_view import FleetView, PortfolioView
    from scheduling.observe.halts import HaltView
    from scheduling.observe.roll_outs import RollOutView

Lines = list[tuple[str, str]]  #: (short heading, sentence)


def _by_verb(*operations: Operation) -> dict[str, Operation]:
    return {operation.verb: operation for operation in operations}


NODE_ACTIONS = _by_verb(registry.UNDRAIN, registry.CORDON, registry.UNCORDON, registry.FORGET_NODE)
PORTFOLIO_ACTIONS = _by_verb(
    registry.START, registry.STOP, registry.RELOAD, registry.VERIFY, registry.UNPIN, registry.DELETE
)
FLEET_ACTIONS = _by_verb(
    registry.FREEZE, registry.UNFREEZE, registry.RELEASE_STORM, registry.HOLD_STORM
)
ROLL_OUT_ACTIONS = _by_verb(registry.STOP_ROLL_OUT, registry.RETURN_ROLL_OUT)


def _offline_operations() -> dict[str, Operation]:
    """Return the operations whose forms have an address, by that address without the name."""
    by_kind = {"portfolios": PORTFOLIO_ACTIONS, "nodes": NODE_ACTIONS, "fleet": FLEET_ACTIONS}
    found = {
        f"{kind}/{verb}": operation
        for kind, operations in by_kind.items()
        for verb, operation in operations.items()
    }
    return found | {
        "portfolios/migrate": registry.MIGRATE,
        "portfolios/edit": registry.EDIT,
        "nodes/drain": registry.DRAIN,
        "halt": registry.HALT_ALL,
        "halts/undo": registry.UNDO_HALT,
    }


def offline_help() -> dict[str, Any]:
    """Return what the page's script needs while the server is away: for each form the shell command
    that does the same, and which forms may be sent again by themselves."""
    operations = _offline_operations()
    return {
        "shell": shell_line(),
        # A command that changes fields does nothing as pasted.
        "commands": {
            key: o.command for key, o in operations.items() if o.command and o is not registry.EDIT
        },
        "repeatable": [key for key, o in operations.items() if o.repeatable],
    }


def dialog_lines(operation: Operation, subject: Any, board: FleetView) -> Lines:
    """Return the consequence of the operation, and how it applies to `subject` right now."""
    preview = _PREVIEWS.get(operation)
    now = preview(subject, board) if preview else []
    return [(gettext("Effect"), gettext(operation.consequence)), *now]


def lost_portfolios(board: FleetView) -> list[str]:
    """Return the names of portfolios whose node is lost."""
    lost = {node.name for node in board.nodes if node.status == "lost"}
    return [p.name for p in board.portfolios if p.node in lost]


def _preview_start(p: PortfolioView, board: FleetView) -> Lines:
    behind = max(p.feed_head - (p.last_seq or 0), 0)
    age = f", {span(behind / p.feed_rate)} of the feed" if p.feed_rate else ""
    decisions = {
        "full": "It decides on all of them.",
        "state_only": "It updates its state; decisions on stale events are suppressed.",
        "halt": "It stops again before the first stale event.",
    }
    waiting = f"seq {whole(p.last_seq)}: {counted(behind, 'event')} waiting{age}."
    lines = [("From", f"{waiting} {decisions.get(p.catch_up, '')}")]
    if p.phase == "quarantined":
        lines.append(("Again", f"Attempts are counted from 0. It was quarantined: {p.reason}"))
    return lines


def _preview_stop(p: PortfolioView, board: FleetView) -> Lines:
    return [
        ("Now", f"{p.name} runs on {p.node}." if p.node else f"No node runs {p.name}."),
        ("Back", f"After a start it catches up on the events it missed (catch-up {p.catch_up})."),
    ]


def _preview_delete(p: PortfolioView, board: FleetView) -> Lines:
    held = [row["symbol"] for row in (p.account or {}).get("positions") or []]
    lines = [("Now", f"{p.name} runs on {p.node}." if p.node else f"No node runs {p.name}.")]
    if held:
        shown = ", ".join(held[:8]) + (f" and {len(held) - 8} more" if len(held) > 8 else "")
        lines.append(("Holds", f"It holds {shown}; positions are not closed, only recorded."))
    return lines


def _preview_reload(p: PortfolioView, board: FleetView) -> Lines:
    if p.node is None:
        return [("Now", f"No node runs it. Revision {p.revision} is used when it is placed.")]
    running = p.running_revision or p.revision
    return [
        (
            "Now",
            f"{p.node} runs revision {running}; the epoch goes from {p.epoch} to {p.epoch + 1}.",
        ),
        ("Then", "The chosen revision is the wanted one, also after a restart or a move."),
    ]


def _preview_unpin(p: PortfolioView, board: FleetView) -> Lines:
    return [("Now", f"It is pinned to {p.pinned_node}.")] if p.pinned_node else []


def _preview_verify(p: PortfolioView, board: FleetView) -> Lines:
    done = max((p.last_seq or 0) - p.first_seq + 1, 0)
    return [
        ("Now", f"It has processed {counted(done, 'event')} of the log."),
        ("Then", "Its page shows that both are identical, or the first difference."),
    ]


def _preview_release_storm(_: None, board: FleetView) -> Lines:
    names = lost_portfolios(board)
    return [("Now", f"{counted(len(names), 'portfolio')} on lost nodes." if names else
             "No portfolio waits, so nothing moves.")]  # fmt: skip


def _preview_stop_roll_out(roll_out: RollOutView, board: FleetView) -> Lines:
    waiting = roll_out.counts.get("waiting", 0)
    at_work = roll_out.counts.get("changing", 0)
    return [
        ("Now", f"{counted(waiting, 'portfolio')} would not be reached; "
                f"{at_work} being changed would go on."),
    ]  # fmt: skip


def _preview_return_roll_out(roll_out: RollOutView, board: FleetView) -> Lines:
    return [
        ("Now", f"The roll-out has changed {counted(roll_out.changed, 'portfolio')}."),
        ("State", "The earlier revision continues from the state that the newer one leaves."),
    ]


def _preview_undo_halt(line: HaltView, board: FleetView) -> Lines:
    return [("Now", f"The halt still keeps {counted(line.waiting, 'portfolio')} stopped.")]


#: How the operation applies to its subject right now.
_PREVIEWS: dict[Operation, Callable[[Any, FleetView], Lines]] = {
    registry.START: _preview_start,
    registry.STOP: _preview_stop,
    registry.DELETE: _preview_delete,
    registry.RELOAD: _preview_reload,
    registry.UNPIN: _preview_unpin,
    registry.VERIFY: _preview_verify,
    registry.RELEASE_STORM: _preview_release_storm,
    registry.UNDO_HALT: _preview_undo_halt,
    registry.STOP_ROLL_OUT: _preview_stop_roll_out,
    registry.RETURN_ROLL_OUT: _preview_return_roll_out,
}
