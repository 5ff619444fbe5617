"""What the dialogs of operator actions say, and the shell lines that do the same as a form."""

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

MAX_NAMED_SYMBOLS = 8  #: held symbols that a dialog names; the others are counted

HeadedLines = list[tuple[str, str]]  #: (short heading, sentence)


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
    """Return form → operation, for the forms that a page helps with while the server is away.

    It shows the shell line that does the same, or sends the form again. The key is the form's
    address without the name of the node or portfolio: `portfolios/stop`, `halt`.
    """
    by_kind = {"portfolios": PORTFOLIO_ACTIONS, "nodes": NODE_ACTIONS, "fleet": FLEET_ACTIONS}
    by_form = {
        f"{kind}/{verb}": operation
        for kind, operations in by_kind.items()
        for verb, operation in operations.items()
    }
    return by_form | {
        "portfolios/migrate": portfolio_actions.MIGRATE,
        "migrate": portfolio_actions.MIGRATE_SEVERAL,
        "portfolios/edit": portfolio_actions.EDIT,
        "nodes/drain": node_actions.DRAIN,
        "halt": fleet_actions.HALT_ALL,
        "halts/undo": fleet_actions.UNDO_HALT,
    }


def offline_help() -> dict[str, Any]:
    """Return what the page's script (`away.js`) needs while the server is away.

    `shell`: the beginning of every shell line. `commands`: form → the command that does the same.
    `repeatable`: the forms that the script may send again without asking.
    """
    operations = _offline_operations()
    return {
        "shell": shell_line(),
        # Not for an edit: its command does nothing until fields are added to it.
        "commands": {
            form: operation.command
            for form, operation in operations.items()
            if operation.command and operation is not portfolio_actions.EDIT
        },
        "repeatable": [form for form, operation in operations.items() if operation.repeatable],
    }


def dialog_lines(operation: Operation, subject: Any, board: FleetView) -> HeadedLines:
    """Return the consequence of the operation, then what it means for `subject` right now."""
    preview = _PREVIEWS.get(operation)
    now = preview(subject, board) if preview else []
    return [(_("Effect"), _(operation.consequence)), *now]


def _preview_start(portfolio: PortfolioView, board: FleetView) -> HeadedLines:
    """Return from which event the portfolio goes on, and what it does with those that wait."""
    waiting = max(portfolio.feed_head - portfolio.last_seq, 0)
    by_catch_up = {
        "full": _("It decides on all of them."),
        "state_only": _("It updates its state; decisions on stale events are suppressed."),
        "halt": _("It stops again before the first stale event."),
    }
    events = ngettext("%(number)s event waiting", "%(number)s events waiting", waiting)
    backlog = events % {"number": whole(waiting)}
    if portfolio.feed_rate:
        time = {"time": span(waiting / portfolio.feed_rate)}
        backlog = joined([backlog, _("%(time)s of the feed") % time])
    start = f"seq {whole(portfolio.last_seq)}{_(': ')}{backlog}{_('.')}"
    lines = [(_("From"), f"{start} {by_catch_up.get(portfolio.catch_up, '')}")]
    if portfolio.phase == "quarantined":
        why = because(
            _("Attempts are counted from 0. It was quarantined"), localized_reason(portfolio)
        )
        lines.append((_("Again"), why))
    return lines


def _owner_line(portfolio: PortfolioView) -> tuple[str, str]:
    """Return the line that says which node runs the portfolio."""
    names = {"name": portfolio.name, "node": portfolio.node}
    text = _("%(name)s runs on %(node)s.") if portfolio.node else _("No node runs %(name)s.")
    return _("Now"), text % names


def _preview_stop(portfolio: PortfolioView, board: FleetView) -> HeadedLines:
    text = _("After a start it catches up on the events it missed (catch-up %(catch_up)s).")
    return [_owner_line(portfolio), (_("Back"), text % {"catch_up": portfolio.catch_up})]


