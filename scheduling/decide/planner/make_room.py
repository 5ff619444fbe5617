"""Room for one that found none: which others would have to go elsewhere, the fewest first.

What this very plan places goes elsewhere for nothing, so that is looked for first (`now`). Then
what runs (`soon`), once everything that fits has its place: a move takes a while, and until it is
done it holds places at both ends. So the search is made among the loads that are expected once
everything under way is done. A step that does not fit yet waits for another one; a pass that comes
while steps are under way finds that room is `coming`, and begins nothing beside them.

A search is an augmenting one with at most `MAX_STEPS` steps: one or two leave the node, or one
does whose own target is cleared by another one first. It tries the nodes that lack least, and ends
at a number of looks, so that a full fleet with much pending does not keep a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import nsmallest
from itertools import combinations
from typing import Any, NamedTuple

from scheduling.decide.planner.candidate_pool import NO_CAPACITY, SLACK
from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.planner.rebalance import Movable
from scheduling.decide.types import PortfolioView, Requirements

MAX_STEPS = 2
MAX_NODES = 16  #: on which room is looked for, of those that could hold it
MAX_MOVABLES = 12  #: of one node that are asked to go
MAX_CHECKS = 60_000  #: at a node, in one plan


class Relocation(NamedTuple):
    """One that goes elsewhere. Loads are the expected ones before it."""

    movable: Movable
    source: int
    target: int
    source_load: float
    target_load: float
    fits: bool  #: it can go at once; else it waits for what comes before it


class Room(NamedTuple):
    """A node and what makes room on it, already counted in the fleet."""

    node: int
    relocations: list[Relocation]


class RoomFinder:
    """Looks for room in one plan under way."""

    def __init__(
        self,
        fleet: FleetState,
        planned: dict[int, list[Movable]],
        running: Callable[[int], list[PortfolioView]],
    ) -> None:
        self.fleet = fleet
        self.fresh = planned
        self.running = running
        self.checks_left = MAX_CHECKS
        self._moves = False  #: whether what runs may go, too
        self._load = fleet.held
        self._relocated: set[int] = set()  #: portfolios that go elsewhere in the search under way
        self._undo: list[tuple[Any, Any, Any]] = []
        self._known_failures: set[tuple[object, ...]] = set()
        self._eligible: dict[Requirements, list[int]] = {}

    def by_reassigning(self, portfolio: PortfolioView) -> Room | None:
        """Return where it fits once others that this plan places are aimed elsewhere, or None."""
        self._moves, self._load = False, self.fleet.held
        return self._search(portfolio, range(1, MAX_STEPS + 1))

    def already_coming(self, portfolio: PortfolioView) -> Room | None:
        """Return where it will fit once what is under way is done, or None."""
        self._moves, self._load = True, self.fleet.expected
        return self._search(portfolio, range(1))

    def by_moving(self, portfolio: PortfolioView) -> Room | None:
        """Return where it will fit once moves of what runs are done, or None."""
        self._moves, self._load = True, self.fleet.expected
        return self._search(portfolio, range(1, MAX_STEPS + 1))

    def plan_changed(self) -> None:
        """Note that the plan changed: what found no room may find some now."""
        self._known_failures.clear()

    def _search(self, portfolio: PortfolioView, steps: range) -> Room | None:
        group = portfolio.spread_group if portfolio.spread_hard else None
        kind = (portfolio.requirements, portfolio.weight, group, portfolio.failed_nodes)
        alike = (self._moves, steps, *kind)
        if alike in self._known_failures or not (self._moves or self.fresh):
            return None
        for most in steps:
            for node in self._closest_to_fitting(portfolio, frozenset()):
                shifts = self._clear_node(node, portfolio, most, frozenset({node}))
                if shifts is not None:
                    self._undo.clear()
                    self._relocated.clear()
                    self.plan_changed()
                    return Room(node, shifts)
        self._known_failures.add(alike)
        return None

    def _closest_to_fitting(self, portfolio: PortfolioView, barred: frozenset[int]) -> list[int]:
        """Return the nodes that lack the fewest places for it, best first."""
        fleet, load = self.fleet, self._load
        nodes = [node for node in self._possible_nodes(portfolio) if node not in barred]
        return nsmallest(MAX_NODES, nodes, key=lambda n: (load[n] - fleet.capacity[n], n))

    def _possible_nodes(self, portfolio: PortfolioView) -> Iterator[int]:
        """Yield nodes that could hold it if they had room. None once there were enough looks."""
        fleet, need = self.fleet, portfolio.requirements
        nodes = self._eligible.get(need)
        if nodes is None:
            nodes = self._eligible[need] = fleet.eligible_nodes(need)
        self.checks_left -= 1 + len(nodes)
        if self.checks_left < 0:
            return
        for node in nodes:
            if (
                fleet.nodes[node].id not in portfolio.failed_nodes
                and portfolio.weight <= fleet.capacity[node] + SLACK
            ):
                yield node

    def _clear_node(
        self, node: int, portfolio: PortfolioView, most: int, barred: frozenset[int]
    ) -> list[Relocation] | None:
        """Return at most `most` shifts after which it fits on `node`, or None, nothing changed."""
        missing = self._missing_places(node, portfolio)
        beside = self._conflicting_members(node, portfolio)
        if missing <= 0 and not beside:
            return []
        residents = self._movables_on(node) if most else []
        for size in range(1, most + 1):
            for leaving in combinations(residents, size):
                self.checks_left -= 1
                if sum(each.portfolio.weight for each in leaving) < missing - SLACK:
                    continue
                members = [p for p, _ in leaving if p.spread_group == portfolio.spread_group]
                if beside > len(members):
                    continue
                mark = len(self._undo)
                shifts = self._relocate_all(node, leaving, most - size, barred)
                if shifts is not None:
                    return shifts
                self._undo_to(mark)
        return None

    def _relocate_all(
        self, node: int, leaving: tuple[Movable, ...], spare: int, barred: frozenset[int]
    ) -> list[Relocation] | None:
        """Return the shifts that bring all of them elsewhere, or None."""
        shifts: list[Relocation] = []
        for resident in leaving:
            target, before = self._find_target(resident, barred), list[Relocation]()
            if target is None and spare:
                found = self._find_clearable_target(resident, spare, barred)
                if found is not None:
                    target, before = found
                    spare -= len(before)
            if target is None:
                return None
            shifts += [*before, self._apply(resident, node, target)]
        return shifts

    def _find_target(self, resident: Movable, barred: frozenset[int]) -> int | None:
        """Return the node that is least loaded once it holds it, or None where none has room."""
        fleet, load, portfolio = self.fleet, self._load, resident.portfolio
        found = [
            ((load[node] + portfolio.weight) / (fleet.capacity[node] or NO_CAPACITY), node)
            for node in self._possible_nodes(portfolio)
            if node not in barred
            and self._missing_places(node, portfolio) <= 0
            and not self._conflicting_members(node, portfolio)
            and (not resident.is_planned or fleet.is_allowed(node, portfolio))
        ]
        return min(found)[1] if found else None

    def _find_clearable_target(
        self, resident: Movable, spare: int, barred: frozenset[int]
    ) -> tuple[int, list[Relocation]] | None:
        """Return a node for it that others make room on, and how."""
        if resident.is_planned and self._moves:
            return None  # it must not lose the place it has for one that is free later
        for node in self._closest_to_fitting(resident.portfolio, barred):
            shifts = self._clear_node(node, resident.portfolio, spare, barred | {node})
            if shifts is not None:
                return node, shifts
        return None

    def _missing_places(self, node: int, portfolio: PortfolioView) -> float:
        missing = self._load[node] + portfolio.weight - self.fleet.capacity[node]
        return missing if missing > SLACK else 0

    def _conflicting_members(self, node: int, portfolio: PortfolioView) -> int:
        """Return how many are on `node` whose company it must not have."""
        group = portfolio.spread_group
        if not group or not portfolio.spread_hard:
            return 0
        there = self.fleet.group_members(group).get(node, 0)
        return there - self.fleet.leaving.get((group, node), 0) if self._moves else there

    def _movables_on(self, node: int) -> list[Movable]:
        """Return those that may leave `node`: what costs nothing, the least important, the lightest
        go first; of those that are alike two are enough.
        """
        found = list(self.fresh.get(node, ()))
        if self._moves:
            found.extend(Movable(portfolio) for portfolio in self.running(node))
        found = [each for each in found if each.portfolio.id not in self._relocated]
        found.sort(key=_move_preference)
        kinds: dict[tuple[object, ...], int] = {}
        chosen: list[Movable] = []
        for each in found:
            view = each.portfolio
            group = (view.spread_group, view.spread_hard)
            alike = (each.is_planned, view.requirements, view.weight, group, view.failed_nodes)
            kinds[alike] = kinds.get(alike, 0) + 1
            if kinds[alike] <= MAX_STEPS and len(chosen) < MAX_MOVABLES:
                chosen.append(each)
        return chosen

    # Trying, and taking back

    def _apply(self, resident: Movable, source: int, target: int) -> Relocation:
        """Count one in the fleet as gone to `target`."""
        fleet, portfolio = self.fleet, resident.portfolio
        fits = fleet.is_allowed(target, portfolio)
        shift = Relocation(
            resident, source, target, fleet.expected[source], fleet.expected[target], fits
        )
        group = portfolio.spread_group
        for load in (fleet.held, fleet.expected):
            self._remember(load, source, load[source])
            self._remember(load, target, load[target])
        if group:
            members = fleet.group_members(group)
            self._remember(members, source, members.get(source))
            self._remember(members, target, members.get(target))
            self._remember(fleet.leaving, (group, source), fleet.leaving.get((group, source)))
        self._remember(self._relocated, portfolio.id, None)
        self._relocated.add(portfolio.id)
        fleet.hold(target, portfolio)
        fleet.expect(target, portfolio)
        fleet.expect(source, portfolio, -1)
        if resident.is_planned:
            fleet.hold(source, portfolio, -1)
        else:
            fleet.note_leaving(source, portfolio)
        return shift

    def _remember(self, where: Any, key: Any, value: Any) -> None:
        self._undo.append((where, key, value))

    def _undo_to(self, mark: int) -> None:
        """Undo what was tried since `mark`: exactly, since sums and differences would round."""
        while len(self._undo) > mark:
            where, key, value = self._undo.pop()
            if isinstance(where, set):
                where.discard(key)
            elif value is None:
                where.pop(key, None)
            else:
                where[key] = value


def _move_preference(resident: Movable) -> tuple[bool, float, float, str, int]:
    view = resident.portfolio
    return (not resident.is_planned, view.priority, view.weight, view.name, view.id)
