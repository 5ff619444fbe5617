"""Dialogs of operator actions: the consequence from the registry, then what it means right now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from scheduling.observe.localized_reason import localized_reason
from scheduling.operations.registry import (
    fleet_actions,
    node_actions,
    portfolio_actions,
    roll_out_actions,
)
from scheduling.operations.registry.operation import Operation
from scheduling.presentation.formatting import because, joined, span, whole
from scheduling.presentation.shell_command import shell_line

if TYPE_CHECKING:
    from scheduling.observe.fleet_view.types import FleetView, PortfolioView
    from scheduling.observe.halts import HaltView
    from scheduling.observe.roll_outs import RollOutView

MAX_NAMED_SYMBOLS = 8  #: of those that a portfolio holds; the rest is counted

Lines = list[tuple[str, str]]  #: (short heading, sentence)


def _by_verb(*operations: Operation) -> dict[str, Operation]:
    return {operation.verb: operation for operation in operations}


NODE_ACTIONS = _by_verb(
    node_actions.UNDRAIN, node_actions.CORDON, node_actions.UNCORDON, node_actions.FORGET_NODE
)
PORTFOLIO_ACTIONS = _by_verb(
    portfolio_actions.START,
    portfolio_actions.STOP,
    portfolio_actions.RELOAD,
    portfolio_actions.VERIFY,
    portfolio_actions.UNPIN,
    portfolio_actions.DELETE,
)
FLEET_ACTIONS = _by_verb(
    fleet_actions.FREEZE,
    fleet_actions.UNFREEZE,
    fleet_actions.RELEASE_STORM,
    fleet_actions.HOLD_STORM,
)
ROLL_OUT_ACTIONS = _by_verb(roll_out_actions.STOP_ROLL_OUT, roll_out_actions.RETURN_ROLL_OUT)


def _offline_operations() -> dict[str, Operation]:
    """Return the operations that have a shell line for the time when the server is away.

    Keys are addresses of their forms, without the name of the node or portfolio.
    """
    by_kind = {"portfolios": PORTFOLIO_ACTIONS, "nodes": NODE_ACTIONS, "fleet": FLEET_ACTIONS}
    found = {
        f"{kind}/{verb}": operation
        for kind, operations in by_kind.items()
        for verb, operation in operations.items()
    }
    return found | {
        "portfolios/migrate": portfolio_actions.MIGRATE,
        "migrate": portfolio_actions.MIGRATE_SEVERAL,
        "portfolios/edit": portfolio_actions.EDIT,
        "nodes/drain": node_actions.DRAIN,
        "halt": fleet_actions.HALT_ALL,
        "halts/undo": fleet_actions.UNDO_HALT,
    }


def offline_help() -> dict[str, Any]:
    """Return what the page's script needs while the server is away.

    `shell` and `commands`: the shell line that does the same as a form. `repeatable`: the forms
    that the script may send again without asking.
    """
    operations = _offline_operations()
    return {
        "shell": shell_line(),
        # Not for an edit: its command does nothing until fields are added to it.
        "commands": {
            key: operation.command
            for key, operation in operations.items()
            if operation.command and operation is not portfolio_actions.EDIT
        },
        "repeatable": [key for key, operation in operations.items() if operation.repeatable],
    }


def dialog_lines(operation: Operation, subject: Any, board: FleetView) -> Lines:
    """Return the consequence of the operation, then what it means for `subject` right now."""
    preview = _PREVIEWS.get(operation)
    now = preview(subject, board) if preview else []
    return [(_("Effect"), _(operation.consequence)), *now]


def lost_portfolios(board: FleetView) -> list[str]:
    """Return the names of portfolios whose node is lost."""
    lost = {node.name for node in board.nodes if node.status == "lost"}
    return [p.name for p in board.portfolios if p.node in lost]


def _preview_start(p: PortfolioView, board: FleetView) -> Lines:
    """Return where the portfolio goes on, what it does with late events, why it was quarantined."""
    behind = max(p.feed_head - (p.last_seq or 0), 0)
    age = _("%(time)s of the feed") % {"time": span(behind / p.feed_rate)} if p.feed_rate else ""
    decisions = {
        "full": _("It decides on all of them."),
        "state_only": _("It updates its state; decisions on stale events are suppressed."),
        "halt": _("It stops again before the first stale event."),
    }
    events = ngettext("%(number)s event waiting", "%(number)s events waiting", behind)
    waiting = joined([events % {"number": whole(behind)}, age])
    start = f"seq {whole(p.last_seq)}{_(': ')}{waiting}{_('.')}"
    lines = [(_("From"), f"{start} {decisions.get(p.catch_up, '')}")]
    if p.phase == "quarantined":
        why = because(_("Attempts are counted from 0. It was quarantined"), localized_reason(p))
        lines.append((_("Again"), why))
    return lines


def _owner_line(p: PortfolioView) -> tuple[str, str]:
    names = {"name": p.name, "node": p.node}
    text = _("%(name)s runs on %(node)s.") if p.node else _("No node runs %(name)s.")
    return _("Now"), text % names


def _preview_stop(p: PortfolioView, board: FleetView) -> Lines:
    text = _("After a start it catches up on the events it missed (catch-up %(catch_up)s).")
    return [_owner_line(p), (_("Back"), text % {"catch_up": p.catch_up})]


def _preview_delete(p: PortfolioView, board: FleetView) -> Lines:
    held = [row["symbol"] for row in (p.account or {}).get("positions") or []]
    lines = [_owner_line(p)]
    if held:
        left_out = len(held) - MAX_NAMED_SYMBOLS
        more = _(" and %(more)s more") % {"more": left_out} if left_out > 0 else ""
        text = _("It holds %(symbols)s; positions are not closed, only recorded.")
        lines.append((_("Holds"), text % {"symbols": joined(held[:MAX_NAMED_SYMBOLS]) + more}))
    return lines


def _preview_reload(p: PortfolioView, board: FleetView) -> Lines:
    if p.node is None:
        text = _("No node runs it. Revision %(number)s is used when it is placed.")
        return [(_("Now"), text % {"number": p.revision})]
    figures = {
        "node": p.node,
        "number": p.running_revision or p.revision,
        "epoch": p.epoch,
        "next": p.epoch + 1,
    }
    now = _("%(node)s runs revision %(number)s; the epoch goes from %(epoch)s to %(next)s.")
    then = _("The chosen revision is the wanted one, also after a restart or a move.")
    return [(_("Now"), now % figures), (_("Then"), then)]


def _preview_unpin(p: PortfolioView, board: FleetView) -> Lines:
    if not p.pinned_node:
        return []
    return [(_("Now"), _("It is pinned to %(node)s.") % {"node": p.pinned_node})]


def _preview_verify(p: PortfolioView, board: FleetView) -> Lines:
    done = max((p.last_seq or 0) - p.first_seq + 1, 0)
    text = ngettext(
        "It has processed %(number)s event of the log.",
        "It has processed %(number)s events of the log.",
        done,
    )
    then = _(
        "Its page shows that the result is identical to what is stored, or the first difference."
    )
    return [(_("Now"), text % {"number": whole(done)}), (_("Then"), then)]


def _preview_release_storm(subject: None, board: FleetView) -> Lines:
    names = lost_portfolios(board)
    if not names:
        return [(_("Now"), _("No portfolio waits, so nothing moves."))]
    text = ngettext(
        "%(number)s portfolio on lost nodes.", "%(number)s portfolios on lost nodes.", len(names)
    )
    return [(_("Now"), text % {"number": whole(len(names))})]


def _preview_stop_roll_out(roll_out: RollOutView, board: FleetView) -> Lines:
    waiting = roll_out.counts.get("waiting", 0)
    at_work = roll_out.counts.get("changing", 0) + roll_out.counts.get("proving", 0)
    text = ngettext(
        "%(waiting)s portfolio is not reached; %(changing)s being changed go on.",
        "%(waiting)s portfolios are not reached; %(changing)s being changed go on.",
        waiting,
    )
    return [(_("Now"), text % {"waiting": whole(waiting), "changing": whole(at_work)})]


def _preview_return_roll_out(roll_out: RollOutView, board: FleetView) -> Lines:
    text = ngettext(
        "The roll-out has changed %(number)s portfolio.",
        "The roll-out has changed %(number)s portfolios.",
        roll_out.changed,
    )
    state = _("The earlier revision continues from the state that the newer one leaves.")
    return [(_("Now"), text % {"number": whole(roll_out.changed)}), (_("State"), state)]


def _preview_undo_halt(halt: HaltView, board: FleetView) -> Lines:
    text = ngettext(
        "The halt still keeps %(number)s portfolio stopped.",
        "The halt still keeps %(number)s portfolios stopped.",
        halt.waiting,
    )
    return [(_("Now"), text % {"number": whole(halt.waiting)})]


#: Operation → the function that says what it means for its subject right now.
_PREVIEWS: dict[Operation, Callable[[Any, FleetView], Lines]] = {
    portfolio_actions.START: _preview_start,
    portfolio_actions.STOP: _preview_stop,
    portfolio_actions.DELETE: _preview_delete,
    portfolio_actions.RELOAD: _preview_reload,
    portfolio_actions.UNPIN: _preview_unpin,
    portfolio_actions.VERIFY: _preview_verify,
    fleet_actions.RELEASE_STORM: _preview_release_storm,
    fleet_actions.UNDO_HALT: _preview_undo_halt,
    roll_out_actions.STOP_ROLL_OUT: _preview_stop_roll_out,
    roll_out_actions.RETURN_ROLL_OUT: _preview_return_roll_out,
}