def _preview_delete(portfolio: PortfolioView, board: FleetView) -> HeadedLines:
    """Return who runs the portfolio, and what it holds."""
    held = [row["symbol"] for row in portfolio.account.get("positions") or []]
    lines = [_owner_line(portfolio)]
    if held:
        left_out = len(held) - MAX_NAMED_SYMBOLS
        more = _(" and %(more)s more") % {"more": left_out} if left_out > 0 else ""
        text = _("It holds %(symbols)s; positions are not closed, only recorded.")
        lines.append((_("Holds"), text % {"symbols": joined(held[:MAX_NAMED_SYMBOLS]) + more}))
    return lines


def _preview_reload(portfolio: PortfolioView, board: FleetView) -> HeadedLines:
    if portfolio.node is None:
        text = _("No node runs it. Revision %(number)s is used when it is placed.")
        return [(_("Now"), text % {"number": portfolio.revision})]
    figures = {
        "node": portfolio.node,
        "number": portfolio.running_revision or portfolio.revision,
        "epoch": portfolio.epoch,
        "next": portfolio.epoch + 1,
    }
    now = _("%(node)s runs revision %(number)s; the epoch goes from %(epoch)s to %(next)s.")
    then = _("The chosen revision is the wanted one, also after a restart or a move.")
    return [(_("Now"), now % figures), (_("Then"), then)]


def _preview_unpin(portfolio: PortfolioView, board: FleetView) -> HeadedLines:
    if not portfolio.pinned_node:
        return []
    return [(_("Now"), _("It is pinned to %(node)s.") % {"node": portfolio.pinned_node})]


def _preview_verify(portfolio: PortfolioView, board: FleetView) -> HeadedLines:
    processed = max(portfolio.last_seq - portfolio.first_seq + 1, 0)
    text = ngettext(
        "It has processed %(number)s event of the log.",
        "It has processed %(number)s events of the log.",
        processed,
    )
    then = _(
        "Its page shows that the result is identical to what is stored, or the first difference."
    )
    return [(_("Now"), text % {"number": whole(processed)}), (_("Then"), then)]


def _preview_release_storm(subject: None, board: FleetView) -> HeadedLines:
    """Return how many portfolios of lost nodes fail over once the hold ends."""
    lost = {node.name for node in board.nodes if node.status == "lost"}
    waiting = sum(portfolio.node in lost for portfolio in board.portfolios)
    if not waiting:
        return [(_("Now"), _("No portfolio waits, so nothing moves."))]
    text = ngettext(
        "%(number)s portfolio on lost nodes.", "%(number)s portfolios on lost nodes.", waiting
    )
    return [(_("Now"), text % {"number": whole(waiting)})]


def _preview_stop_roll_out(roll_out: RollOutView, board: FleetView) -> HeadedLines:
    """Return how many portfolios keep their revision, and how many changes go on."""
    waiting = roll_out.counts.get("waiting", 0)
    under_way = roll_out.counts.get("changing", 0) + roll_out.counts.get("proving", 0)
    text = ngettext(
        "%(waiting)s portfolio is not reached; %(changing)s being changed go on.",
        "%(waiting)s portfolios are not reached; %(changing)s being changed go on.",
        waiting,
    )
    return [(_("Now"), text % {"waiting": whole(waiting), "changing": whole(under_way)})]


def _preview_return_roll_out(roll_out: RollOutView, board: FleetView) -> HeadedLines:
    """Return how many portfolios go back to their earlier revision, and with which state."""
    text = ngettext(
        "The roll-out has changed %(number)s portfolio.",
        "The roll-out has changed %(number)s portfolios.",
        roll_out.changed,
    )
    state_text = _("The earlier revision continues from the state that the newer one leaves.")
    return [(_("Now"), text % {"number": whole(roll_out.changed)}), (_("State"), state_text)]


def _preview_undo_halt(halt: HaltView, board: FleetView) -> HeadedLines:
    text = ngettext(
        "The halt still keeps %(number)s portfolio stopped.",
        "The halt still keeps %(number)s portfolios stopped.",
        halt.waiting,
    )
    return [(_("Now"), text % {"number": whole(halt.waiting)})]


#: Operation → the function that says what it means for its subject right now.
_PREVIEWS: dict[Operation, Callable[[Any, FleetView], HeadedLines]] = {
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
