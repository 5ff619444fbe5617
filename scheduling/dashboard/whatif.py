"""What-if page: title and links of a scenario, load bars, and the loss of each node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from scheduling.decide.what_if.hypothetical import Scenario
from scheduling.presentation.formatting import clock, joined, places, whole
from scheduling.presentation.state_words import state_word

if TYPE_CHECKING:
    from scheduling.observe.fleet_view.types import FleetView, LossView, NodeView

BAR_WIDTH = 560.0  #: width of the bar of the largest node
MAX_TICKS = 20  #: above this capacity a bar has no mark per place
MAX_ROWS = 100  #: rows of a table; the others are counted
MAX_CHOICES = 12  #: nodes offered as links; with more nodes the form is used
#: A watcher confirms forecasts every 30 s; older ones may no longer hold.
STALE_AFTER_S = 90.0


def scenario_title(scenario: Scenario) -> str:
    """Describe the scenario, such as `If node-2 and node-5 are lost now`."""
    clauses = []
    if scenario.lose:
        text = ngettext("%(names)s is lost", "%(names)s are lost", len(scenario.lose))
        clauses.append(text % {"names": _join_names(scenario.lose)})
    if scenario.drain:
        text = ngettext("%(names)s is drained", "%(names)s are drained", len(scenario.drain))
        clauses.append(text % {"names": _join_names(scenario.drain)})
    if scenario.add:
        text = ngettext(
            "a node of capacity %(capacities)s is added",
            "nodes of capacity %(capacities)s are added",
            len(scenario.add),
        )
        capacities = _join_names([f"{addition.capacity:,}" for addition in scenario.add])
        clauses.append(text % {"capacities": capacities})
    if not clauses:
        return _("What the next pass would do")
    return _("If %(what)s now") % {"what": _(" and ").join(clauses)}


def _join_names(names: Sequence[str]) -> str:
    """Join names as `a`, `a and b`, or `a, b and c`."""
    *others, last = names
    listed = pgettext("in a list", ", ").join(others)
    return f"{listed}{_(' and ')}{last}" if others else last


def scenario_query(scenario: Scenario, **changes: Any) -> str:
    """Return the query string of the scenario; `changes`: parameter → other values."""
    parts = {
        "lose": scenario.lose,
        "drain": scenario.drain,
        "add": tuple(map(str, scenario.add)),
        **changes,
    }
    pairs = [(name, str(value)) for name, values in parts.items() for value in values]
    return f"?{urlencode(pairs, safe=':,=')}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A link to a changed scenario."""

    label: str
    query: str  #: of the address
    chosen: bool


def kind_choices(scenario: Scenario) -> list[Choice]:
    """Return links that switch between losing and draining the chosen nodes."""
    nodes = (*scenario.lose, *scenario.drain)
    drained = bool(scenario.drain) and not scenario.lose
    return [
        Choice(
            _("is lost"),
            scenario_query(scenario, lose=nodes, drain=()),
            bool(nodes) and not drained,
        ),
        Choice(_("is drained"), scenario_query(scenario, lose=(), drain=nodes), drained),
    ]


def node_choices(scenario: Scenario, fleet: FleetView) -> list[Choice]:
    """Return for each node a link to its loss, or to its drain if the scenario only drains nodes.

    Of many nodes, only the chosen ones have a link.
    """
    chosen = {*scenario.lose, *scenario.drain}
    kind, other = ("drain", "lose") if scenario.drain and not scenario.lose else ("lose", "drain")
    names = [node.name for node in fleet.nodes if node.status != "left"]
    if len(names) > MAX_CHOICES:
        names = [name for name in names if name in chosen]
    return [
        Choice(name, scenario_query(scenario, **{kind: (name,), other: ()}), name in chosen)
        for name in names
    ]


@dataclass(frozen=True, slots=True)
class LoadBar:
    """The load of one node before and after, as rectangles of a box 562 wide and 26 high."""

    node: str
    width: float  #: of the outline, which is the capacity
    before: float  #: width of the load before
    after: float  #: width of the load after
    after_class: str  #: CSS class: after, full or gone
    ticks: tuple[float, ...]  #: x of the mark between two places
    load: str  #: the text beside the bar is `load → then / capacity`
    then: str
    capacity: str
    state: str  #: remarks, such as `full, cordoned`

    @property
    def gone_width(self) -> float:
        """Return the width of the outline shown for a lost node."""
        return round(max(self.width - 2, 0), 1)


def load_bars(document: Mapping[str, Any]) -> list[LoadBar]:
    """Return a bar for each node that has not left.

    Of more than MAX_ROWS nodes, return only those whose load changes, the first MAX_ROWS of them.
    """
    loads = [load for load in document["load"] if load["status"] != "left"]
    if len(loads) > MAX_ROWS:
        loads = [load for load in loads if load["before"] != load["after"]][:MAX_ROWS]
    largest = max((max(one["capacity"], one["before"], one["after"]) for one in loads), default=0)
    place_width = BAR_WIDTH / (largest or 1)
    new = {one["node"] for one in document["add"]}
    return [_load_bar(load, place_width, document, load["node"] in new) for load in loads]


