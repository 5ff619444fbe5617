"""Build hypothetical snapshots for what-if scenarios.

Each function returns a snapshot with nodes lost, drained, cordoned, reopened, enlarged or added,
and raises NotInSnapshot for an unknown node name. The portfolios stay the same, so the fleet index
of the real snapshot is valid for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

from scheduling.decide.planner.targets import NotInSnapshot
from scheduling.decide.types import NodeView, Snapshot

#: Limits that catch typing errors.
MAX_ADDED = 1000
MAX_CAPACITY = 1_000_000
MAX_ECHOED_CHARS = 60  #: of the input, in error messages

EXPECTED_FORMAT = "must be CAPACITY or CAPACITY:label=value,label=value, such as 8 or 8:gpu=yes"


class InvalidScenario(ValueError):
    """An invalid what-if scenario. `field` names the invalid part."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Addition:
    """A node to be added."""

    capacity: int  #: places
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        labels = ",".join(f"{key}={value}" for key, value in self.labels.items())
        return f"{self.capacity}:{labels}" if labels else str(self.capacity)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Nodes assumed to be lost, drained and added. Empty: the present state."""

    lose: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    add: tuple[Addition, ...] = ()

    @classmethod
    def of(cls, lose: Iterable[str], drain: Iterable[str], add: Iterable[str]) -> Scenario:
        """Parse a scenario. Node names may be repeated or separated by commas.

        Raise InvalidScenario if an addition is invalid, a node is both lost and drained, or over
        MAX_ADDED nodes are added.
        """
        additions = tuple(_parse_addition(text) for text in add if text.strip())
        scenario = cls(_split_names(lose), _split_names(drain), additions)
        both = sorted(set(scenario.lose) & set(scenario.drain))
        if both:
            raise InvalidScenario(
                "drain", f"{both[0]} cannot be both lost and drained; choose one of the two"
            )
        if len(scenario.add) > MAX_ADDED:
            raise InvalidScenario(
                "add", f"at most {MAX_ADDED} nodes can be added, not {len(scenario.add)}"
            )
        return scenario

    def __bool__(self) -> bool:
        return bool(self.lose or self.drain or self.add)


def _split_names(texts: Iterable[str]) -> tuple[str, ...]:
    names = (name.strip() for text in texts for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _parse_addition(text: str) -> Addition:
    """Return the node that a text such as `8:gpu=yes` describes. Raise InvalidScenario."""

    def invalid(why: str) -> InvalidScenario:
        # Shortened, since the message goes into the API's answer.
        shown = repr(text if len(text) <= MAX_ECHOED_CHARS else f"{text[:MAX_ECHOED_CHARS]}…")
        return InvalidScenario("add", f"{EXPECTED_FORMAT}, not {shown}: {why}")

    places, colon, rest = text.strip().partition(":")
    if not (places.isascii() and places.isdigit() and places.strip("0")):
        raise invalid("the capacity is not a whole number of at least 1")
    digits = places.lstrip("0")
    # The length first: int() raises an error of its own for thousands of digits.
    if len(digits) > len(str(MAX_CAPACITY)) or int(digits) > MAX_CAPACITY:
        raise invalid(f"the capacity is over {MAX_CAPACITY:,}")
    labels: dict[str, str] = {}
    for pair in rest.split(",") if colon else ():
        key, equals, value = pair.strip().partition("=")
        if not (key and equals and value):
            raise invalid(f"{pair[:MAX_ECHOED_CHARS]!r} is not label=value")
        if key in labels:
            raise invalid(f"label {key[:MAX_ECHOED_CHARS]} is given twice")
        labels[key] = value
    return Addition(int(digits), labels)


def apply_scenario(snapshot: Snapshot, scenario: Scenario) -> Snapshot:
    """Return the snapshot under the scenario. Raise NotInSnapshot for an unknown node name."""
    return add(drain(lose(snapshot, scenario.lose), scenario.drain), scenario.add)


def lose(snapshot: Snapshot, names: Iterable[str]) -> Snapshot:
    """Return the snapshot with the named nodes lost, except those that have left.

    Raise NotInSnapshot for an unknown name.
    """
    return _change_nodes(
        snapshot,
        names,
        lambda node: node if node.status == "left" else replace(node, status="lost"),
    )


def drain(snapshot: Snapshot, names: Iterable[str]) -> Snapshot:
    """Return the snapshot with these nodes draining. Raise NotInSnapshot."""
    return _change_nodes(snapshot, names, lambda node: replace(node, draining=True))


def cordon(snapshot: Snapshot, names: Iterable[str]) -> Snapshot:
    """Return the snapshot with these nodes cordoned. Raise NotInSnapshot."""
    return _change_nodes(snapshot, names, lambda node: replace(node, cordoned=True))


def reopen(snapshot: Snapshot, names: Iterable[str]) -> Snapshot:
    """Return the snapshot with these nodes neither cordoned nor draining. Raise NotInSnapshot."""
    return _change_nodes(
        snapshot, names, lambda node: replace(node, cordoned=False, draining=False)
    )


def enlarge(snapshot: Snapshot, name: str, places: float) -> Snapshot:
    """Return the snapshot with `places` added to one node. Raise NotInSnapshot."""
    return _change_nodes(
        snapshot, [name], lambda node: replace(node, capacity=node.capacity + places)
    )


def add(snapshot: Snapshot, additions: Iterable[Addition]) -> Snapshot:
    """Return the snapshot with new nodes, named new-1, new-2 … skipping names in use.

    New nodes are alive and have the newest version of every strategy, and every feed.
    """
    additions = tuple(additions)
    if not additions:
        return snapshot
    taken = {node.name for node in snapshot.nodes}
    names = (f"new-{number}" for number in count(1))
    free = (name for name in names if name not in taken)
    strategies, feeds = _newest_features(snapshot)
    new = tuple(
        NodeView(
            id=-number,  # no database row has a negative id
            name=name,
            capacity=addition.capacity,
            labels=dict(addition.labels),
            strategies=strategies,
            feeds=feeds,
        )
        for number, (addition, name) in enumerate(zip(additions, free, strict=False), start=1)
    )
    return replace(snapshot, nodes=(*snapshot.nodes, *new))


def added_nodes(hypothetical: Snapshot) -> list[NodeView]:
    """Return the nodes that `add` gave the snapshot, in their order."""
    return [node for node in hypothetical.nodes if node.id < 0]


def _newest_features(snapshot: Snapshot) -> tuple[dict[str, int], dict[str, str]]:
    """Return (strategy → version, feed → sha256 of its data) that a new node is assumed to have.

    It has each feed and the newest version of each strategy of all nodes and all portfolios.
    """
    strategies: dict[str, int] = {}
    feeds: dict[str, str] = {}
    for node in snapshot.nodes:
        feeds.update(node.feeds)
        for name, version in node.strategies.items():
            strategies[name] = max(version, strategies.get(name, 0))
    for each in {portfolio.requirements for portfolio in snapshot.portfolios}:
        if each.feed:
            feeds[each.feed] = each.feed_sha
        if each.strategy:
            strategies[each.strategy] = max(each.strategy_version, strategies.get(each.strategy, 0))
    return strategies, feeds


def _change_nodes(
    snapshot: Snapshot, names: Iterable[str], change: Callable[[NodeView], NodeView]
) -> Snapshot:
    """Return the snapshot with `change` applied to the named nodes. Raise NotInSnapshot."""
    selected = set(names)
    if not selected:
        return snapshot
    unknown = selected - {node.name for node in snapshot.nodes}
    if unknown:
        raise NotInSnapshot("node", min(unknown))
    nodes = tuple(change(node) if node.name in selected else node for node in snapshot.nodes)
    return replace(snapshot, nodes=nodes)
