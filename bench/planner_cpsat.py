"""What OR-tools CP-SAT finds for a small world: the most weight that can be placed, the lowest
highest load.

Moves of what runs are counted; what runs nowhere is placed for nothing. All change places in one
instant, also where A can only go where B is and B only where A is. Or `in_steps`, as handoffs can:
one after another, each holding its places at both ends until its target has committed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from ortools.sat.python import cp_model

from scheduling.decide.types import NodeView, PortfolioView, Snapshot

SCALE = 240  #: load × SCALE / capacity is whole for capacities of 10, 12, 16 and 20

#: (portfolio id, node id) → whether it is there.
Places = dict[tuple[int, int], Any]


class Found(NamedTuple):
    """The best value there is, or the best one found in time."""

    value: float
    proven: bool
    placed: frozenset[int]  #: the portfolios that run then


def most_placed(
    world: Snapshot,
    moves: int,
    limit_s: float,
    keep: Collection[int] = (),
    at_once: Collection[int] | None = None,
) -> Found:
    """Return the most weight that runs after so many moves, with all in `keep` among it.

    With `at_once`, portfolios that get a place before anything moves, handoffs go in steps.
    """
    model = _Model(world, limit_s)
    last = model.after(moves, keep) if at_once is None else model.in_steps(moves, keep, at_once)
    weight = {view.id: view.weight for view in world.portfolios}
    return model.best(last, maximise=sum(weight[which] * here for (which, _), here in last.items()))


def lowest_top(world: Snapshot, moves: int, limit_s: float) -> Found:
    """Return the lowest highest relative load once everything runs, after so many moves."""
    model = _Model(world, limit_s)
    last = model.after(moves, {view.id for view in world.portfolios})
    top = model.model.new_int_var(0, SCALE, "")
    for node in model.living:
        model.model.add(model.load(last, node) * int(SCALE / node.capacity) <= top)
    found = model.best(last, minimise=top)
    return found._replace(value=found.value / SCALE)


class _Model:
    """One question under way."""

    def __init__(self, world: Snapshot, limit_s: float) -> None:
        self.world = world
        self.limit_s = limit_s
        self.model = cp_model.CpModel()
        self.living = [node for node in world.nodes if node.status == "alive"]
        self.ids = {node.id for node in self.living}
        self.running = [view for view in world.portfolios if view.node in self.ids]

    def after(self, moves: int, keep: Collection[int]) -> Places:
        """Return where everything is once all have changed places in one instant."""
        last = self._places(self.world.portfolios, keep)
        self._moved(self._now(), last, moves)
        return last

    def in_steps(self, moves: int, keep: Collection[int], at_once: Collection[int]) -> Places:
        """Return where everything is after handoffs, one after another. What is not placed
        `at_once` is placed at the end: before that it could only be in the way.
        """
        early = [v for v in self.world.portfolios if v.id in at_once and v.node not in self.ids]
        self.running += early
        before = self._places(self.running, at_once)
        for place, here in self._now().items():
            if place[0] not in at_once:
                self.model.add(before.get(place, 0) == here)
        for _ in range(moves):
            after = self._places(self.running, at_once)
            self._moved(before, after, 1)
            both: Places = {}
            for place, here in after.items():
                both[place] = self.model.new_bool_var("")
                self.model.add_implication(here, both[place])
                self.model.add_implication(before[place], both[place])
            self._obey(self.running, both)
            before = after
        last = self._places(self.world.portfolios, keep)
        for place, here in before.items():
            self.model.add(last[place] == here)
        return last

    def _now(self) -> Places:
        return {
            (view.id, node.id): int(view.node == node.id)
            for view in self.running
            for node in self.living
        }

    def _places(self, views: Collection[PortfolioView], keep: Collection[int]) -> Places:
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
        self._obey(views, at)
        return at

    def _obey(self, views: Collection[PortfolioView], at: Places) -> None:
        """Demand that nothing holds more than it has, and that hard groups are apart."""
        groups = {view.spread_group for view in views if view.spread_group}
        for node in self.living:
            self.model.add(self.load(at, node) <= int(node.capacity))
            for group in groups:
                self.model.add_at_most_one(
                    at[view.id, node.id]
                    for view in views
                    if view.spread_group == group and (view.id, node.id) in at
                )

    def _moved(self, before: Places, after: Places, most: int) -> None:
        """Demand that at most so many of what runs are elsewhere afterwards."""
        gone = []
        for view in self.running:
            moved = self.model.new_bool_var("")
            gone.append(moved)
            for node in self.living:
                place = (view.id, node.id)
                self.model.add(before.get(place, 0) - after.get(place, 0) <= moved)
        self.model.add(sum(gone) <= most)

    def load(self, at: Places, node: NodeView) -> Any:
        """Return the sum of weights on a node."""
        weight = {view.id: int(view.weight) for view in self.world.portfolios}
        return sum(weight[which] * here for (which, where), here in at.items() if where == node.id)

    def best(self, last: Places, maximise: Any = None, minimise: Any = None) -> Found:
        """Solve within the limit. Raise where there is no answer at all: the question is wrong."""
        if maximise is not None:
            self.model.maximize(maximise)
        else:
            self.model.minimize(minimise)
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = self.limit_s
        solver.parameters.num_workers = 1
        status = solver.solve(self.model)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            raise RuntimeError(f"CP-SAT: {solver.status_name(status)} within {self.limit_s:g} s")
        placed = frozenset(which for (which, _), here in last.items() if solver.value(here))
        return Found(solver.objective_value, status == cp_model.OPTIMAL, placed)
