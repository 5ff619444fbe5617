"""Make room for a portfolio that fits nowhere by relocating others, the fewest first.

Reassigning placements of the same plan costs nothing, so that is tried first (`by_reassigning`).
Running portfolios are moved only after that (`by_moving`), once everything that fits is placed: a
move takes time, and until it is done it holds places at both ends. So the search uses the loads
expected once everything under way is done. A relocation that does not fit yet waits for an earlier
one. A pass in the meantime finds that room is `already_coming`, and starts nothing that conflicts.

The search finds augmenting paths of at most `MAX_STEPS` relocations: one or two portfolios leave
the node, or one leaves for a node that another has to leave first. It tries the nodes that lack the
fewest places, and stops after MAX_CHECKS, so that a full fleet with many pending portfolios does
not delay a plan.
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

MAX_STEPS = 2  #: relocations that make room for one portfolio
MAX_NODES = 16  #: nodes searched for room, of those that could hold the portfolio
MAX_MOVABLES = 12  #: portfolios of one node that are considered for relocation
MAX_CHECKS = 60_000  #: checks of one node in one plan, all searches together


class Relocation(NamedTuple):
    """A portfolio's change of node. Loads are those expected before the change."""

    movable: Movable
    source: int
    target: int
    source_load: float
    target_load: float
    fits: bool  #: it can start at once; otherwise it waits for an earlier relocation


class Room(NamedTuple):
    """A node, and the relocations that make room on it, already counted in the fleet state."""

    node: int
    relocations: list[Relocation]