def _load_bar(
    load: Mapping[str, Any], place_width: float, document: Mapping[str, Any], new: bool
) -> LoadBar:
    """Return the bar of a node, `place_width` wide per place. `new`: the scenario adds the node."""
    capacity, lost = load["capacity"], load["status"] == "lost"
    full = load["after"] >= capacity > 0
    ticks = range(1, int(capacity)) if capacity <= MAX_TICKS else ()
    # A load begins at x = 1, inside the outline, and a tick is 1 wide: hence - 1 and - 0.5.
    return LoadBar(
        node=load["node"],
        width=round(capacity * place_width, 1),
        before=round(max(load["before"] * place_width - 1, 0), 1),
        after=round(max(load["after"] * place_width - 1, 0), 1),
        after_class="gone" if lost else "full" if full else "after",
        ticks=tuple(round(place * place_width - 0.5, 1) for place in ticks),
        load=places(load["before"]),
        then=places(load["after"]),
        capacity=places(capacity),
        state=joined(_load_remarks(load, document, full, new)),
    )


def _load_remarks(
    load: Mapping[str, Any], document: Mapping[str, Any], full: bool, new: bool
) -> Iterator[str]:
    """Yield remarks on a node for its bar, such as that it is full.

    `load` is its entry in the what-if `document`; `new`: the scenario adds it.
    """
    if load["status"] == "lost":
        yield state_word("lost")
        return
    if new:
        yield state_word("new")
    if full:
        yield _("full")
    if load["status"] == "suspect":
        yield state_word("suspect")
    if load["draining"]:
        yield _("drained") if load["node"] in document["drain"] else _("draining anyway")
    if load["cordoned"]:
        yield _("cordoned")


@dataclass(frozen=True, slots=True)
class LossRow:
    """A table row: would the loss of this node be absorbed?"""

    node: str
    query: str  #: of the what-if page for this loss
    chosen: bool  #: the scenario of the page assumes this loss
    load: str  #: load and capacity, such as `5/8`
    tag: str  #: the answer: `yes`, `2 would wait`
    tone: str  #: ok, warn, bad, or empty if unknown
    detail: str  #: such as `3 of 5 fit`


def loss_rows(scenario: Scenario, fleet: FleetView) -> list[LossRow]:
    """Return a row for each node that has not left, MAX_ROWS at most.

    If there are more, those whose loss would not be absorbed come first, so that none is left out.
    """
    nodes = [node for node in fleet.nodes if node.status != "left"]
    if len(nodes) > MAX_ROWS:
        nodes.sort(key=lambda node: node.loss is None or node.loss.absorbed)
    return [
        LossRow(
            node.name,
            scenario_query(Scenario(lose=(node.name,))),
            node.name in scenario.lose,
            f"{places(node.load)}/{places(node.capacity)}",
            *_loss_cells(node),
        )
        for node in nodes[:MAX_ROWS]
    ]


def _loss_cells(node: NodeView) -> tuple[str, str, str]:
    """Return what the row says of the node's loss: tag, tone of the tag, and detail."""
    if node.status == "lost":
        since = _("since %(since)s") % {"since": clock(node.status_since)}
        return state_word("lost"), "bad", since
    if node.loss is None:
        return _("not known yet"), "", _("the watcher has not computed it")
    tone = "ok" if node.loss.absorbed else "warn"
    return loss_tag(node.loss), tone, loss_detail(node.loss)


def loss_tag(loss: LossView) -> str:
    """Return whether the loss is absorbed: `yes`, `2 would be unplaced` or `2 would wait`."""
    if loss.homeless:
        return _("%(number)s would be unplaced") % {"number": whole(loss.homeless)}
    if loss.waiting:
        return _("%(number)s would wait") % {"number": whole(loss.waiting)}
    return _("yes")


def loss_detail(loss: LossView) -> str:
    """Return how many portfolios would find a place, and the suspect nodes used: `3 of 5 fit`."""
    if not loss.runs:
        text = _("it runs no portfolio")
    else:
        figures = {"fit": whole(loss.fit), "runs": whole(loss.runs)}
        text = ngettext("%(fit)s of %(runs)s fits", "%(fit)s of %(runs)s fit", loss.fit) % figures
    if loss.suspects:
        names = {"names": _join_names(loss.suspects)}
        text += _("; ") + _("%(names)s used, though suspect") % names
    return text


def loss_summary(fleet: FleetView) -> str:
    """Return for how many nodes the loss is absorbed: `for 2 of 5 nodes, as of 14:05:10`.

    The time is that of the oldest forecast. Without a forecast: `not known yet`.
    """
    known = [node.loss for node in fleet.nodes if node.loss is not None]
    if not known:
        return _("not known yet")
    absorbed = sum(loss.absorbed for loss in known)
    oldest = min(loss.as_of for loss in known)
    return ngettext(
        "for %(absorbed)s of %(number)s node, as of %(at)s",
        "for %(absorbed)s of %(number)s nodes, as of %(at)s",
        len(known),
    ) % {"absorbed": whole(absorbed), "number": whole(len(known)), "at": clock(oldest)}


def is_stale(as_of: datetime, now: datetime) -> bool:
    """Return whether the forecast is older than a running watcher would leave it."""
    return (now - as_of).total_seconds() > STALE_AFTER_S
