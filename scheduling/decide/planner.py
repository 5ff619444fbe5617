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
   what runs costs a move, and waits while anything is failed over.

Every rebalance move lowers the higher load of its two nodes and leaves the other below it, so
repeated passes end, and a plan without moves in which nobody is stuck, once applied, is followed
by an empty one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from scheduling.decide import obstacles
from scheduling.decide.evening import Evener, Resident
from scheduling.decide.fleet import Fleet
from scheduling.decide.room import Room, RoomFinder, Shift
from scheduling.decide.stock import Stock, should_run
from scheduling.decide.world import (
    Move,
    MoveCause,
    Need,
    Pending,
    Placement,
    Plan,
    Policy,
    PortfolioView,
    Reason,
    Snapshot,
)


def make_plan(snapshot: Snapshot, policy: Policy, stock: Stock | None = None) -> Plan:
    """Return what should be placed and moved, and what cannot be, each with its reason.

    Pure and deterministic: neither the order of nodes and portfolios in the snapshot matters, nor
    whether a `stock` of the snapshot's portfolios is handed in, which is read and not changed.
    O(k log m) for k portfolios that want something on m nodes, times the number of different
    capacities; taking stock of all n where none is handed in costs O(n).
    """
    return _Planner(snapshot, policy, stock or Stock.of(snapshot.portfolios)).plan()


def placing_order(portfolio: PortfolioView) -> tuple[float, float, str, int]:
    """The order in which portfolios get their places: the most important, then the heaviest."""
    return (-portfolio.priority, -portfolio.weight, portfolio.name, portfolio.id)


@dataclass(slots=True)
class _Wish:
    """A portfolio that should be somewhere else than it is, and what came of it."""

    portfolio: PortfolioView
    need: Need
    cause: MoveCause | None  #: None: it runs nowhere and is to be placed
    source: int | None = None
    supersedes: int | None = None
    prefer: int | None = None  #: a node that goes before all others, if it is allowed
    ready: int | None = None  #: a node where its handoff holds its places already
    only: int | None = None  #: the only node it wants
    why: str = ""  #: the code of the move's reason, where it is not the cause
    room_for: str = ""  #: the name of the one that a move makes room for
    target: int | None = None
    load_before: float = 0  #: of the target
    source_load: float = 0

    @property
    def leaving(self) -> bool:
        """Whether it runs, and should go elsewhere."""
        return self.cause in ("drain", "pin", "rebalance")


@dataclass(slots=True)
class _Sorted:
    """The portfolios by what should happen to them."""

    failover: list[_Wish] = field(default_factory=list)
    place: list[_Wish] = field(default_factory=list)
    drain: list[_Wish] = field(default_factory=list)
    pin: list[_Wish] = field(default_factory=list)
    misplaced: list[_Wish] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)
    stuck: list[Pending] = field(default_factory=list)


