"""CP-SAT models of a small fleet: the most weight that can be placed, the lowest highest load.

Moves of running portfolios are counted; placing an unassigned one costs nothing. In the
`at_once` model all changes happen in one instant, so two portfolios may exchange their nodes. In
the `in_steps` model, as with handoffs, they happen one after another, and each portfolio takes up
capacity on both nodes until its target has committed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from ortools.sat.python import cp_model

from scheduling.decide.types import NodeView, PortfolioView, Snapshot

SCALE = 240  #: makes load × SCALE / capacity an integer for capacities of 10, 12, 16 and 20

#: (portfolio id, node id) → whether the portfolio is on the node.
Places = dict[tuple[int, int], Any]


class Found(NamedTuple):
    """The optimum, or the best value found within the limit."""

    value: float
    proven: bool
    placed: frozenset[int]  #: the portfolios that run in it


def most_placed(
    world: Snapshot,
    moves: int,
    limit_s: float,
    keep: Collection[int] = (),
    placed_first: Collection[int] | None = None,
) -> Found:
    """Return the highest total weight of portfolios that can run after at most `moves` moves.

    The portfolios of `keep` (ids) must be among them. Without `placed_first`, all moves happen in
    one instant; with it, one after another, as handoffs do, and the portfolios of `placed_first`
    (ids) get their places before the first move.
    """
    model = _Model(world, limit_s)
    places_after = (
        model.at_once(moves, keep)
        if placed_first is None
        else model.in_steps(moves, keep, placed_first)
    )
    weight = {view.id: view.weight for view in world.portfolios}
    placed = sum(weight[number] * here for (number, _), here in places_after.items())
    return model.solve(places_after, maximise=placed)


def lowest_peak(world: Snapshot, moves: int, limit_s: float) -> Found:
    """Return the lowest possible peak after at most `moves` moves, with every portfolio running.

    The peak is the highest load of a node, relative to its capacity.
    """
    model = _Model(world, limit_s)
    places_after = model.at_once(moves, {view.id for view in world.portfolios})
    peak = model.model.new_int_var(0, SCALE, "")
    for node in model.living:
        model.model.add(model.load(places_after, node) * int(SCALE / node.capacity) <= peak)
    found = model.solve(places_after, minimise=peak)
    return found._replace(value=found.value / SCALE)


class _Model:
    """A CP-SAT model of one fleet."""

    def __init__(self, world: Snapshot, limit_s: float) -> None:
        self.world = world
        self.limit_s = limit_s
        self.model = cp_model.CpModel()
        self.living = [node for node in world.nodes if node.status == "alive"]
        self.ids = {node.id for node in self.living}
        self.running = [view for view in world.portfolios if view.node in self.ids]

    def at_once(self, moves: int, keep: Collection[int]) -> Places:
        """Model at most `moves` moves in one instant; return the places after them."""
        places_after = self._new_places(self.world.portfolios, keep)
        self._limit_moves(self._places_now(), places_after, moves)
        return places_after

    def in_steps(self, moves: int, keep: Collection[int], placed_first: Collection[int]) -> Places:
        """Model at most `moves` handoffs, one after another; return the places after the last.

        During a handoff, its portfolio takes up capacity on both nodes. Of unassigned portfolios,
        those of `placed_first` get a place before the first handoff, the others after the last:
        earlier they would only take up room. Those of `keep` must have a place at the end.
        """
        early = [
            v for v in self.world.portfolios if v.id in placed_first and v.node not in self.ids
        ]
        self.running += early
        before = self._new_places(self.running, placed_first)
        for (portfolio, node), here in self._places_now().items():
            if portfolio not in placed_first:
                self.model.add(before.get((portfolio, node), 0) == here)
        for _ in range(moves):
            after = self._new_places(self.running, placed_first)
            self._limit_moves(before, after, 1)
            both: Places = {}  # true where the portfolio is before or after this handoff
            for place, here in after.items():
                both[place] = self.model.new_bool_var("")
                self.model.add_implication(here, both[place])
                self.model.add_implication(before[place], both[place])
            self._constrain_nodes(self.running, both)
            before = after
        places_after = self._new_places(self.world.portfolios, keep)
        for place, here in before.items():
            self.model.add(places_after[place] == here)
        return places_after

    def _places_now(self) -> Places:
        return {
            (view.id, node.id): int(view.node == node.id)
            for view in self.running
            for node in self.living
        }

    def _new_places(self, views: Collection[PortfolioView], keep: Collection[int]) -> Places:
        """Return a boolean variable for each possible place of each portfolio.

        At most one of a portfolio is true; exactly one if the portfolio runs or is in `keep`.
        """
        at: Places = {
            (view.id, node.id): self.model.new_bool_var("")
            for view in views
            for node in self.living
            if view.selector.items() <= node.labels.items()
        }
        for view in views:
            here = [at[view.id, node.id] for node in self.living if (view.id, node.id) in at]
            if view.node in self.ids or view.id in keep:
                self.model.add_exactly_one(here)
            else:
                self.model.add_at_most_one(here)
        self._constrain_nodes(views, at)
        return at

    def _constrain_nodes(self, views: Collection[PortfolioView], at: Places) -> None:
        """Constrain node loads to capacities, and hard spread groups to different nodes."""
        groups = {view.spread_group for view in views if view.spread_group}
        for node in self.living:
            self.model.add(self.load(at, node) <= int(node.capacity))
            for group in groups:
                self.model.add_at_most_one(
                    at[view.id, node.id]
                    for view in views
                    if view.spread_group == group and (view.id, node.id) in at
                )

    def _limit_moves(self, before: Places, after: Places, most: int) -> None:
        """Constrain the number of running portfolios that change nodes."""
        moves = []
        for view in self.running:
            has_moved = self.model.new_bool_var("")
            moves.append(has_moved)
            for node in self.living:
                place = (view.id, node.id)
                self.model.add(before.get(place, 0) - after.get(place, 0) <= has_moved)
        self.model.add(sum(moves) <= most)

    def load(self, at: Places, node: NodeView) -> Any:
        """Return the load of a node under `at`, as an expression of the model."""
        weight = {view.id: int(view.weight) for view in self.world.portfolios}
        return sum(weight[number] * here for (number, on), here in at.items() if on == node.id)

    def solve(self, places: Places, maximise: Any = None, minimise: Any = None) -> Found:
        """Return the best solution within the limit. Raise RuntimeError if there is none."""
        if maximise is not None:
            self.model.maximize(maximise)
        else:
            self.model.minimize(minimise)
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = self.limit_s
        solver.parameters.num_workers = 1
        status = solver.solve(self.model)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            found = solver.status_name(status)
            raise RuntimeError(f"CP-SAT found no plan within {self.limit_s:g} s: {found}")
        placed = frozenset(number for (number, _), here in places.items() if solver.value(here))
        return Found(solver.objective_value, status == cp_model.OPTIMAL, placed)
