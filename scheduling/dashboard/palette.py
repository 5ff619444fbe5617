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
from scheduling.observe.fleet_view import FleetView, NodeView, PortfolioView
from scheduling.operations import registry
from scheduling.operations.registry import Operation
from scheduling.presentation.formatting import joined
from scheduling.presentation.state_words import state_word

NAME = "__name__"  #: stands for the name in addresses of the palette, as in templates of the board

Entry = dict[str, Any]


def _is_wanted(portfolio: PortfolioView) -> bool:
    return portfolio.desired_state == "running"


def _may_move(portfolio: PortfolioView) -> bool:
    return _is_wanted(portfolio) and portfolio.handoff is None


def _may_start(portfolio: PortfolioView) -> bool:
    return not _is_wanted(portfolio) or portfolio.phase in ("halted", "quarantined")


def _always(_subject: Any) -> bool:
    return True


#: Actions on a portfolio, most frequent first, and when each does something.
PORTFOLIO_ACTIONS: tuple[tuple[Operation, Callable[[PortfolioView], bool]], ...] = (
    (registry.MIGRATE, _may_move),
    (registry.RELOAD, _may_move),
    (registry.EDIT, _always),
    (registry.START, _may_start),
    (registry.UNPIN, lambda portfolio: portfolio.pinned_node is not None),
    (registry.VERIFY, _always),
    (registry.STOP, _is_wanted),
    (registry.DELETE, _always),
)
NODE_ACTIONS: tuple[tuple[Operation, Callable[[NodeView], bool]], ...] = (
    (registry.DRAIN, lambda node: not node.draining and node.status != "left"),
    (registry.UNDRAIN, lambda node: node.draining),
    (registry.CORDON, lambda node: not node.cordoned and node.status != "left"),
    (registry.UNCORDON, lambda node: node.cordoned),
    (registry.LABEL_NODE, _always),
    (registry.ISSUE_NODE_TOKEN, _always),
    (registry.FORGET_NODE, lambda node: node.status in ("lost", "left")),
)


def palette(fleet: FleetView, operator: bool) -> dict[str, Any]:
    """Return the entries without a name, and a group of named ones for portfolios and for nodes.

    A row of a group is a name, what it is, and the positions of the actions that it allows.
    """
    portfolios = [
        [p.name, _described(p), _allowed(PORTFOLIO_ACTIONS, p) if operator else []]
        for p in fleet.portfolios
    ]
    nodes = [
        [n.name, state_word(n.status), _allowed(NODE_ACTIONS, n) if operator else []]
        for n in fleet.nodes
    ]
    return {
        "entries": [*_pages(operator), *(_fleet_actions(fleet) if operator else [])],
        "groups": [
            _group(_("portfolio"), "portfolio", PORTFOLIO_ACTIONS, portfolios),
            _group(_("node"), "node", NODE_ACTIONS, nodes),
        ],
    }


def _described(portfolio: PortfolioView) -> str:
    where = portfolio.node or state_word(portfolio.phase)
    return joined([portfolio.strategy, where])


def _allowed(actions: Sequence[tuple[Operation, Callable[[Any], bool]]], subject: Any) -> list[int]:
    return [at for at, (_operation, applies) in enumerate(actions) if applies(subject)]


def _group(
    kind: str, page: str, actions: Sequence[tuple[Operation, Any]], rows: list[list[Any]]
) -> dict[str, Any]:
    address = reverse(page, args=[NAME])
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
    frozen = registry.UNFREEZE if fleet.frozen else registry.FREEZE
    found = [
        _action(registry.CREATE, reverse("new-portfolio"), _("a portfolio"), form=False),
        _action(registry.ISSUE_NODE_TOKEN, reverse("add-node"), text=_("Add a node")),
        _action(registry.ROLL_OUT, reverse("begin-roll-out"), _("an artifact")),
        _action(registry.ADD_USER, reverse("add-person"), text=_("Add a person")),
        _action(registry.ADD_ALERT_CHANNEL, reverse("set-channel"), _("a channel")),
        _action(frozen, reverse("fleet-action", args=[frozen.verb])),
    ]
    if fleet.storm:
        held = (registry.HOLD_STORM,) if fleet.storm.until else ()
        for operation in (registry.RELEASE_STORM, *held):
            found.append(_action(operation, reverse("fleet-action", args=[operation.verb])))
    for halt in fleet.halts:
        found.append(
            _action(registry.UNDO_HALT, reverse("undo-halt", args=[halt.halt]), str(halt.halt))
        )
    found.append(_action(registry.HALT_ALL, reverse("halt")))
    return found


def _action(
    operation: Operation, address: str, noun: str = "", form: bool = True, text: str = ""
) -> Entry:
    """Return an entry with the title of the operation, or with the words of its button, `text`."""
    text = text or _(operation.title).format(name=noun).strip()
    command = operation.command.partition(" ")[0]  # "halt" finds "Stop every portfolio" too
    return {"kind": _("action"), "text": text, "detail": command, "address": address, "form": form}
