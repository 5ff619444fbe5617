"""Would the loss of a node be absorbed? Answered with the plan that the loss would lead to.

Not by arithmetic of free places: labels, versions, spread groups, weights, cordons and what runs
nowhere already bear on it, and the planner knows them all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from scheduling.decide.planner.fleet_index import FleetIndex, should_run
from scheduling.decide.planner.fleet_state import HOSTING
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import NodeView, Pending, Plan, Policy, Snapshot
from scheduling.decide.what_if.hypothetical import lose

#: Why something is pending that has a place or may have one, and only has to wait for it.
WAITS = frozenset(
    {
        "waits_for_room",
        "backing_off",
        "storm_hold",
        "storm_late",
        "after_storm",
        "frozen_failover",
    }
)


@dataclass(frozen=True, slots=True)
class Unplaced:
    """What a plan leaves pending that would not be pending otherwise."""

    homeless: tuple[Pending, ...] = ()  #: no node takes it
    waiting: tuple[Pending, ...] = ()  #: only has to wait


def unplaced(plan: Plan, otherwise: Collection[int] = frozenset()) -> Unplaced:
    """Return what `plan` leaves pending, but for the portfolios (ids) pending `otherwise` too."""
    fresh = [entry for entry in plan.pending if entry.portfolio.id not in otherwise]
    return Unplaced(
        homeless=tuple(entry for entry in fresh if entry.reason.code not in WAITS),
        waiting=tuple(entry for entry in fresh if entry.reason.code in WAITS),
    )


def pending_now(plan: Plan) -> frozenset[int]:
    """Return the ids of what a plan leaves pending."""
    return frozenset(entry.portfolio.id for entry in plan.pending)


def suspects_counted(plan: Plan) -> tuple[str, ...]:
    """Return the names of suspect nodes that a plan sends something to: of those nobody is sure."""
    targets = [*(p.target for p in plan.place), *(m.target for m in plan.move)]
    return tuple(sorted({node.name for node in targets if node.status == "suspect"}))


@dataclass(frozen=True, slots=True)
class NodeLoss:
    """What the loss of one node would come to."""

    node: int  #: its id
    name: str
    runs: int  #: portfolios it runs, each of which would need another place
    fit: int  #: of them, those that would have one at once
    unplaced: Unplaced
    suspects: tuple[str, ...]  #: suspect nodes that were counted

    @property
    def absorbed(self) -> bool:
        """Whether everything would have a place at once."""
        return not (self.unplaced.homeless or self.unplaced.waiting)


def hosting(snapshot: Snapshot) -> Iterator[NodeView]:
    """Yield the nodes that can be lost, in the snapshot's order."""
    return (node for node in snapshot.nodes if node.status in HOSTING)


def loss_of(
    snapshot: Snapshot,
    node: NodeView,
    stock: FleetIndex,
    already: Collection[int],
    policy: Policy | None = None,
) -> NodeLoss:
    """Return what the loss of `node` would come to now.

    Pure; costs one plan, with the standing stock of the snapshot. `already` are the portfolios
    (ids) that are pending as things are: they are not held against the node.
    """
    plan = make_plan(lose(snapshot, [node.name]), policy or Policy(), stock)
    left = unplaced(plan, already)
    share = stock.shares.get(node.id)
    runs = {} if share is None else dict(share.portfolios)
    runs |= {p.id: p for p in stock.restless.values() if p.node == node.id and should_run(p)}
    out = sum(entry.portfolio.id in runs for entry in (*left.homeless, *left.waiting))
    return NodeLoss(node.id, node.name, len(runs), len(runs) - out, left, suspects_counted(plan))
