"""Worlds that are not, but might be: nodes lost, drained, added, open again, larger.

A snapshot in, a snapshot out; a plan does not know the difference. The portfolios stay the same
ones, so the stock of the real snapshot is the stock of each imagined one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from scheduling.decide.planner.targets import NotInSnapshot
from scheduling.decide.types import NodeView, Snapshot

#: More new nodes, or a larger one, nobody means.
MAX_ADDED = 1000
MAX_CAPACITY = 1_000_000
MAX_ECHOED_CHARS = 60  #: of a text that is said again

EXPECTED_FORMAT = "must be CAPACITY or CAPACITY:label=value,label=value, such as 8 or 8:gpu=yes"


class InvalidScenario(ValueError):
    """A question that cannot be asked. `field` is the part of it that is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Addition:
    """A node that is not there yet."""

    capacity: int  #: places
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        labels = ",".join(f"{key}={value}" for key, value in self.labels.items())
        return f"{self.capacity}:{labels}" if labels else str(self.capacity)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What if these nodes were lost, those drained, and some added? Empty: as things are."""

    lose: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    add: tuple[Addition, ...] = ()

    @classmethod
    def of(cls, lose: Iterable[str], drain: Iterable[str], add: Iterable[str]) -> Scenario:
        """Return what these texts ask. Names may be repeated, and several in one text by commas.

        Raise BadQuestion where an addition cannot be read, or a node is to be lost and drained.
        """
        additions = tuple(_addition(text) for text in add if text.strip())
        question = cls(_names(lose), _names(drain), additions)
        both = sorted(set(question.lose) & set(question.drain))
        if both:
            raise InvalidScenario(
                "drain", f"{both[0]} cannot be both lost and drained; ask for one of the two"
            )
        if len(question.add) > MAX_ADDED:
            raise InvalidScenario("add", f"at most {MAX_ADDED} nodes, not {len(question.add)}")
        return question

    def __bool__(self) -> bool:
        return bool(self.lose or self.drain or self.add)


def _names(texts: Iterable[str]) -> tuple[str, ...]:
    names = (name.strip() for text in texts for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _addition(text: str) -> Addition:
    places, colon, rest = text.strip().partition(":")
    # Shortened: it goes into the answer, and int() refuses thousands of digits with an error.
    said = repr(text if len(text) <= MAX_ECHOED_CHARS else f"{text[:MAX_ECHOED_CHARS]}…")
    if not (places.isascii() and places.isdigit() and places.strip("0")):
        raise InvalidScenario(
            "add", f"{EXPECTED_FORMAT}, not {said}: the capacity is no number from 1 on"
        )
    digits = places.lstrip("0")
    if len(digits) > len(str(MAX_CAPACITY)) or int(digits) > MAX_CAPACITY:
        raise InvalidScenario(
            "add", f"{EXPECTED_FORMAT}, not {said}: the capacity is over {MAX_CAPACITY:,}"
        )
    labels: dict[str, str] = {}
    for pair in rest.split(",") if colon else ():
        key, equals, value = pair.strip().partition("=")
        if not (key and equals and value):
            raise InvalidScenario(
                "add", f"{EXPECTED_FORMAT}, not {said}: {pair!r} is no label=value"
            )
        if key in labels:
            raise InvalidScenario(
                "add", f"{EXPECTED_FORMAT}, not {said}: the label {key} is given twice"
            )
        labels[key] = value
    return Addition(int(digits), labels)


def apply_scenario(snapshot: Snapshot, question: Scenario) -> Snapshot:
    """Return the snapshot as the question has it. Raise NotInSnapshot for a name no node has."""
    return add(drain(lose(snapshot, question.lose), question.drain), question.add)


def lose(snapshot: Snapshot, names: Iterable[str]) -> Snapshot:
    """Return the snapshot as it would be if the nodes of these names were lost.

    One that left has nothing to lose. Raise NotInSnapshot for a name no node has.
    """
    return _changed(
        snapshot,
        names,
        lambda node: node if node.status == "left" else replace(node, status="lost"),
    )


def drain(snapshot: Snapshot, names: Iterable[str]) -> Snapshot:
    """Return the snapshot as it would be if these nodes were drained. Raises as `lose` does."""
    return _changed(snapshot, names, lambda node: replace(node, draining=True))


def cordon(snapshot: Snapshot, names: Iterable[str]) -> Snapshot:
    """Return the snapshot as it would be if these nodes took nothing. Raises as `lose` does."""
    return _changed(snapshot, names, lambda node: replace(node, cordoned=True))


def reopen(snapshot: Snapshot, names: Iterable[str]) -> Snapshot:
    """Return the snapshot without the cordons and drains of these nodes. Raises as `lose` does."""
    return _changed(snapshot, names, lambda node: replace(node, cordoned=False, draining=False))


def enlarge(snapshot: Snapshot, name: str, places: float) -> Snapshot:
    """Return the snapshot with so many places more on one node. Raises as `lose` does."""
    return _changed(snapshot, [name], lambda node: replace(node, capacity=node.capacity + places))


def add(snapshot: Snapshot, additions: Iterable[Addition]) -> Snapshot:
    """Return the snapshot with nodes more, named new-1, new-2 … as far as those are free.

    They are alive and have the newest version of every strategy, and every feed.
    """
    additions = tuple(additions)
    if not additions:
        return snapshot
    taken = {node.name for node in snapshot.nodes}
    free = (name for n in range(1, len(additions) + len(taken) + 1)
            if (name := f"new-{n}") not in taken)  # fmt: skip
    strategies, feeds = _newest_features(snapshot)
    new = tuple(
        NodeView(
            id=-number,  # no row has it
            name=name,
            capacity=addition.capacity,
            labels=dict(addition.labels),
            strategies=strategies,
            feeds=feeds,
        )
        for number, (addition, name) in enumerate(zip(additions, free, strict=False), start=1)
    )
    return replace(snapshot, nodes=(*snapshot.nodes, *new))


def added_nodes(world: Snapshot) -> list[NodeView]:
    """Return the nodes of an imagined snapshot that are in no real one, in their order."""
    return [node for node in world.nodes if node.id < 0]


def _newest_features(snapshot: Snapshot) -> tuple[dict[str, int], dict[str, str]]:
    """Return the newest version of each strategy, and the feeds, that a new daemon would have."""
    strategies: dict[str, int] = {}
    feeds: dict[str, str] = {}
    for node in snapshot.nodes:
        feeds.update(node.feeds)
        for name, version in node.strategies.items():
            strategies[name] = max(version, strategies.get(name, version))
    for need in {portfolio.requirements for portfolio in snapshot.portfolios}:
        if need.feed:
            feeds[need.feed] = need.feed_sha
        if need.strategy:
            known = strategies.get(need.strategy, need.strategy_version)
            strategies[need.strategy] = max(need.strategy_version, known)
    return strategies, feeds


def _changed(
    snapshot: Snapshot, names: Iterable[str], change: Callable[[NodeView], NodeView]
) -> Snapshot:
    asked = set(names)
    if not asked:
        return snapshot
    unknown = asked - {node.name for node in snapshot.nodes}
    if unknown:
        raise NotInSnapshot(f"There is no node named {min(unknown)}.")
    nodes = tuple(change(node) if node.name in asked else node for node in snapshot.nodes)
    return replace(snapshot, nodes=nodes)
