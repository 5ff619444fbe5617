"""Forecast the loss of a node with the plan that the loss would lead to.

Comparing free places would not be enough: labels, versions, spread groups, weights, cordons and
portfolios that are already unassigned matter too, and the planner considers them all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from scheduling.decide.planner.fleet_index import FleetIndex, should_run
from scheduling.decide.planner.fleet_state import HOSTING
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import NodeView, Pending, Plan, Policy, Snapshot
from scheduling.decide.what_if.hypothetical import lose

#: Reason codes of pending portfolios that have or may get a place and only have to wait.
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
    """Portfolios that a plan leaves pending and that would not be pending otherwise."""

    no_place: tuple[Pending, ...] = ()  #: no node takes them
    waiting: tuple[Pending, ...] = ()  #: they only have to wait


def newly_pending(plan: Plan, pending_before: Collection[int] = frozenset()) -> Unplaced:
    """Return the portfolios that `plan` leaves pending, except the ids in `pending_before`."""
    new = [entry for entry in plan.pending if entry.portfolio.id not in pending_before]
    return Unplaced(
        no_place=tuple(entry for entry in new if entry.reason.code not in WAITING_CODES),
        waiting=tuple(entry for entry in new if entry.reason.code in WAITING_CODES),
    )


def pending_ids(plan: Plan) -> frozenset[int]:
    """Return the ids of the portfolios that a plan leaves pending."""
    return frozenset(entry.portfolio.id for entry in plan.pending)


def suspect_targets(plan: Plan) -> tuple[str, ...]:
    """Return the names of suspect nodes to which a plan sends portfolios, sorted."""
    targets = [*(p.target for p in plan.place), *(m.target for m in plan.move)]
    return tuple(sorted({node.name for node in targets if node.status == "suspect"}))


@dataclass(frozen=True, slots=True)
class NodeLoss:
    """The consequences of losing one node."""

    node: int  #: id of the node
    name: str
    runs: int  #: number of portfolios it runs, which would need another place
    fit: int  #: number of those that would have one at once
    unplaced: Unplaced
    suspects: tuple[str, ...]  #: suspect nodes that the plan uses

    @property
    def absorbed(self) -> bool:
        """Return whether all portfolios would have a place at once."""
        return not (self.unplaced.no_place or self.unplaced.waiting)


def hosting_nodes(snapshot: Snapshot) -> Iterator[NodeView]:
    """Yield the alive and suspect nodes, in the snapshot's order."""
    return (node for node in snapshot.nodes if node.status in HOSTING)


def forecast_node_loss(
    snapshot: Snapshot,
    node: NodeView,
    index: FleetIndex,
    already_pending: Collection[int],
    policy: Policy | None = None,
) -> NodeLoss:
    """Return the consequences of losing `node` now.

    Pure; costs one plan, with the fleet index of the snapshot. `already_pending` are the ids of
    portfolios pending without the loss, which are not counted.
    """
    plan = make_plan(lose(snapshot, [node.name]), policy or Policy(), index)
    unplaced = newly_pending(plan, already_pending)
    settled = index.settled_by_node.get(node.id)
    runs = {} if settled is None else dict(settled.portfolios)
    runs |= {p.id: p for p in index.unsettled.values() if p.node == node.id and should_run(p)}
    left_pending = (*unplaced.no_place, *unplaced.waiting)
    return NodeLoss(
        node=node.id,
        name=node.name,
        runs=len(runs),
        fit=len(runs) - sum(entry.portfolio.id in runs for entry in left_pending),
        unplaced=unplaced,
        suspects=suspect_targets(plan),
    )
