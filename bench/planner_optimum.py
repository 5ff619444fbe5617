"""Compare plans with the optimum of CP-SAT on random small fleets.

The fleets have weights, selectors, hard spread groups and unequal capacities. Compares the highest
load at equal moves, and counts pending portfolios that could have been placed.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from bench.planner_cpsat import Found, lowest_peak, most_placed
from bench.planner_fixtures import FREE, after_handoffs, node
from bench.result_table import median_row, row
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.reasons import render
from scheduling.decide.types import Pending, PortfolioView, Snapshot


class PassResult(NamedTuple):
    """What Ginkgo's passes make of a random fleet."""

    after: Snapshot
    moves: int  #: of running portfolios
    pending: tuple[Pending, ...]
    placed_first: frozenset[int]  #: portfolios that the first plan places
    took_ms: float  #: time of the first plan

    def placed(self) -> set[int]:
        """Return the ids of portfolios running on live nodes."""
        living = live_nodes(self.after)
        return {view.id for view in self.after.portfolios if view.node in living}


def random_world(seed: int) -> Snapshot:
    """Return a fleet after a node loss: running and unassigned portfolios with weights."""
    chance = random.Random(seed)
    nodes = [
        node(number, chance.choice([10, 12, 16, 20]), labels={"zone": chance.choice("ab")})
        for number in range(1, chance.randint(4, 7))
    ]
    nodes.append(node(len(nodes) + 1, 12, status="lost"))
    held: Counter[int] = Counter()
    groups: set[tuple[str, int]] = set()
    portfolios = []
    for number in range(chance.randint(8, 26)):
        weight, group = chance.randint(1, 4), chance.choice([None] * 4 + ["g", "h"])
        home = chance.choice(nodes)
        selector = {"zone": chance.choice("ab")} if chance.random() < 0.25 else {}
        fits = held[home.id] + weight <= home.capacity and (group, home.id) not in groups
        here = fits and selector.items() <= home.labels.items()
        if here:
            held[home.id] += weight
            groups |= {(group, home.id)} if group else set()
        portfolios.append(
            PortfolioView(
                id=number,
                name=f"p-{number:02}",
                weight=weight,
                selector=selector,
                spread_group=group,
                spread_hard=group is not None,
                priority=0,
                node=home.id if here else None,
                phase="running" if here else "pending",
            )
        )
    return Snapshot(taken_at=0, nodes=tuple(nodes), portfolios=tuple(portfolios))


def live_nodes(world: Snapshot) -> set[int]:
    """Return the ids of the live nodes."""
    return {each.id for each in world.nodes if each.status == "alive"}


def run_passes(world: Snapshot) -> PassResult:
    """Run passes until nothing changes."""
    began = time.process_time()
    first = plan = make_plan(world, FREE)
    took_ms, moves = (time.process_time() - began) * 1000, 0
    while plan.changes:
        moves += sum(move.cause != "failover" for move in plan.move)
        views = {view.id: view for view in (*world.portfolios, *after_handoffs(plan))}
        world = replace(world, portfolios=tuple(views.values()))
        plan = make_plan(world, FREE)
    placed_first = frozenset(
        [step.portfolio.id for step in first.place]
        + [move.portfolio.id for move in first.move if move.cause == "failover"]
    )
    return PassResult(world, moves, plan.pending, placed_first, took_ms)


