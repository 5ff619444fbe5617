"""What the command palette finds: pages, nodes, portfolios and actions of operators. Pure.

An action is offered where its form would be: to operators only, and only in a state in which it
does something. Its title is that of the registry, or what its button on a page says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _

from scheduling.dashboard.context import PAGES
from scheduling.observe.fleet_view.types import FleetView, NodeView, PortfolioView
from scheduling.operations.registry import (
    access_actions,
    alert_actions,
    fleet_actions,
    node_actions,
    portfolio_actions,
    roll_out_actions,
)
from scheduling.operations.registry.operation import Operation
from scheduling.presentation.formatting import joined
from scheduling.presentation.state_words import state_word

NAME = "__name__"  #: stands for the name in addresses of the palette, as in templates of the board

MAX_SYMBOLS = 20  #: symbols of a portfolio by which it is found

#: kind, text, detail, address, and `form`: whether the address opens as a dialog.
Entry = dict[str, Any]


def _is_wanted(portfolio: PortfolioView) -> bool:
    """Return whether an operator wants the portfolio to run."""
    return portfolio.desired_state == "running"


def _may_move(portfolio: PortfolioView) -> bool:
    return _is_wanted(portfolio) and portfolio.handoff is None


def _may_start(portfolio: PortfolioView) -> bool:
    return not _is_wanted(portfolio) or portfolio.phase in ("halted", "quarantined")


def _always(_subject: Any) -> bool:
    return True


#: Actions on a portfolio, most frequent first, and when each applies.
PORTFOLIO_ACTIONS: tuple[tuple[Operation, Callable[[PortfolioView], bool]], ...] = (
    (portfolio_actions.MIGRATE, _may_move),
    (portfolio_actions.RELOAD, _may_move),
    (portfolio_actions.EDIT, _always),
    (portfolio_actions.START, _may_start),
    (portfolio_actions.UNPIN, lambda portfolio: portfolio.pinned_node is not None),
    (portfolio_actions.VERIFY, _always),
    (portfolio_actions.STOP, _is_wanted),
    (portfolio_actions.DELETE, _always),
)
NODE_ACTIONS: tuple[tuple[Operation, Callable[[NodeView], bool]], ...] = (
    (node_actions.DRAIN, lambda node: not node.draining and node.status != "left"),
    (node_actions.UNDRAIN, lambda node: node.draining),
    (node_actions.CORDON, lambda node: not node.cordoned and node.status != "left"),
    (node_actions.UNCORDON, lambda node: node.cordoned),
    (node_actions.LABEL_NODE, _always),
    (node_actions.ISSUE_NODE_TOKEN, _always),
    (node_actions.FORGET_NODE, lambda node: node.status in ("lost", "left")),
)


def palette(fleet: FleetView, operator: bool) -> dict[str, Any]:
    """Return `entries` and `groups`: an entry leads to a page, or to an action on the fleet.

    One group has the portfolios, one the nodes. A row has a name, a description, and the positions
    of the actions that apply to it in the `actions` of its group; none for a viewer.
    """
    portfolios = [
        [p.name, _description(p), _allowed_positions(PORTFOLIO_ACTIONS, p) if operator else []]
        for p in fleet.portfolios
    ]
    nodes = [
        [n.name, state_word(n.status), _allowed_positions(NODE_ACTIONS, n) if operator else []]
        for n in fleet.nodes
    ]
    return {
        "entries": [*_pages(operator), *(_fleet_actions(fleet) if operator else [])],
        "groups": [
            _group(_("portfolio"), "portfolio", PORTFOLIO_ACTIONS, portfolios),
            _group(_("node"), "node", NODE_ACTIONS, nodes),
        ],
    }


def _description(portfolio: PortfolioView) -> str:
    where = portfolio.node or state_word(portfolio.phase)
    # A portfolio is found by its symbols too; it may have hundreds, of which a row shows the first.
    symbols = " ".join(portfolio.symbols[:MAX_SYMBOLS])
    return f"{joined([portfolio.strategy, where])} {symbols}".strip()


def _allowed_positions(
    actions: Sequence[tuple[Operation, Callable[[Any], bool]]], subject: Any
) -> list[int]:
    """Return the positions in `actions` of the operations that apply to `subject`."""
    return [at for at, (_operation, applies) in enumerate(actions) if applies(subject)]


def _group(
    kind: str, view_name: str, actions: Sequence[tuple[Operation, Any]], rows: list[list[Any]]
) -> dict[str, Any]:
    """Return a group of `palette`; a script puts the name of a row in place of NAME."""
    address = reverse(view_name, args=[NAME])
    return {
        "kind": kind,
        "address": address,
        "actions": [
            {"text": _(operation.title).format(name=NAME), "address": f"{address}{operation.verb}/"}
            for operation, _applies in actions
        ],
        "rows": rows,
    }


def _pages(operator: bool) -> list[Entry]:
    more = [
        ("incidents", _("Incidents")),
        ("alerts", _("Alerts")),
        ("roll-outs", _("Roll-outs")),
        ("feeds", _("Feeds")),
    ]
    if operator:
        more.append(("people", _("People")))
    labelled = [*((name, str(label)) for name, label, _icon in PAGES), *more]
    return [
        {"kind": _("page"), "text": label, "address": reverse(name), "form": False}
        for name, label in labelled
    ]


def _fleet_actions(fleet: FleetView) -> list[Entry]:
    """Return the actions on the whole fleet, and those that its freeze, hold or halts allow."""
    frozen = fleet_actions.UNFREEZE if fleet.frozen else fleet_actions.FREEZE
    found = [
        _action(portfolio_actions.CREATE, reverse("new-portfolio"), _("a portfolio"), form=False),
        _action(node_actions.ISSUE_NODE_TOKEN, reverse("add-node"), text=_("Add a node")),
        _action(roll_out_actions.ROLL_OUT, reverse("begin-roll-out"), _("an artifact")),
        _action(access_actions.ADD_USER, reverse("add-person"), text=_("Add a person")),
        _action(alert_actions.ADD_ALERT_CHANNEL, reverse("set-channel"), _("a channel")),
        _action(frozen, reverse("fleet-action", args=[frozen.verb])),
    ]
    if fleet.storm:
        prolonging = (fleet_actions.HOLD_STORM,) if fleet.storm.until else ()  # a hold that ends
        for operation in (fleet_actions.RELEASE_STORM, *prolonging):
            found.append(_action(operation, reverse("fleet-action", args=[operation.verb])))
    for halt in fleet.halts:
        found.append(
            _action(fleet_actions.UNDO_HALT, reverse("undo-halt", args=[halt.halt]), str(halt.halt))
        )
    found.append(_action(fleet_actions.HALT_ALL, reverse("halt")))
    return found


def _action(
    operation: Operation, address: str, noun: str = "", form: bool = True, text: str = ""
) -> Entry:
    """Return an entry called `text`, by default the operation's title. `form`: opens a dialog."""
    text = text or operation.summary(noun)
    command = operation.command.partition(" ")[0]  # "halt" finds "Stop every portfolio" too
    return {"kind": _("action"), "text": text, "detail": command, "address": address, "form": form}
