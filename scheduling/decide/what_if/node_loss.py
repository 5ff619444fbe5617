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
WAITING_CODES = frozenset(
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

    no_place: tuple[Pending, ...] = ()  #: no node takes it
    waiting: tuple[Pending, ...] = ()  #: only has to wait


def newly_pending(plan: Plan, otherwise: Collection[int] = frozenset()) -> Unplaced:
    """Return what `plan` leaves pending, but for the portfolios (ids) pending `otherwise` too."""
    fresh = [entry for entry in plan.pending if entry.portfolio.id not in otherwise]
    return Unplaced(
        no_place=tuple(entry for entry in fresh if entry.reason.code not in WAITING_CODES),
        waiting=tuple(entry for entry in fresh if entry.reason.code in WAITING_CODES),
    )


def pending_ids(plan: Plan) -> frozenset[int]:
    """Return the ids of what a plan leaves pending."""
    return frozenset(entry.portfolio.id for entry in plan.pending)


def suspect_targets(plan: Plan) -> tuple[str, ...]:
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
        return not (self.unplaced.no_place or self.unplaced.waiting)


def hosting_nodes(snapshot: Snapshot) -> Iterator[NodeView]:
    """Yield the nodes that can be lost, in the snapshot's order."""
    return (node for node in snapshot.nodes if node.status in HOSTING)


def forecast_node_loss(
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
    left = newly_pending(plan, already)
    share = stock.settled_by_node.get(node.id)
    runs = {} if share is None else dict(share.portfolios)
    runs |= {p.id: p for p in stock.unsettled.values() if p.node == node.id and should_run(p)}
    out = sum(entry.portfolio.id in runs for entry in (*left.no_place, *left.waiting))
    return NodeLoss(node.id, node.name, len(runs), len(runs) - out, left, suspect_targets(plan))
