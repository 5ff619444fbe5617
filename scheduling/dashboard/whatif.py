"""What the What if page shows: the question in words, the bars of the loads, each node's loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from scheduling.decide.what_if.hypothetical import Scenario
from scheduling.presentation.formatting import clock, counted, places

if TYPE_CHECKING:
    from scheduling.observe.fleet_view import FleetView, LossView, NodeView

WIDE = 560.0  #: of the bar of the largest node
MAX_TICKS = 20  #: from there on a bar has no line for each place
MAX_ROWS = 100  #: of a table; the rest is a count
MAX_CHOICES = 12  #: nodes to choose from by a link; with more there is the form
#: A watcher confirms its answers every 30 s. What is older than this is not known now.
OLD_S = 90.0


def title(question: Scenario) -> str:
    """Return `If node-2 and node-5 are lost now`."""
    said = []
    for names, one, more in (
        (question.lose, "is lost", "are lost"),
        (question.drain, "is drained", "are drained"),
    ):
        if names:
            said.append(f"{_listed(names)} {one if len(names) == 1 else more}")
    if question.add:
        capacities = _listed([f"{addition.capacity:,}" for addition in question.add])
        a_node, is_added = ("a node", "is") if len(question.add) == 1 else ("nodes", "are")
        said.append(f"{a_node} of capacity {capacities} {is_added} added")
    return f"If {' and '.join(said)} now" if said else "What the next pass would do"


def _listed(names: Sequence[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def address(question: Scenario, **changes: Any) -> str:
    """Return the query string of the question, with parts of it replaced."""
    parts = {
        "lose": question.lose,
        "drain": question.drain,
        "add": tuple(map(str, question.add)),
        **changes,
    }
    pairs = [(name, str(value)) for name, values in parts.items() for value in values]
    return f"?{urlencode(pairs, safe=':,=')}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A link that changes the question."""

    words: str
    query: str
    chosen: bool


def kinds(question: Scenario) -> list[Choice]:
    """Return the two things that can happen to the chosen nodes."""
    nodes = (*question.lose, *question.drain)
    drained = bool(question.drain) and not question.lose
    return [
        Choice("is lost", address(question, lose=nodes, drain=()), bool(nodes) and not drained),
        Choice("is drained", address(question, lose=(), drain=nodes), drained),
    ]


def choices(question: Scenario, board: FleetView) -> list[Choice]:
    """Return the nodes to choose from: a few, else those that are chosen."""
    asked = {*question.lose, *question.drain}
    kind, other = ("drain", "lose") if question.drain and not question.lose else ("lose", "drain")
    names = [node.name for node in board.nodes if node.status != "left"]
    if len(names) > MAX_CHOICES:
        names = [name for name in names if name in asked]
    return [
        Choice(name, address(question, **{kind: (name,), other: ()}), name in asked)
        for name in names
    ]


@dataclass(frozen=True, slots=True)
class Bar:
    """The load of one node before and after, as rectangles of a box 562 wide and 26 high."""

    node: str
    width: float
    before: float
    after: float
    after_class: str  #: after, full or gone
    ticks: tuple[float, ...]
    load: str  #: 5 → 8 / 8, in its three figures
    then: str
    capacity: str
    words: str

    @property
    def gone_width(self) -> float:
        """Return the width of a frame where a load was."""
        return max(self.width - 2, 0)


def bars(document: Mapping[str, Any]) -> list[Bar]:
    """Return a bar for each node of a plan's document, and no more than a page can show."""
    loads = [load for load in document["load"] if load["status"] != "left"]
    if len(loads) > MAX_ROWS:
        loads = [load for load in loads if load["before"] != load["after"]][:MAX_ROWS]
    largest = max((max(one["capacity"], one["before"], one["after"]) for one in loads), default=0)
    unit = WIDE / (largest or 1)
    new = {one["node"] for one in document["add"]}
    return [_bar(load, unit, document, load["node"] in new) for load in loads]