class Tally:
    """Results over all random fleets."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.above: list[float] = []  #: highest load above the optimum, as a fraction of it
        self.within_one_weight: list[bool] = []  #: at most one heaviest weight above it
        self.unproven = 0
        self.missed: list[str] = []  #: pending portfolios that two more moves would place
        self.beside: list[str] = []  #: pending ones that could run beside all that Ginkgo places
        self.others: list[str] = []  #: pending ones that could run instead of a placed one

    def add(self, seed: int, world: Snapshot, limit_s: float) -> None:
        """Plan a world until nothing moves, and compare it with the optimum."""
        found = run_passes(world)
        self.times.append(found.took_ms)
        living, placed = live_nodes(world), found.placed()
        views = tuple(view for view in world.portfolios if view.id in placed)
        best = lowest_peak(replace(world, portfolios=views), found.moves, limit_s)
        heaviest = max(view.weight for view in world.portfolios)
        smallest = min(each.capacity for each in world.nodes if each.id in living)
        peak = peak_of(found.after, living)
        self.above.append(max(0.0, peak / best.value - 1) if best.value else 0.0)
        # Peaks are shares of a capacity. A plan may be above the optimum by the share that the
        # heaviest portfolio takes of the smallest node.
        self.within_one_weight.append(peak - best.value <= heaviest / smallest + 1e-6)
        self.unproven += not best.proven
        if found.pending:
            self._add_pending(f"world {seed}", world, found, placed, limit_s)

    def _add_pending(
        self, name: str, world: Snapshot, found: PassResult, placed: set[int], limit_s: float
    ) -> None:
        """Note the pending portfolios that CP-SAT places, and what that would have needed."""
        placed_weight = sum(view.weight for view in world.portfolios if view.id in placed)

        def places_more(best: Found) -> bool:
            """Whether `best` places more weight than Ginkgo. Count it if it is not proven."""
            self.unproven += not best.proven
            return best.value > placed_weight

        def lines(best: Found, why: str) -> list[str]:
            """Return a line for each pending portfolio that `best` places."""
            return [
                f"{name}, {why}: {entry.portfolio.name} {render(entry.reason)}"
                for entry in found.pending
                if entry.portfolio.id in best.placed
            ]

        two_more = most_placed(found.after, 2, limit_s, keep=placed, placed_first=frozenset())
        if places_more(two_more):
            self.missed += lines(two_more, "two moves would place it")
        beside = most_placed(world, found.moves, limit_s, keep=placed)
        if not places_more(beside):
            instead = most_placed(world, found.moves, limit_s)
            if places_more(instead):
                self.others += lines(instead, "instead of a portfolio that Ginkgo places")
            return
        in_steps = most_placed(
            world, found.moves, limit_s, keep=placed, placed_first=found.placed_first
        )
        if places_more(in_steps):
            self.beside += lines(in_steps, "more than two moves would make room")
        else:
            why = "if placements had waited, or two portfolios exchanged places in one instant"
            self.beside += lines(beside, why)


def against_optimum(worlds: int, limit_s: float) -> Iterator[dict[str, Any]]:
    """Yield the distance of loads from the optimum, and needlessly pending portfolios."""
    tally = Tally()
    for seed in range(worlds):
        tally.add(seed, random_world(seed), limit_s)
    setup, above = f"CP-SAT at equal moves, {worlds} worlds", tally.above
    optimal = sum(fraction < 1e-6 for fraction in above)
    yield median_row(
        setup,
        "highest load above the optimum, median",
        above,
        "",
        against=0,
        target="0",
        met=statistics.median(above) < 1e-6,
        note=f"optimal in {optimal}; {tally.unproven} not proven within {limit_s:g} s",
    )
    yield row(
        setup,
        "at most one heaviest weight above",
        sum(tally.within_one_weight),
        "worlds",
        against=worlds,
        target="all",
        met=all(tally.within_one_weight),
    )
    listed = "0, or each listed with its reason"
    for name, lines, target in (
        ("pending although two more moves would place it", tally.missed, "0"),
        ("pending although it fits beside all placed", tally.beside, listed),
        ("another set has more weight than the placed one", tally.others, listed),
    ):
        met = target == listed or not lines  # the note lists each with its reason
        count = len({line.partition(",")[0] for line in lines})  # a line begins "world SEED,"
        note = " | ".join(lines)
        yield row(setup, name, count, "worlds", against=0, target=target, met=met, note=note)
    yield row(setup, "plan", statistics.median(tally.times), "ms")


def peak_of(snapshot: Snapshot, living: set[int]) -> float:
    """Return the highest load of a live node, relative to its capacity."""
    load: Counter[int] = Counter()
    for view in snapshot.portfolios:
        if view.node in living:
            load[view.node] += view.weight  # type: ignore[index,assignment]
    return max(load[each.id] / each.capacity for each in snapshot.nodes if each.id in living)
