"""What a drain of one node would do: which portfolios move or stay, and what would help.

For a drain, the planner does not move portfolios of other nodes, since no portfolio is without an
owner. An operator may ask for such moves: then portfolios that run elsewhere move first, as they
would for a portfolio without an owner. Like every remedy, this one is tried before it is offered.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.fleet_state import HOSTING
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import Move, Pending, Placement, Plan, Snapshot
from scheduling.decide.what_if.answer import UNLIMITED, Answer, answer
from scheduling.decide.what_if.hypothetical import Scenario, drain
from scheduling.decide.what_if.node_loss import NodeLoss, forecast_node_loss, pending_ids

#: Nodes whose loss is forecast before and after the drain, at the cost of two plans each.
MAX_FORECASTS = 50


@dataclass(frozen=True, slots=True)
class LossChange:
    """Whether the loss of one node would be absorbed, before and after the drain."""

    node: str
    before: NodeLoss
    after: NodeLoss

    @property
    def is_worse(self) -> bool:
        """Return whether more portfolios would have no place after the drain."""
        return len(self.after.unplaced.no_place) > len(self.before.unplaced.no_place)


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """The final result of a drain, from one snapshot."""

    node: str
    answer: Answer
    leave: tuple[Move, ...]  #: portfolios of the node, in the order in which they move
    stay: tuple[Pending, ...]  #: keep running on the node, since no other one takes them
    others: tuple[Placement | Move, ...]  #: of other portfolios, in later passes
    pins: tuple[str, ...]  #: portfolios whose pin ends, by name
    room: tuple[Move, ...]  #: moves on other nodes that let more portfolios leave; empty: none help
    stay_with_room: int  #: portfolios that would stay once these moves are done
    losses: tuple[LossChange, ...]  #: of the nodes that stay, by name
    unforecast: int  #: nodes beyond MAX_FORECASTS, whose loss was not forecast


def drain_plan(
    snapshot: Snapshot, name: str, index: FleetIndex, storm_fraction: float
) -> DrainPlan:
    """Return what a drain of the node `name` would do.

    Pure. Costs a few plans, and two for each of at most MAX_FORECASTS nodes that stay. Raise
    NotInSnapshot for an unknown node.
    """
    found = answer(snapshot, Scenario(drain=(name,)), index, storm_fraction)
    node = next(each for each in snapshot.nodes if each.name == name)
    leave = tuple(move for move in found.plan.move if move.portfolio.node == node.id)
    others: tuple[Placement | Move, ...] = (
        *found.plan.place,
        *(move for move in found.plan.move if move.portfolio.node != node.id),
    )
    stay = _stuck_on(node.id, found.plan)
    room, stay_with_room = _find_room(found.hypothetical, node.id, stay)
    after = snapshot_after(found.hypothetical, found.plan)
    losses, unforecast = _loss_changes(snapshot, after, index, name)
    return DrainPlan(
        node=name,
        answer=found,
        leave=leave,
        stay=stay,
        others=others,
        pins=tuple(  # a drain ends each pin, unless the portfolio moves to its pinned node
            sorted(
                move.portfolio.name
                for move in leave
                if move.portfolio.pinned not in (None, move.target.id)
            )
        ),
        room=room,
        stay_with_room=stay_with_room,
        losses=losses,
        unforecast=unforecast,
    )


def room_for_drain(snapshot: Snapshot, name: str) -> tuple[Move, ...]:
    """Return the moves on other nodes that let more portfolios leave the node `name`.

    Empty if all can leave, or if no such moves help. Raise NotInSnapshot for an unknown node.
    """
    drained = drain(snapshot, [name])
    (node,) = (each.id for each in snapshot.nodes if each.name == name)
    stay = _stuck_on(node, make_plan(drained, UNLIMITED))
    moves, _still_stay = _find_room(drained, node, stay)
    return moves


def _stuck_on(node: int, plan: Plan) -> tuple[Pending, ...]:
    """Return the portfolios that should leave the node and that the plan leaves there."""
    return tuple(entry for entry in plan.stuck if entry.portfolio.node == node)


def _find_room(
    drained: Snapshot, node: int, stay: tuple[Pending, ...]
) -> tuple[tuple[Move, ...], int]:
    """Return moves that let some of `stay` leave, if there are any, and how many stay even then."""
    ids = {entry.portfolio.id for entry in stay}
    # The planner makes room only for portfolios without an owner: plan as if `stay` had none.
    unowned = replace(
        drained,
        portfolios=tuple(
            replace(each, node=None, phase="pending", pinned=None) if each.id in ids else each
            for each in drained.portfolios
        ),
    )
    made = make_plan(unowned, UNLIMITED).move if stay else ()
    room = tuple(move for move in made if move.reason.code == "makes_room")
    if room:
        then = make_plan(snapshot_after(drained, Plan(move=room)), UNLIMITED)
        left = len(_stuck_on(node, then))
        if left < len(stay):
            return room, left
    return (), len(stay)


def snapshot_after(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """Return the snapshot after all handoffs of the plan. A drain or a failover ends a pin."""
    steps: Iterable[Placement | Move] = (*plan.place, *plan.move)
    targets = {step.portfolio.id: step.target.id for step in steps}
    unpinned = {move.portfolio.id for move in plan.move if move.cause in ("drain", "failover")}
    return replace(
        snapshot,
        portfolios=tuple(
            replace(
                each,
                node=targets[each.id],
                phase="running",
                handoff=None,
                pinned=None if each.id in unpinned else each.pinned,
            )
            if each.id in targets
            else each
            for each in snapshot.portfolios
        ),
    )


def _loss_changes(
    before: Snapshot, after: Snapshot, index: FleetIndex, drained: str
) -> tuple[tuple[LossChange, ...], int]:
    """Return the changes of at most MAX_FORECASTS nodes, and the number of nodes left out."""
    index_after = FleetIndex.of(after.portfolios)
    nodes = [
        n for n in before.nodes if n.status in HOSTING and n.name != drained and not n.draining
    ]
    receiving = _receiving_nodes(before, after)
    nodes.sort(key=lambda each: (each.id not in receiving, each.name))  # these have changed most
    pending_before = pending_ids(make_plan(before, UNLIMITED, index))
    pending_after = pending_ids(make_plan(after, UNLIMITED, index_after))
    found = [
        LossChange(
            node.name,
            forecast_node_loss(before, node, index, pending_before),
            forecast_node_loss(after, node, index_after, pending_after),
        )
        for node in nodes[:MAX_FORECASTS]
    ]
    return tuple(sorted(found, key=lambda each: each.node)), max(len(nodes) - MAX_FORECASTS, 0)


def _receiving_nodes(before: Snapshot, after: Snapshot) -> Collection[int | None]:
    """Return ids of the nodes to which portfolios have moved."""
    was = {each.id: each.node for each in before.portfolios}
    return {each.node for each in after.portfolios if was[each.id] != each.node}
