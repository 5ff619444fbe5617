"""Snapshot in, plan out.

The order of wishes, each kept by every later one:

1. What runs stays, unless its node is lost or drains, its pin points elsewhere, or a rule
   (selector, versions, hard spread group) no longer holds for it there.
2. Failover, then what runs nowhere: by priority, then weight, then name, each to the node that is
   least loaded once it holds it. Where none has room, others make it: what this plan places itself
   is aimed elsewhere, else what runs moves, the fewest and least important, within the limits.
3. Drain, pins, broken rules: make-before-break, so within the limits of the policy.
4. Even loads: between two nodes whose relative loads differ by `rebalance_gain` or more, the move
   that lowers the higher of the two most. What this plan places itself is aimed anew for nothing;
   what runs costs a move, and waits while anything is failed over. Where the operator chose cpu,
   what runs is evened out by that alone (`decide/planner/rebalance_cpu.py`).

Every rebalance move lowers the higher load of its two nodes and leaves the other below it, so
repeated passes end, and a plan without moves in which nobody is stuck, once applied, is followed
by an empty one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from scheduling.decide.planner.explain import Explainer
from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.planner.handoff_slots import HandoffSlots
from scheduling.decide.planner.make_room import Relocation, Room, RoomFinder
from scheduling.decide.planner.rebalance import Movable, Rebalancer
from scheduling.decide.planner.rebalance_cpu import CpuRebalancer
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


def make_plan(snapshot: Snapshot, policy: Policy, stock: FleetIndex | None = None) -> Plan:
    """Return what should be placed and moved, and what cannot be, each with its reason.

    Pure and deterministic: neither the order of nodes and portfolios in the snapshot matters, nor
    whether a `stock` of the snapshot's portfolios is handed in, which is read and not changed.
    O(k log m) for k portfolios that want something on m nodes, times the number of different
    capacities; taking stock of all n where none is handed in costs O(n).
    """
    return _Planner(snapshot, policy, stock or FleetIndex.of(snapshot.portfolios)).plan()


class _Planner:
    """One plan under way. Not to be used twice."""

    def __init__(self, snapshot: Snapshot, policy: Policy, stock: FleetIndex) -> None:
        self.snapshot = snapshot
        self.policy = policy
        self.fleet = FleetState(snapshot, stock)
        self.worklist = Worklist(snapshot, policy, self.fleet)
        self.slots = HandoffSlots(self.fleet.nodes, policy.handoffs_per_node)
        self.moves_left = 0 if snapshot.frozen else policy.max_moves
        self.waiting = False  #: a drain, pin or broken rule has to wait for its turn
        #: what runs may make room for what does not: not in a freeze or a storm
        self.may_make_room = (
            not (snapshot.frozen or snapshot.storm_hold or snapshot.storm_late)
            and not snapshot.after_storm
            and min(policy.max_moves, policy.handoffs_per_node) > 0
        )
        self.placed: list[PlacementTask] = []
        self.moved: list[PlacementTask] = []
        self.unplaced: list[PlacementTask] = []
        #: Node → what this plan places there itself and may aim elsewhere.
        self.planned: dict[int, list[Movable]] = {}
        self.room = RoomFinder(self.fleet, self.planned, self.worklist.movable)
        self.reserved: list[tuple[int, PortfolioView]] = []  #: held only until this plan is made
        self.explain = Explainer(self.fleet)

    def plan(self) -> Plan:
        nowhere, away = self.worklist.to_place(), self.worklist.to_relocate()
        self.fleet.smallest_waiting = min(
            (wish.portfolio.weight for wish in (*nowhere, *away)), default=0
        )
        self._place(nowhere)
        self._make_room()
        for wish in away:
            self._relocate(wish)
        evened = self._rebalance()
        # Aiming a placement anew can open room where something still waits: try those again.
        while evened and self.unplaced and self._retry_unplaced():
            evened = self._rebalance()
        self._rebalance_cpu()
        return self._build_plan()

    # Failover and placing: no limits

    def _place(self, wishes: list[PlacementTask]) -> None:
        for wish in wishes:
            node = self._preferred(wish)
            if node is None:
                node = self.fleet.choose(wish.portfolio)
            if node is None:
                node = self._room_by_reassigning(wish)
            if node is None:
                if not self._reserve(wish, self.room.already_coming):
                    self.unplaced.append(wish)
                continue
            self._assign(wish, node)
            self.slots.take(node)
            self.placed.append(wish)
            self.room.plan_changed()
            if node != wish.prefer and (
                wish.cause or self.fleet.pinned_node(wish.portfolio) is None
            ):
                self.planned.setdefault(node, []).append(Movable(wish.portfolio, wish))

    def _room_by_reassigning(self, wish: PlacementTask) -> int | None:
        """Return a node that has room once others of this plan are aimed elsewhere, or None."""
        found = self.room.by_reassigning(wish.portfolio) if wish.ready is None else None
        if found is None:
            return None
        for shift in found.relocations:
            self._reassign(shift)
        return found.node

    def _make_room(self) -> None:
        """Begin moves for those that found no room, where a next pass then places them."""
        self.unplaced = [w for w in self.unplaced if not self._reserve(w, self.room.by_moving)]

    def _reserve(self, wish: PlacementTask, find: Callable[[PortfolioView], Room | None]) -> bool:
        """Hold room for it that is free in a while, and begin the moves that make it so.

        What cannot begin yet is held for it all the same, so that nothing else of this plan takes
        its room. Return False where there is none to be had.
        """
        found = find(wish.portfolio) if self.may_make_room and wish.ready is None else None
        if found is None:
            return False
        fleet, portfolio = self.fleet, wish.portfolio
        self.waiting = True
        for shift in found.relocations:
            if shift.movable.is_planned:
                self._reassign(shift)
                continue
            self.worklist.running(shift.source).remove(shift.movable.portfolio)
            if not self._begin_relocation(shift, portfolio):
                self.reserved.append((shift.target, shift.movable.portfolio))
        fleet.hold(found.node, portfolio)
        fleet.expect(found.node, portfolio)
        self.reserved.append((found.node, portfolio))
        moves = [
            {"portfolio": portfolio.name, "target": fleet.nodes[target].name}
            for (portfolio, fresh), _, target, *_ in found.relocations
            if fresh is None
        ]
        params = {
            "weight": portfolio.weight,
            "node": fleet.nodes[found.node].name,
            "moves": moves,
        }
        self.worklist.pending.append(Pending(portfolio, Reason("waits_for_room", params)))
        return True

    def _begin_relocation(self, shift: Relocation, waiting: PortfolioView) -> bool:
        """Begin a move that makes room, if it fits and the limits let it. It is counted already."""
        source, target = shift.source, shift.target
        if (
            not shift.fits
            or self.moves_left <= 0
            or self.policy.rebalance_gain == inf
            or not self.slots.full.isdisjoint((source, target))
        ):
            return False
        self.moves_left -= 1
        self.slots.take(source)
        self.slots.take(target)
        portfolio = shift.movable.portfolio
        self.moved.append(
            PlacementTask(
                portfolio,
                "rebalance",
                source,
                why="makes_room",
                room_for=waiting.name,
                target=target,
                load_before=shift.target_load,
                source_load=shift.source_load,
            )
        )
        return True

    def _reassign(self, shift: Relocation) -> None:
        """Let a placement of this plan go elsewhere. It is counted already."""
        portfolio, wish = shift.movable
        wish.target, wish.load_before = shift.target, shift.target_load
        self.planned[shift.source].remove(shift.movable)
        self.planned.setdefault(shift.target, []).append(Movable(portfolio, wish))
        self.slots.give_back(shift.source)
        self.slots.take(shift.target)
        self.fleet.invalidate_pools()  # a held load went down

    def _preferred(self, wish: PlacementTask) -> int | None:
        node, fleet = wish.prefer, self.fleet
        if (
            node is None
            or not fleet.alive[node]
            or fleet.nodes[node].id in wish.portfolio.failed_nodes
        ):
            return None
        if node != wish.ready:
            return node if fleet.is_allowed(node, wish.portfolio) else None
        fleet.hold(node, wish.portfolio, -1)  # its own places do not stand in its way
        allowed = fleet.is_allowed(node, wish.portfolio)
        fleet.hold(node, wish.portfolio)
        return node if allowed else None

    def _retry_unplaced(self) -> bool:
        """Try again to place what found no room. Return whether anything did this time."""
        before, self.unplaced = self.unplaced, []
        self.fleet.invalidate_pools()
        self._place(before)
        return len(self.unplaced) < len(before)

    def _assign(self, wish: PlacementTask, node: int) -> None:
        fleet, portfolio = self.fleet, wish.portfolio
        wish.target, wish.load_before = node, fleet.held[node]
        if node == wish.ready:
            wish.load_before -= portfolio.weight
            return
        fleet.hold(node, portfolio)
        fleet.expect(node, portfolio)
        if wish.ready is not None:
            fleet.expect(wish.ready, portfolio, -1)

    # Drain, pins, broken rules: within the limits

    def _relocate(self, wish: PlacementTask) -> None:
        """Find a target and start the move, or let it wait its turn, or say that it is stuck."""
        source = wish.source
        assert source is not None
        if not self._has_target(wish):
            self.worklist.stuck.append(Pending(wish.portfolio, self.explain.why_stuck(wish)))
            return
        node = None
        if self.moves_left > 0 and source not in self.slots.full:
            node = self._find_target(wish, {source, *self.slots.full})
        if node is None:
            self.waiting = True
            return
        self._assign(wish, node)
        self.fleet.expect(source, wish.portfolio, -1)
        self.slots.take(node)
        self.slots.take(source)
        self.moves_left -= 1
        self.moved.append(wish)

    def _has_target(self, wish: PlacementTask) -> bool:
        assert wish.source is not None
        return self._find_target(wish, {wish.source}) is not None

    def _find_target(self, wish: PlacementTask, avoid: set[int]) -> int | None:
        if wish.only is None:
            return self.fleet.choose(wish.portfolio, avoid)
        only = wish.only
        if only in avoid or self.fleet.nodes[only].id in wish.portfolio.failed_nodes:
            return None
        return only if self.fleet.is_allowed(only, wish.portfolio) else None

    # Even loads

    def _rebalance(self) -> bool:
        """Even out the loads. Return whether a placement of this plan was aimed elsewhere."""
        aimed_anew = False
        moves_left = self.moves_left if self._may_rebalance() and self.snapshot.cpu is None else 0
        evener = Rebalancer(
            self.fleet,
            self.planned,
            self.worklist.movable,
            self.worklist.lightest,
            self.policy.rebalance_gain,
            self.slots,
            moves_left,
        )
        for step in evener.steps():
            portfolio, wish = step.movable
            if wish is not None:
                wish.target, wish.load_before = step.target, step.target_load
                aimed_anew = True
                continue
            self.moves_left -= 1
            self.worklist.running(step.source).remove(portfolio)
            self.moved.append(
                PlacementTask(
                    portfolio,
                    "rebalance",
                    step.source,
                    why="rebalance",
                    target=step.target,
                    load_before=step.target_load,
                    source_load=step.source_load,
                )
            )
        return aimed_anew

    def _rebalance_cpu(self) -> None:
        """Even out how busy machines are, by moves of what runs, where the operator chose so."""
        cpu = self.snapshot.cpu
        if cpu is None or not self._may_rebalance():
            return
        ends = {end for wish in (*self.placed, *self.moved) for end in (wish.source, wish.target)}
        evener = CpuRebalancer(
            self.fleet,
            cpu,
            self.worklist.movable,
            self.policy.rebalance_gain,
            self.slots,
            {end for end in ends if end is not None},
        )
        for step in evener.steps(self.moves_left):
            self.moves_left -= 1
            self.worklist.running(step.source).remove(step.portfolio)
            figures = {
                "share": step.share,
                "source_cpu": step.source_cpu,
                "target_cpu": step.target_cpu,
            }
            self.moved.append(
                PlacementTask(
                    step.portfolio,
                    "rebalance",
                    step.source,
                    why="rebalance_cpu",
                    target=step.target,
                    load_before=self.fleet.expected[step.target] - step.portfolio.weight,
                    source_load=self.fleet.expected[step.source] + step.portfolio.weight,
                    cpu=figures,
                )
            )

    def _may_rebalance(self) -> bool:
        """Whether anything may be evened out that costs a move.

        A drain that waits for its turn, or what waits for room, needs room and slots more than
        evenness does, and during an incident nobody wants to see anything else move.
        """
        return not self.waiting and not self._is_incident()

    def _is_incident(self) -> bool:
        """Whether anything is failed over, held back from it, or about to be."""
        return self.worklist.incident or any(wish.cause == "failover" for wish in self.placed)

    # The plan

    def _build_plan(self) -> Plan:
        for node, portfolio in self.reserved:
            self.fleet.hold(node, portfolio, -1)
        place: list[Placement] = []
        move: list[Move] = []
        for wish in (*self.placed, *self.moved):
            assert wish.target is not None
            portfolio, target, reason = (
                wish.portfolio,
                self.fleet.nodes[wish.target],
                self.explain.why(wish),
            )
            if wish.cause is None:
                place.append(Placement(portfolio, target, reason, wish.supersedes))
            else:
                source = self.fleet.node_by_id(portfolio.node)
                move.append(Move(portfolio, source, target, wish.cause, reason, wish.supersedes))
        homeless = [
            Pending(wish.portfolio, self.explain.why_unplaced(wish)) for wish in self.unplaced
        ]
        return Plan(
            place=tuple(place),
            move=tuple(move),
            pending=tuple(sorted((*homeless, *self.worklist.pending), key=_pending_order)),
            stuck=tuple(sorted(self.worklist.stuck, key=_pending_order)),
            older=tuple(sorted(self.worklist.older, key=_pending_order)),
        )


def _pending_order(pending: Pending) -> tuple[float, float, str, int]:
    return placing_order(pending.portfolio)