def _bar(load: Mapping[str, Any], unit: float, document: Mapping[str, Any], new: bool) -> Bar:
    capacity, lost = load["capacity"], load["status"] == "lost"
    full = load["after"] >= capacity > 0
    ticks = range(1, int(capacity)) if capacity <= MAX_TICKS else ()
    return Bar(
        node=load["node"],
        width=round(capacity * unit, 1),
        before=round(max(load["before"] * unit - 1, 0), 1),
        after=round(max(load["after"] * unit - 1, 0), 1),
        after_class="gone" if lost else "full" if full else "after",
        ticks=tuple(round(place * unit - 0.5, 1) for place in ticks),
        load=places(load["before"]),
        then=places(load["after"]),
        capacity=places(capacity),
        words=", ".join(_state(load, document, full, new)),
    )


def _state(
    load: Mapping[str, Any], document: Mapping[str, Any], full: bool, new: bool
) -> Iterator[str]:
    if load["status"] == "lost":
        yield "lost"
        return
    if new:
        yield "new"
    if full:
        yield "full"
    if load["status"] == "suspect":
        yield "suspect"
    if load["draining"]:
        yield "drained" if load["node"] in document["drain"] else "draining anyway"
    if load["cordoned"]:
        yield "cordoned"


@dataclass(frozen=True, slots=True)
class LossRow:
    """Whether the loss of one node would be absorbed."""

    node: str
    query: str
    chosen: bool
    load: str
    tag: str
    tone: str  #: ok, warn, bad, or nothing where it is not known
    words: str


def loss_rows(question: Scenario, board: FleetView) -> list[LossRow]:
    """Return a row for each node; of many those first whose loss would not be absorbed."""
    nodes = [node for node in board.nodes if node.status != "left"]
    if len(nodes) > MAX_ROWS:
        nodes.sort(key=lambda node: node.loss is None or node.loss.absorbed)
    return [
        LossRow(
            node.name,
            address(Scenario(lose=(node.name,))),
            node.name in question.lose,
            f"{places(node.load)}/{places(node.capacity)}",
            *_loss(node),
        )
        for node in nodes[:MAX_ROWS]
    ]


def _loss(node: NodeView) -> tuple[str, str, str]:
    if node.status == "lost":
        return "lost", "bad", f"since {clock(node.status_since)}"
    if node.loss is None:
        return "not known yet", "", "the watcher has not reckoned it"
    tone = "ok" if node.loss.absorbed else "warn"
    return loss_tag(node.loss), tone, loss_words(node.loss)


def loss_tag(loss: LossView) -> str:
    """Return `yes` or `2 would have no place`."""
    if loss.homeless:
        return f"{loss.homeless:,} would have no place"
    return f"{loss.waiting:,} would wait" if loss.waiting else "yes"


def loss_words(loss: LossView) -> str:
    """Return `3 of 5 fit`, and which suspect nodes were counted."""
    if not loss.runs:
        words = "nothing runs there"
    else:
        words = f"{loss.fit:,} of {loss.runs:,} {'fits' if loss.fit == 1 else 'fit'}"
    if loss.suspects:
        words += f"; {_listed(loss.suspects)} counted, suspect"
    return words


def loss_summary(board: FleetView) -> str:
    """Return `by 2 of 5 nodes, as of 14:05:10`, the oldest answer's time."""
    known = [node.loss for node in board.nodes if node.loss is not None]
    if not known:
        return "not known yet"
    absorbed = sum(loss.absorbed for loss in known)
    oldest = min(loss.as_of for loss in known)
    return f"by {absorbed:,} of {counted(len(known), 'node')}, as of {clock(oldest)}"


def is_old(as_of: datetime, now: datetime) -> bool:
    """Whether an answer is so old that no watcher can have confirmed it lately."""
    return (now - as_of).total_seconds() > OLD_S