class _Planner:
    """One plan under way. Not to be used twice."""

    def __init__(self, snapshot: Snapshot, policy: Policy, stock: Stock) -> None:
        self.snapshot = snapshot
        self.policy = policy
        self.now = snapshot.taken_at
        self.stock = stock
        self.fleet = Fleet(snapshot, stock)
        self._running: dict[int, list[PortfolioView]] = {}
        self.wishes = _Sorted()
        self.busy: set[int] = {
            node for node, slots in enumerate(self.fleet.slots) if slots >= policy.handoffs_per_node
        }
        self.moves_left = 0 if snapshot.frozen else policy.max_moves
        self.waiting = False  #: a drain, pin or broken rule has to wait for its turn
        #: what runs may make room for what does not: not in a freeze or a storm
        self.may_make_room = (
            not (snapshot.frozen or snapshot.storm_hold or snapshot.storm_late)
            and not snapshot.after_storm
            and min(policy.max_moves, policy.handoffs_per_node) > 0
        )
        #: something is being failed over
        self.incident = snapshot.storm_hold or bool(snapshot.storm_late) or snapshot.after_storm
        self.placed: list[_Wish] = []
        self.moved: list[_Wish] = []
        self.homeless: list[_Wish] = []
        #: Node → what this plan places there itself and may aim elsewhere.
        self.fresh: dict[int, list[Resident]] = {}
        self.room = RoomFinder(self.fleet, self.fresh, self._movable)
        self.promised: list[tuple[int, PortfolioView]] = []  #: held only until this plan is made
        self.known_reasons: dict[tuple[object, ...], Reason] = {}

    def plan(self) -> Plan:
        self._take_stock()
        wishes = self.wishes
        failover = self._few_at_a_time(sorted(wishes.failover, key=_wish_order))
        new = failover + sorted(wishes.place, key=_wish_order)
        self.fleet.smallest_waiting = min(
            (w.portfolio.weight for w in (*new, *wishes.drain, *wishes.pin, *wishes.misplaced)),
            default=0,
        )
        self._place(new)
        self._make_room()
        self.incident = self.incident or any(wish.cause == "failover" for wish in self.placed)
        for wish in (
            *sorted(wishes.drain, key=_wish_order),
            *sorted(wishes.pin, key=_wish_order),
            *sorted(wishes.misplaced, key=_wish_order),
        ):
            self._lead_away(wish)
        evened = self._even_out()
        # Aiming a placement anew can open room where something still waits: try those again.
        while evened and self.homeless and self._place_homeless():
            evened = self._even_out()
        return self._write_down()

    # Stock: who is where, who holds what, who should be elsewhere

    def _take_stock(self) -> None:
        others = self.fleet.others()
        for portfolio in others:
            wish = self._lost_or_nowhere(portfolio)
            owner = self.fleet.hold_places(portfolio)
            if wish is not None:
                self._sort_in(wish)
            elif owner is not None and portfolio.handoff is None and should_run(portfolio):
                self._check_where_it_runs(portfolio, owner)
        self._part_crowded({other.spread_group for other in others if other.spread_group})

    def running(self, node: int) -> list[PortfolioView]:
        """Return what runs on a node and may be moved to even out loads, as a list to take from."""
        known = self._running.get(node)
        if known is None:
            known = self._running[node] = self.fleet.share(node)
        return known

    def _part_crowded(self, stirred: set[str]) -> None:
        """Where members of a hard spread group share a node (it was made hard later), one stays.

        `stirred` are the groups with members outside the stock's shares.
        """
        fleet = self.fleet
        places = {(group, fleet.number.get(node_id)) for group, node_id in self.stock.crowded}
        for group in stirred:
            places |= {(group, node) for node, n in fleet.members(group).items() if n > 1}
        for group, node in places:
            if node is None:
                continue
            sharing = [p for p in self.running(node) if p.spread_hard and p.spread_group == group]
            sharing.sort(key=placing_order)
            stays = 1 if len(sharing) == fleet.members(group).get(node) else 0
            for portfolio in sharing[stays:]:
                self.running(node).remove(portfolio)
                self._wants_away(self.wishes.misplaced, portfolio, node, "rebalance", why="spread")

    def _lost_or_nowhere(self, portfolio: PortfolioView) -> _Wish | None:
        """Return the wish of a portfolio that should run and has no living owner, else None."""
        if not should_run(portfolio):
            return None
        fleet, handoff = self.fleet, portfolio.handoff
        if fleet.where(portfolio.node) is not None:
            return None
        ready = None
        if handoff is not None:
            target = fleet.where(handoff.target)
            if handoff.kind == "stop":
                return None  # it outranks failover
            if target is not None and handoff.kind in ("failover", "place"):
                self.incident = self.incident or handoff.kind == "failover"
                return None  # help is on its way
            # Of a migrate: the target has prepared it, or after the grant the source is still warm.
            ready = fleet.where(handoff.source) if target is None else target
        return _Wish(
            portfolio,
            portfolio.need,
            cause=None if portfolio.node is None else "failover",
            source=None if portfolio.node is None else fleet.number.get(portfolio.node),
            supersedes=None if handoff is None else handoff.id,
            prefer=fleet.where(portfolio.pinned) if portfolio.node is None else ready,
            ready=ready,
        )

    def _sort_in(self, wish: _Wish) -> None:
        """Put a wish for a place where it belongs, or say why it has to wait."""
        portfolio, snapshot = wish.portfolio, self.snapshot
        failover = wish.cause == "failover"
        held = None
        if failover and snapshot.frozen and snapshot.frozen_failover:
            held = "frozen_failover"
        elif failover and snapshot.storm_hold:
            held = "storm_hold"
        elif failover and snapshot.storm_late:
            held = "storm_late"
        if held is not None:
            self._hold_back(wish, held, by=snapshot.storm_by, late=list(snapshot.storm_late))
        elif _backs_off(portfolio, self.now):
            self.wishes.pending.append(Pending(portfolio, _backing_off(portfolio, self.now)))
        else:
            (self.wishes.failover if failover else self.wishes.place).append(wish)

    def _hold_back(self, wish: _Wish, why: str, **params: object) -> None:
        source = self.fleet.node_of(wish.portfolio.node)
        reason = Reason(why, {"node": source.name if source else None, **params})
        self.wishes.pending.append(Pending(wish.portfolio, reason))

    def _few_at_a_time(self, failover: list[_Wish]) -> list[_Wish]:
        """Return those whose turn it is: all, or after a storm the first few of this pass."""
        if not self.snapshot.after_storm:
            return failover
        limit = self.policy.failovers_after_storm
        for wish in failover[limit:]:
            self._hold_back(wish, "after_storm", limit=limit)
        return failover[:limit]

    def _check_where_it_runs(self, portfolio: PortfolioView, node: int) -> None:
        """Note what would make a running portfolio leave, or that it may be moved to even loads."""
        fleet, wishes = self.fleet, self.wishes
        pin = self._pin(portfolio)
        if fleet.nodes[node].draining:
            self._wants_away(wishes.drain, portfolio, node, "drain")
        elif pin == node:
            return
        elif pin is not None:
            self._wants_away(wishes.pin, portfolio, node, "pin", only=pin)
        elif not fleet.meets(portfolio.need)[node]:
            self._wants_away(wishes.misplaced, portfolio, node, "rebalance", why="rule_broken")
        else:
            self.running(node).append(portfolio)

    def _pin(self, portfolio: PortfolioView) -> int | None:
        """Return the number of the node it is pinned to, or None. One that left is no pin."""
        view = self.fleet.node_of(portfolio.pinned)
        return None if view is None or view.status == "left" else self.fleet.number[view.id]

    def _wants_away(
        self,
        bucket: list[_Wish],
        portfolio: PortfolioView,
        node: int,
        cause: MoveCause,
        only: int | None = None,
        why: str = "",
    ) -> None:
        if self.snapshot.frozen:
            self.wishes.stuck.append(Pending(portfolio, Reason("frozen", {"cause": cause})))
        elif _backs_off(portfolio, self.now):
            self.wishes.stuck.append(Pending(portfolio, _backing_off(portfolio, self.now)))
        else:
            bucket.append(_Wish(portfolio, portfolio.need, cause, node, only=only, why=why))

    # Failover and placing: no limits

    def _place(self, wishes: list[_Wish]) -> None:
        for wish in wishes:
            node = self._preferred(wish)
            if node is None:
                node = self.fleet.choose(wish.portfolio, wish.need)
            if node is None:
                node = self._room_now(wish)
            if node is None:
                if not self._promise(wish, self.room.coming):
                    self.homeless.append(wish)
                continue
            self._aim(wish, node)
            self._slots(node, 1)
            self.placed.append(wish)
            self.room.changed()
            if node != wish.prefer and (wish.cause or self._pin(wish.portfolio) is None):
                self.fresh.setdefault(node, []).append(Resident(wish.portfolio, wish))

    def _room_now(self, wish: _Wish) -> int | None:
        """Return a node that has room once others of this plan are aimed elsewhere, or None."""
        found = self.room.now(wish.portfolio) if wish.ready is None else None
        if found is None:
            return None
        for shift in found.shifts:
            self._aim_anew(shift)
        return found.node

    def _make_room(self) -> None:
        """Begin moves for those that found no room, where a next pass then places them."""
        self.homeless = [w for w in self.homeless if not self._promise(w, self.room.soon)]

    def _promise(self, wish: _Wish, find: Callable[[PortfolioView], Room | None]) -> bool:
        """Hold room for it that is free in a while, and begin the moves that make it so.

        What cannot begin yet is held for it all the same, so that nothing else of this plan takes
        its room. Return False where there is none to be had.
        """
        found = find(wish.portfolio) if self.may_make_room and wish.ready is None else None
        if found is None:
            return False
        fleet, portfolio = self.fleet, wish.portfolio
        self.waiting = True
        for shift in found.shifts:
            if shift.resident.fresh:
                self._aim_anew(shift)
                continue
            self.running(shift.source).remove(shift.resident.portfolio)
            if not self._begin(shift, portfolio):
                self.promised.append((shift.target, shift.resident.portfolio))
        fleet.hold(found.node, portfolio)
        fleet.expect(found.node, portfolio)
        self.promised.append((found.node, portfolio))
        moves = [
            {"portfolio": portfolio.name, "target": fleet.nodes[target].name}
            for (portfolio, fresh), _, target, *_ in found.shifts
            if fresh is None
        ]
        params = {
            "weight": portfolio.weight,
            "node": fleet.nodes[found.node].name,
            "moves": moves,
        }
        self.wishes.pending.append(Pending(portfolio, Reason("waits_for_room", params)))
        return True

    def _begin(self, shift: Shift, waiting: PortfolioView) -> bool:
        """Begin a move that makes room, if it fits and the limits let it. It is counted already."""
        source, target = shift.source, shift.target
        if (
            not shift.fits
            or self.moves_left <= 0
            or self.policy.rebalance_gain == inf
            or not self.busy.isdisjoint((source, target))
        ):
            return False
        self.moves_left -= 1
        self._slots(source, 1)
        self._slots(target, 1)
        portfolio = shift.resident.portfolio
        self.moved.append(
            _Wish(
                portfolio,
                portfolio.need,
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

    def _aim_anew(self, shift: Shift) -> None:
        """Let a placement of this plan go elsewhere. It is counted already."""
        portfolio, wish = shift.resident
        wish.target, wish.load_before = shift.target, shift.target_load
        self.fresh[shift.source].remove(shift.resident)
        self.fresh.setdefault(shift.target, []).append(Resident(portfolio, wish))
        self._slots(shift.source, -1)
        self._slots(shift.target, 1)
        self.fleet.forget_pools()  # a held load went down

    def _preferred(self, wish: _Wish) -> int | None:
        node, fleet = wish.prefer, self.fleet
        if (
            node is None
            or not fleet.alive[node]
            or fleet.nodes[node].id in wish.portfolio.failed_nodes
        ):
            return None
        if node != wish.ready:
            return node if fleet.allowed(node, wish.portfolio, wish.need) else None
        fleet.hold(node, wish.portfolio, -1)  # its own places do not stand in its way
        allowed = fleet.allowed(node, wish.portfolio, wish.need)
        fleet.hold(node, wish.portfolio)
        return node if allowed else None

    def _place_homeless(self) -> bool:
        """Try again to place what found no room. Return whether anything did this time."""
        before, self.homeless = self.homeless, []
        self.fleet.forget_pools()
        self._place(before)
        return len(self.homeless) < len(before)

    def _aim(self, wish: _Wish, node: int) -> None:
        fleet, portfolio = self.fleet, wish.portfolio
        wish.target, wish.load_before = node, fleet.held[node]
        if node == wish.ready:
            wish.load_before -= portfolio.weight
            return
        fleet.hold(node, portfolio)
        fleet.expect(node, portfolio)
        if wish.ready is not None:
            fleet.expect(wish.ready, portfolio, -1)

    def _slots(self, node: int, change: int) -> None:
        self.fleet.slots[node] += change
        if self.fleet.slots[node] >= self.policy.handoffs_per_node:
            self.busy.add(node)
        else:
            self.busy.discard(node)

    # Drain, pins, broken rules: within the limits

    def _lead_away(self, wish: _Wish) -> None:
        """Find a target and start the move, or let it wait its turn, or say that it is stuck."""
        source = wish.source
        assert source is not None
        if not self._has_place(wish):
            self.wishes.stuck.append(Pending(wish.portfolio, self._why_stuck(wish)))
            return
        node = None
        if self.moves_left > 0 and source not in self.busy:
            node = self._find(wish, {source, *self.busy})
        if node is None:
            self.waiting = True
            return
        self._aim(wish, node)
        self.fleet.expect(source, wish.portfolio, -1)
        self._slots(node, 1)
        self._slots(source, 1)
        self.moves_left -= 1
        self.moved.append(wish)

    def _has_place(self, wish: _Wish) -> bool:
        assert wish.source is not None
        return self._find(wish, {wish.source}) is not None

    def _find(self, wish: _Wish, avoid: set[int]) -> int | None:
        if wish.only is None:
            return self.fleet.choose(wish.portfolio, wish.need, avoid)
        only = wish.only
        if only in avoid or self.fleet.nodes[only].id in wish.portfolio.failed_nodes:
            return None
        return only if self.fleet.allowed(only, wish.portfolio, wish.need) else None

    def _why_stuck(self, wish: _Wish) -> Reason:
        if wish.only is not None:
            return obstacles.why_not_there(self.fleet, wish.portfolio, wish.only)
        return self._why_nowhere(wish)

    # Even loads

    def _even_out(self) -> bool:
        """Even out the loads. Return whether a placement of this plan was aimed elsewhere."""
        aimed_anew = False
        # A drain that waits for its turn, or what waits for room, needs room and slots more than
        # evenness does, and during an incident nobody wants to see anything else move.
        calm = not self.waiting and not self.incident
        moves_left = self.moves_left if calm else 0
        evener = Evener(self.fleet, self.fresh, self._movable, self.policy, self.busy, moves_left)
        for step in evener.steps():
            portfolio, wish = step.resident
            if wish is not None:
                wish.target, wish.load_before = step.target, step.target_load
                aimed_anew = True
                continue
            self.moves_left -= 1
            self.running(step.source).remove(portfolio)
            self.moved.append(
                _Wish(
                    portfolio,
                    portfolio.need,
                    "rebalance",
                    step.source,
                    why="rebalance",
                    target=step.target,
                    load_before=step.target_load,
                    source_load=step.source_load,
                )
            )
        return aimed_anew

    def _movable(self, node: int) -> list[PortfolioView]:
        now = self.now
        return [p for p in self.running(node) if p.phase == "running" and not _backs_off(p, now)]

    # The plan

    def _write_down(self) -> Plan:
        for node, portfolio in self.promised:
            self.fleet.hold(node, portfolio, -1)
        place: list[Placement] = []
        move: list[Move] = []
        for wish in (*self.placed, *self.moved):
            assert wish.target is not None
            portfolio, target, reason = (
                wish.portfolio,
                self.fleet.nodes[wish.target],
                self._why(wish),
            )
            if wish.cause is None:
                place.append(Placement(portfolio, target, reason, wish.supersedes))
            else:
                source = self.fleet.node_of(portfolio.node)
                move.append(Move(portfolio, source, target, wish.cause, reason, wish.supersedes))
        homeless = [Pending(wish.portfolio, self._why_nowhere(wish)) for wish in self.homeless]
        return Plan(
            place=tuple(place),
            move=tuple(move),
            pending=tuple(sorted((*homeless, *self.wishes.pending), key=_pending_order)),
            stuck=tuple(sorted(self.wishes.stuck, key=_pending_order)),
        )

    def _why(self, wish: _Wish) -> Reason:
        """Return the reason of a placement or move, with the loads it was decided on."""
        assert wish.target is not None
        portfolio, target = wish.portfolio, self.fleet.nodes[wish.target]
        source = self.fleet.node_of(portfolio.node)
        if wish.target in (wish.prefer, wish.only):
            how = "pinned" if wish.cause in (None, "pin") else "prepared"
        elif target.id in portfolio.failed_nodes:
            how = "failed"
        else:
            how = "lowest" if target.status == "alive" else "suspect"
        pin = self._pin(portfolio) if wish.cause is None and how != "pinned" else None
        return Reason(
            wish.why or wish.cause or "place",
            {
                "how": how,
                "of": self.fleet.choices(wish.need),
                "target": target.name,
                "load_before": wish.load_before,
                "load_after": wish.load_before + portfolio.weight,
                "capacity": target.capacity,
                "source": source.name if source else None,
                "source_status": source.status if source else None,
                "source_load": wish.source_load,
                "for": wish.room_for,
                "source_capacity": source.capacity if source else None,
                "weight": portfolio.weight,
                "group": portfolio.spread_group or "",
                "pinned": self.fleet.nodes[pin].name if pin is not None else None,
            },
        )

    def _why_nowhere(self, wish: _Wish) -> Reason:
        """Return why no node takes it. Worked out once for all that ask for the same."""
        portfolio = wish.portfolio
        group = portfolio.spread_group if portfolio.spread_hard else None
        alike = (wish.need, portfolio.weight, group, wish.source if wish.leaving else None)
        reason = self.known_reasons.get(alike)
        if reason is None:
            reason = obstacles.why_nowhere(self.fleet, portfolio, wish.need, alike[3])
            self.known_reasons[alike] = reason
        return reason


def _by_name(portfolio: PortfolioView) -> tuple[str, int]:
    return (portfolio.name, portfolio.id)


def _wish_order(wish: _Wish) -> tuple[float, float, str, int]:
    return placing_order(wish.portfolio)


def _pending_order(pending: Pending) -> tuple[float, float, str, int]:
    return placing_order(pending.portfolio)


def _backs_off(portfolio: PortfolioView, now: float) -> bool:
    return portfolio.not_before is not None and now < portfolio.not_before


def _backing_off(portfolio: PortfolioView, now: float) -> Reason:
    assert portfolio.not_before is not None
    return Reason("backing_off", {"wait_s": portfolio.not_before - now})
