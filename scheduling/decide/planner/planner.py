"""Compute a plan of handoffs from a snapshot of the fleet.

The goals in order of precedence; none is given up for a later one:

1. A running portfolio stays, unless its node is lost or drains, it is pinned elsewhere, or a rule
   (selector, versions, hard spread group) no longer holds on its node.
2. Failover, then portfolios without an owner: by priority, then weight, then name, each to the node
   that is least loaded once it holds the portfolio. If none has room, others make room: placements
   of this plan are reassigned, else running portfolios move, the fewest and least important,
   within the limits.
3. Drains, pins and broken rules. The source runs the portfolio until the target is ready, so these
   moves can wait, and the limits of the policy hold.
4. Rebalance: between two nodes whose relative loads differ by `rebalance_gain` or more, the move
   that lowers the higher of the two most. Reassigning a placement of this plan costs nothing; a
   running portfolio costs a move, which waits while anything is failed over. If the operator chose
   CPU, running portfolios are rebalanced by that alone (`rebalance_cpu.py`).

Every rebalance move lowers the higher load of its two nodes and leaves the other below it. So
repeated passes terminate, and a plan without moves and without stuck portfolios, once applied, is
followed by an empty one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from scheduling.decide.planner.explain import Explainer
from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.planner.handoff_slots import HandoffSlots
from scheduling.decide.planner.make_room import Relocation, Room, RoomFinder
from scheduling.decide.planner.rebalance import Movable, Rebalancer, RebalanceStep
from scheduling.decide.planner.rebalance_cpu import CpuRebalancer, CpuRebalanceStep
from scheduling.decide.planner.worklist import PlacementTask, Worklist, placing_order
from scheduling.decide.types import (
    Move,
    Pending,
    Placement,
    Plan,
    Policy,
    PortfolioView,
    Reason,
    Snapshot,
)


def make_plan(snapshot: Snapshot, policy: Policy, index: FleetIndex | None = None) -> Plan:
    """Return which portfolios to place and move, and which cannot be, each with its reason.

    Pure and deterministic: the plan depends neither on the order of nodes and portfolios in the
    snapshot nor on whether an `index` of the snapshot's portfolios is given, which is only read.
    O(k log m) for k portfolios that need an action on m nodes, times the number of different
    capacities; without an index, building it from all n portfolios costs O(n).
    """
    return _Planner(snapshot, policy, index or FleetIndex.of(snapshot.portfolios)).plan()


class _Planner:
    """The computation of one plan. An instance computes one plan only."""

    def __init__(self, snapshot: Snapshot, policy: Policy, index: FleetIndex) -> None:
        self.snapshot = snapshot
        self.policy = policy
        self.fleet = FleetState(snapshot, index)
        self.worklist = Worklist(snapshot, policy, self.fleet)
        self.handoff_slots = HandoffSlots(self.fleet.nodes, policy.handoffs_per_node)
        self.moves_left = 0 if snapshot.frozen else policy.max_moves
        #: Whether a task waits for a later pass: for its turn, or for room that is being made.
        self.waiting = False
        #: Whether running portfolios may move to make room: not in a freeze or a storm.
        self.may_make_room = (
            not (snapshot.frozen or snapshot.storm_hold or snapshot.storm_late)
            and not snapshot.after_storm
            and min(policy.max_moves, policy.handoffs_per_node) > 0
        )
        self.placed: list[PlacementTask] = []
        self.moved: list[PlacementTask] = []
        self.unplaced: list[PlacementTask] = []
        #: Node → placements of this plan there that may be reassigned.
        self.planned: dict[int, list[Movable]] = {}
        self.room = RoomFinder(self.fleet, self.planned, self.worklist.movable)
        self.reserved: list[tuple[int, PortfolioView]] = []  #: room held until the plan is complete
        self.explain = Explainer(self.fleet)

    def plan(self) -> Plan:
        """Place and move portfolios in the order of the goals, and return the plan."""
        to_place, to_move_off = self.worklist.to_place(), self.worklist.to_move_off()
        self.fleet.smallest_waiting = min(
            (task.portfolio.weight for task in (*to_place, *to_move_off)), default=0
        )
        self._place(to_place)
        self._make_room()
        for task in to_move_off:
            self._move_off(task)
        reassigned = self._rebalance()
        # Reassigning a placement can free room for portfolios that are still unplaced.
        while reassigned and self.unplaced and self._retry_unplaced():
            reassigned = self._rebalance()
        self._rebalance_cpu()
        return self._build_plan()

    # Failover and placement: no limits

    def _place(self, tasks: list[PlacementTask]) -> None:
        """Assign each task to a node or to room that is coming, or record it as unplaced."""
        for task in tasks:
            node = self._preferred_node(task)
            if node is None:
                node = self.fleet.choose(task.portfolio)
            if node is None:
                node = self._make_room_by_reassigning(task)
            if node is None:
                if not self._reserve(task, self.room.already_coming):
                    self.unplaced.append(task)
                continue
            self._assign(task, node)
            self.handoff_slots.take(node)
            self.placed.append(task)
            self.room.plan_changed()
            # Neither a portfolio on the node it prefers nor a pinned one is reassigned. A failover
            # ends the pin.
            if node != task.preferred_node and (
                task.cause or self.fleet.pinned_node(task.portfolio) is None
            ):
                self.planned.setdefault(node, []).append(Movable(task.portfolio, task))

    def _make_room_by_reassigning(self, task: PlacementTask) -> int | None:
        """Reassign placements of this plan so that the task fits. Return its node, or None.

        Not for a task with a `held_node`: a search would count the places that it holds there.
        """
        found = self.room.by_reassigning(task.portfolio) if task.held_node is None else None
        if found is None:
            return None
        for relocation in found.relocations:
            self._reassign(relocation)
        return found.node

    def _make_room(self) -> None:
        """Start moves that make room for unplaced portfolios, which a later pass then places."""
        self.unplaced = [t for t in self.unplaced if not self._reserve(t, self.room.by_moving)]

    def _reserve(self, task: PlacementTask, find: Callable[[PortfolioView], Room | None]) -> bool:
        """Reserve room that will become free, and start the moves that free it.

        The room of moves that cannot start yet is reserved too, so that nothing else in this plan
        takes it. Return False if no room can be made, or for a task with a `held_node`.
        """
        found = find(task.portfolio) if self.may_make_room and task.held_node is None else None
        if found is None:
            return False
        fleet, portfolio = self.fleet, task.portfolio
        self.waiting = True
        for relocation in found.relocations:
            if relocation.movable.is_placement:
                self._reassign(relocation)
                continue
            self.worklist.running(relocation.source).remove(relocation.movable.portfolio)
            if not self._begin_relocation(relocation, portfolio):
                self.reserved.append((relocation.target, relocation.movable.portfolio))
        fleet.hold(found.node, portfolio)
        fleet.expect(found.node, portfolio)
        self.reserved.append((found.node, portfolio))
        moves = [
            {"portfolio": each.movable.portfolio.name, "target": fleet.nodes[each.target].name}
            for each in found.relocations
            if not each.movable.is_placement
        ]
        params = {
            "weight": portfolio.weight,
            "node": fleet.nodes[found.node].name,
            "moves": moves,
        }
        self.worklist.pending.append(Pending(portfolio, Reason("waits_for_room", params)))
        return True

    def _begin_relocation(self, relocation: Relocation, waiting: PortfolioView) -> bool:
        """Start a move that makes room for `waiting`, if the limits allow; return whether they do.

        The loads of the fleet include the move already.
        """
        source, target = relocation.source, relocation.target
        if (
            not relocation.fits
            or self.moves_left <= 0
            or self.policy.rebalance_gain == inf  # the pass moves no running portfolios
            or not self.handoff_slots.full.isdisjoint((source, target))
        ):
            return False
        self.handoff_slots.take(source)
        self.handoff_slots.take(target)
        loads = {"load_before": relocation.target_load, "source_load": relocation.source_load}
        moved = relocation.movable.portfolio
        self._add_move(moved, relocation, "makes_room", room_for=waiting.name, **loads)
        return True

    def _add_move(
        self,
        portfolio: PortfolioView,
        step: Relocation | RebalanceStep | CpuRebalanceStep,
        why: str,
        **figures: Any,
    ) -> None:
        """Add the move of a running portfolio, which the fleet's loads include already."""
        self.moves_left -= 1
        self.moved.append(
            PlacementTask(
                portfolio, "rebalance", step.source, why=why, target=step.target, **figures
            )
        )

    def _reassign(self, relocation: Relocation) -> None:
        """Change the target of a placement of this plan. Fleet loads include the change already."""
        portfolio, task = relocation.movable
        task.target, task.load_before = relocation.target, relocation.target_load
        self.planned[relocation.source].remove(relocation.movable)
        self.planned.setdefault(relocation.target, []).append(Movable(portfolio, task))
        self.handoff_slots.give_back(relocation.source)
        self.handoff_slots.take(relocation.target)
        self.fleet.invalidate_pools()  # a held load went down

    def _preferred_node(self, task: PlacementTask) -> int | None:
        """Return the node that the task prefers if the portfolio is allowed there, else None."""
        node, fleet = task.preferred_node, self.fleet
        if (
            node is None
            or not fleet.alive[node]
            or fleet.nodes[node].id in task.portfolio.failed_nodes
        ):
            return None
        if node != task.held_node:
            return node if fleet.is_allowed(node, task.portfolio) else None
        fleet.hold(node, task.portfolio, -1)  # its handoff holds these places for the portfolio
        allowed = fleet.is_allowed(node, task.portfolio)
        fleet.hold(node, task.portfolio)
        return node if allowed else None

    def _retry_unplaced(self) -> bool:
        """Retry unplaced portfolios. Return whether any was placed."""
        before, self.unplaced = self.unplaced, []
        self.fleet.invalidate_pools()
        self._place(before)
        return len(self.unplaced) < len(before)

    def _assign(self, task: PlacementTask, node: int) -> None:
        """Make `node` the target of the task, and count the places taken there."""
        fleet, portfolio = self.fleet, task.portfolio
        task.target, task.load_before = node, fleet.held[node]
        if node == task.held_node:  # the active handoff holds the places already
            task.load_before -= portfolio.weight
            return
        fleet.hold(node, portfolio)
        fleet.expect(node, portfolio)
        if task.held_node is not None:
            fleet.expect(task.held_node, portfolio, -1)

    # Drains, pins and broken rules: within the limits

    def _move_off(self, task: PlacementTask) -> None:
        """Move a portfolio off a node that it should leave.

        Start the move; leave it to a later pass if the limits allow none now; or record the
        portfolio as stuck if no node takes it.
        """
        source = task.source
        assert source is not None
        if self._find_target(task, {source}) is None:
            self.worklist.stuck.append(Pending(task.portfolio, self.explain.why_stuck(task)))
            return
        node = None
        if self.moves_left > 0 and source not in self.handoff_slots.full:
            node = self._find_target(task, {source, *self.handoff_slots.full})
        if node is None:
            self.waiting = True
            return
        self._assign(task, node)
        self.fleet.expect(source, task.portfolio, -1)
        self.handoff_slots.take(node)
        self.handoff_slots.take(source)
        self.moves_left -= 1
        self.moved.append(task)

    def _find_target(self, task: PlacementTask, avoid: set[int]) -> int | None:
        """Return the node that the task would go to, except those in `avoid`, or None."""
        if task.only_node is None:
            return self.fleet.choose(task.portfolio, avoid)
        only = task.only_node
        if only in avoid or self.fleet.nodes[only].id in task.portfolio.failed_nodes:
            return None
        return only if self.fleet.is_allowed(only, task.portfolio) else None

    # Rebalance

    def _rebalance(self) -> bool:
        """Rebalance loads. Return whether a placement of this plan was reassigned."""
        reassigned = False
        moves_left = self.moves_left if self._may_rebalance() and self.snapshot.cpu is None else 0
        rebalancer = Rebalancer(
            self.fleet,
            self.planned,
            self.worklist.movable,
            self.worklist.lightest,
            self.policy.rebalance_gain,
            self.handoff_slots,
            moves_left,
        )
        for step in rebalancer.steps():
            portfolio, task = step.movable
            if task is not None:
                task.target, task.load_before = step.target, step.target_load
                reassigned = True
                continue
            self.worklist.running(step.source).remove(portfolio)
            loads = {"load_before": step.target_load, "source_load": step.source_load}
            self._add_move(portfolio, step, "rebalance", **loads)
        return reassigned

    def _rebalance_cpu(self) -> None:
        """Rebalance measured CPU by moving running portfolios, if the operator chose so."""
        cpu = self.snapshot.cpu
        if cpu is None or not self._may_rebalance():
            return
        ends = {end for task in (*self.placed, *self.moved) for end in (task.source, task.target)}
        rebalancer = CpuRebalancer(
            self.fleet,
            cpu,
            self.worklist.movable,
            self.policy.rebalance_gain,
            self.handoff_slots,
            {end for end in ends if end is not None},
        )
        for step in rebalancer.steps(self.moves_left):  # each step is in the loads already
            self.worklist.running(step.source).remove(step.portfolio)
            self._add_move(
                step.portfolio,
                step,
                "rebalance_cpu",
                load_before=self.fleet.expected[step.target] - step.portfolio.weight,
                source_load=self.fleet.expected[step.source] + step.portfolio.weight,
                cpu={
                    "share": step.share,
                    "source_cpu": step.source_cpu,
                    "target_cpu": step.target_cpu,
                },
            )

    def _may_rebalance(self) -> bool:
        """Return whether running portfolios may be rebalanced.

        A waiting drain or a portfolio that waits for room needs the room and the handoff slots more
        than the balance does, and during an incident nothing else should move.
        """
        return not self.waiting and not self._is_incident()

    def _is_incident(self) -> bool:
        """Return whether any failover is under way, held back or planned."""
        return self.worklist.has_failover or any(task.cause == "failover" for task in self.placed)

    # The plan

    def _build_plan(self) -> Plan:
        """Return the plan, with a reason for each entry. Reserved room is released first."""
        for node, portfolio in self.reserved:
            self.fleet.hold(node, portfolio, -1)
        place: list[Placement] = []
        move: list[Move] = []
        for task in (*self.placed, *self.moved):
            assert task.target is not None
            portfolio, target = task.portfolio, self.fleet.nodes[task.target]
            reason = self.explain.why(task)
            if task.cause is None:
                place.append(Placement(portfolio, target, reason, task.supersedes))
            else:
                source = self.fleet.node_by_id(portfolio.node)
                move.append(Move(portfolio, source, target, task.cause, reason, task.supersedes))
        unplaced = [
            Pending(task.portfolio, self.explain.why_unplaced(task)) for task in self.unplaced
        ]
        return Plan(
            place=tuple(place),
            move=tuple(move),
            pending=tuple(sorted((*unplaced, *self.worklist.pending), key=_placing_key)),
            stuck=tuple(sorted(self.worklist.stuck, key=_placing_key)),
            older=tuple(sorted(self.worklist.older, key=_placing_key)),
        )


def _placing_key(pending: Pending) -> tuple[float, float, str, int]:
    return placing_order(pending.portfolio)