class RoomFinder:
    """Finds room for portfolios that fit nowhere, while a plan is built."""

    def __init__(
        self,
        fleet: FleetState,
        planned: dict[int, list[Movable]],
        running: Callable[[int], list[PortfolioView]],
    ) -> None:
        self.fleet = fleet
        self.planned = planned  #: node → placements of this plan there that may be reassigned
        self.running = running  #: returns the running portfolios of a node that may move
        self.checks_left = MAX_CHECKS
        self._may_move_running = False  #: in this search, beside placements of this plan
        self._load = fleet.held
        self._relocated: set[int] = set()  #: portfolio ids relocated in the current search
        #: (container, key, value before) of each tentative change; None: the key was absent.
        self._undo: list[tuple[Any, Any, Any]] = []
        #: Keys of searches that found no room, until the plan changes: see `_search`.
        self._known_failures: set[tuple[object, ...]] = set()
        self._eligible: dict[Requirements, list[int]] = {}  #: open nodes that meet them

    def by_reassigning(self, portfolio: PortfolioView) -> Room | None:
        """Reassign placements of this plan so that the portfolio fits. Return where, or None."""
        self._may_move_running = False
        self._load = self.fleet.held  # nothing that runs leaves, so only what is free now counts
        return self._search(portfolio, range(1, MAX_STEPS + 1))

    def already_coming(self, portfolio: PortfolioView) -> Room | None:
        """Return where the portfolio will fit once active handoffs are done, or None.

        Nothing is moved for it; as in `by_moving`, members of its group that leave do not conflict.
        """
        self._may_move_running, self._load = True, self.fleet.expected
        return self._search(portfolio, range(1))  # with no relocation

    def by_moving(self, portfolio: PortfolioView) -> Room | None:
        """Return where the portfolio will fit once running portfolios have moved, or None."""
        self._may_move_running, self._load = True, self.fleet.expected
        return self._search(portfolio, range(1, MAX_STEPS + 1))

    def plan_changed(self) -> None:
        """Forget failed searches, since the plan changed."""
        self._known_failures.clear()

    def _search(self, portfolio: PortfolioView, steps: range) -> Room | None:
        """Return room made by at most n relocations, trying each n of `steps` in turn, or None."""
        group = portfolio.spread_group if portfolio.spread_hard else None
        kind = (portfolio.requirements, portfolio.weight, group, portfolio.failed_nodes)
        key = (self._may_move_running, steps, *kind)
        if key in self._known_failures or not (self._may_move_running or self.planned):
            return None
        for max_steps in steps:
            for node in self._closest_to_fitting(portfolio, frozenset()):
                relocations = self._clear_node(node, portfolio, max_steps, frozenset({node}))
                if relocations is not None:
                    self._undo.clear()
                    self._relocated.clear()
                    self.plan_changed()
                    return Room(node, relocations)
        self._known_failures.add(key)
        return None

    def _closest_to_fitting(self, portfolio: PortfolioView, excluded: frozenset[int]) -> list[int]:
        """Return the nodes that lack the fewest places for the portfolio, best first."""
        fleet, load = self.fleet, self._load
        nodes = [node for node in self._possible_nodes(portfolio) if node not in excluded]
        return nsmallest(MAX_NODES, nodes, key=lambda n: (load[n] - fleet.capacity[n], n))

    def _possible_nodes(self, portfolio: PortfolioView) -> Iterator[int]:
        """Yield nodes that could hold the portfolio if empty; none once all checks are used up."""
        fleet, requirements = self.fleet, portfolio.requirements
        nodes = self._eligible.get(requirements)
        if nodes is None:
            nodes = self._eligible[requirements] = fleet.eligible_nodes(requirements)
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
        self, node: int, portfolio: PortfolioView, max_steps: int, excluded: frozenset[int]
    ) -> list[Relocation] | None:
        """Return at most `max_steps` relocations after which the portfolio fits on `node`.

        Return None, with nothing changed, if there are none.
        """
        missing = self._missing_places(node, portfolio)
        conflicting = self._conflicting_members(node, portfolio)
        if missing <= 0 and not conflicting:
            return []
        movables = self._movables_on(node) if max_steps else []
        for size in range(1, max_steps + 1):
            for leaving in combinations(movables, size):
                self.checks_left -= 1
                if sum(each.portfolio.weight for each in leaving) < missing - SLACK:
                    continue
                members = [p for p, _ in leaving if p.spread_group == portfolio.spread_group]
                if conflicting > len(members):  # one of them would stay
                    continue
                mark = len(self._undo)
                relocations = self._relocate_all(node, leaving, max_steps - size, excluded)
                if relocations is not None:
                    return relocations
                self._undo_to(mark)
        return None

    def _relocate_all(
        self, node: int, leaving: tuple[Movable, ...], spare: int, excluded: frozenset[int]
    ) -> list[Relocation] | None:
        """Move all of `leaving` off `node` in the fleet state, and return the relocations.

        At most `spare` further relocations may clear their targets, none of which is `excluded`.
        Return None if one has no target; the caller then undoes those made before it.
        """
        relocations: list[Relocation] = []
        for movable in leaving:
            before: list[Relocation] = []
            target = self._find_target(movable, excluded)
            if target is None and spare:
                found = self._find_clearable_target(movable, spare, excluded)
                if found is not None:
                    target, before = found
                    spare -= len(before)
            if target is None:
                return None
            relocations += [*before, self._apply(movable, node, target)]
        return relocations

    def _find_target(self, movable: Movable, excluded: frozenset[int]) -> int | None:
        """Return the node that is least loaded once it holds the portfolio, or None.

        Only a placement needs its places now: a running portfolio can wait until they are free.
        """
        fleet, load, portfolio = self.fleet, self._load, movable.portfolio
        found = [
            ((load[node] + portfolio.weight) / (fleet.capacity[node] or NO_CAPACITY), node)
            for node in self._possible_nodes(portfolio)
            if node not in excluded
            and self._missing_places(node, portfolio) <= 0
            and not self._conflicting_members(node, portfolio)
            and (not movable.is_placement or fleet.is_allowed(node, portfolio))
        ]
        return min(found)[1] if found else None

    def _find_clearable_target(
        self, movable: Movable, spare: int, excluded: frozenset[int]
    ) -> tuple[int, list[Relocation]] | None:
        """Return (node, the relocations that make room for `movable` there), or None."""
        if movable.is_placement and self._may_move_running:
            return None  # a placement must not give up its place for one that is free only later
        for node in self._closest_to_fitting(movable.portfolio, excluded):
            relocations = self._clear_node(node, movable.portfolio, spare, excluded | {node})
            if relocations is not None:
                return node, relocations
        return None

    def _missing_places(self, node: int, portfolio: PortfolioView) -> float:
        """Return how many places `node` lacks for the portfolio, 0 if it fits."""
        missing = self._load[node] + portfolio.weight - self.fleet.capacity[node]
        return missing if missing > SLACK else 0

    def _conflicting_members(self, node: int, portfolio: PortfolioView) -> int:
        """Return how many members of the portfolio's hard spread group are on `node`.

        In a search that may move running portfolios, members about to leave do not count.
        """
        group = portfolio.spread_group
        if not group or not portfolio.spread_hard:
            return 0
        there = self.fleet.group_members(group).get(node, 0)
        leaving = self.fleet.leaving.get((group, node), 0) if self._may_move_running else 0
        return there - leaving

    def _movables_on(self, node: int) -> list[Movable]:
        """Return the portfolios that may leave `node`, in order of preference.

        Planned placements come first, since they cost nothing, then portfolios by lowest priority
        and weight. Of portfolios with equal needs and weight at most `MAX_STEPS` are returned: no
        search moves more.
        """
        found = list(self.planned.get(node, ()))
        if self._may_move_running:
            found.extend(Movable(portfolio) for portfolio in self.running(node))
        found = [each for each in found if each.portfolio.id not in self._relocated]
        found.sort(key=_relocation_order)
        kinds: dict[tuple[object, ...], int] = {}
        chosen: list[Movable] = []
        for each in found:
            view = each.portfolio
            group = (view.spread_group, view.spread_hard)
            key = (each.is_placement, view.requirements, view.weight, group, view.failed_nodes)
            kinds[key] = kinds.get(key, 0) + 1
            if kinds[key] <= MAX_STEPS and len(chosen) < MAX_MOVABLES:
                chosen.append(each)
        return chosen

    # Tentative changes

    def _apply(self, movable: Movable, source: int, target: int) -> Relocation:
        """Move the portfolio in the fleet state, remember how to undo it, return the relocation."""
        fleet, portfolio = self.fleet, movable.portfolio
        fits = fleet.is_allowed(target, portfolio)
        relocation = Relocation(
            movable, source, target, fleet.expected[source], fleet.expected[target], fits
        )
        group = portfolio.spread_group
        for load in (fleet.held, fleet.expected):
            self._remember_for_undo(load, source, load[source])
            self._remember_for_undo(load, target, load[target])
        if group:
            members = fleet.group_members(group)
            self._remember_for_undo(members, source, members.get(source))
            self._remember_for_undo(members, target, members.get(target))
            self._remember_for_undo(
                fleet.leaving, (group, source), fleet.leaving.get((group, source))
            )
        self._remember_for_undo(self._relocated, portfolio.id, None)
        self._relocated.add(portfolio.id)
        fleet.hold(target, portfolio)
        fleet.expect(target, portfolio)
        fleet.expect(source, portfolio, -1)
        if movable.is_placement:
            fleet.hold(source, portfolio, -1)
        else:
            fleet.note_leaving(source, portfolio)
        return relocation

    def _remember_for_undo(self, where: Any, key: Any, value: Any) -> None:
        """Note that `where` has this value at `key` before a change; None: it lacks the key."""
        self._undo.append((where, key, value))

    def _undo_to(self, mark: int) -> None:
        """Undo tentative changes after `mark` by their stored values: subtracting would round."""
        while len(self._undo) > mark:
            where, key, value = self._undo.pop()
            if isinstance(where, set):
                where.discard(key)
            elif value is None:
                where.pop(key, None)
            else:
                where[key] = value


def _relocation_order(movable: Movable) -> tuple[bool, float, float, str, int]:
    """Return the sort key: planned placements, which cost nothing, then lowest priority first."""
    view = movable.portfolio
    return (not movable.is_placement, view.priority, view.weight, view.name, view.id)
