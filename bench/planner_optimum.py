"""OR-tools CP-SAT on random worlds with weights, selectors, hard spread groups and unequal
capacities: the lowest highest load there is at no more moves, and whether what stays pending could
have been placed."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from bench.planner_rows import row
from bench.planner_worlds import FREE, enacted, node
from scheduling.decide.planner import make_plan
from scheduling.decide.reasons import render
from scheduling.decide.world import Pending, PortfolioView, Snapshot


@dataclass(frozen=True)
class Optimum:
    """The best there is at no more moves."""

    placed: float  #: weight of what it places
    highest: float  #: scaled load, see `scaled`
    proven: bool


@dataclass(frozen=True)
class Ours:
    """What our passes make of a world."""

    after: Snapshot
    moves: int  #: of what ran
    pending: tuple[Pending, ...]
    took_ms: float  #: the first plan

    def placed(self) -> float:
        """Return the weight of what runs on living nodes."""
        living = alive(self.after)
        return sum(view.weight for view in self.after.portfolios if view.node in living)


def random_world(seed: int) -> Snapshot:
    """Return a world after a loss: some portfolios run, some have lost their node, all weighted."""
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


def alive(world: Snapshot) -> set[int]:
    """Return the ids of the living nodes."""
    return {each.id for each in world.nodes if each.status == "alive"}


def ours(world: Snapshot) -> Ours:
    """Pass and pass until nothing changes any more."""
    moves, took_ms = 0, 0.0
    while True:
        began = time.perf_counter()
        plan = make_plan(world, FREE)
        took_ms = took_ms or (time.perf_counter() - began) * 1000
        if not plan.changes:
            return Ours(world, moves, plan.pending, took_ms)
        moves += sum(move.cause != "failover" for move in plan.move)
        views = {view.id: view for view in (*world.portfolios, *enacted(plan))}
        world = replace(world, portfolios=tuple(views.values()))


def against_optimum(worlds: int, limit_s: float) -> Iterator[dict[str, Any]]:
    """Yield how far above the optimum the highest loads are, and what stayed pending needlessly."""
    above, steps, times, optimal, unproven = [], [], [], 0, 0
    beside: list[str] = []
    others: list[str] = []
    for seed in range(worlds):
        world = random_world(seed)
        found = ours(world)
        times.append(found.took_ms)
        living, placed = alive(world), found.placed()
        ours_run = {view.id for view in found.after.portfolios if view.node in living}
        reasons = [
            f"world {seed}: {entry.portfolio.name} {render(entry.reason)}"
            for entry in found.pending
        ]
        best = cp_sat(world, found.moves, limit_s, keep=ours_run)
        unproven += not best.proven
        if placed < best.placed:
            beside += reasons
            continue
        if reasons and placed < cp_sat(world, found.moves, limit_s).placed:
            others += reasons
        heaviest = max(view.weight for view in world.portfolios)
        smallest = min(each.capacity for each in world.nodes if each.id in living)
        highest = scaled(found.after, living)
        above.append(highest / best.highest - 1 if best.highest else 0.0)
        steps.append(highest - best.highest <= heaviest / smallest + 1e-6)
        optimal += highest <= best.highest + 1e-6
    path = f"optimum at equal moves, {worlds} worlds"
    yield row(
        path,
        "highest load above the optimum, median",
        statistics.median(above),
        "",
        against=0,
        spread=[min(above), round(max(above), 3)],
        target="0",
        met=statistics.median(above) < 1e-6,
        note=f"optimal in {optimal} of {len(above)}; {unproven} not proven within {limit_s:g} s",
    )
    yield row(
        path,
        "at most one heaviest weight above",
        sum(steps),
        "worlds",
        against=len(steps),
        target="all",
        met=all(steps),
    )
    yield row(
        path,
        "worlds with pending that fits beside all we place",
        worlds - len(above),
        "worlds",
        target="0",
        met=len(above) == worlds,
        note=" | ".join(beside),
    )
    yield row(
        path,
        "worlds where another set weighs more than ours",
        len({line.split(":")[0] for line in others}),
        "worlds",
        target="each listed: the important and the heavy go first, not the most weight",
        note=" | ".join(others),
    )
    yield row(path, "plan", statistics.median(times), "ms", target="", met=None)


def scaled(snapshot: Snapshot, living: set[int]) -> float:
    """Return the highest load as a part of its node's capacity, over the living nodes."""
    load: Counter[int] = Counter()
    for view in snapshot.portfolios:
        if view.node in living:
            load[view.node] += view.weight  # type: ignore[index,assignment]
    return max(load[each.id] / each.capacity for each in snapshot.nodes if each.id in living)


def cp_sat(world: Snapshot, moves: int, limit_s: float, keep: Collection[int] = ()) -> Optimum:
    """Return the most weight that can be placed with so many moves of what runs, and then the
    lowest highest relative load. The portfolios in `keep` have to be placed."""
    from ortools.sat.python import cp_model

    living = [each for each in world.nodes if each.status == "alive"]
    ids, scale = {each.id for each in living}, 240  # 240 / capacity is whole for 10, 12, 16, 20
    model = cp_model.CpModel()
    at = {
        (view.id, each.id): model.new_bool_var("")
        for view in world.portfolios
        for each in living
        if view.selector.items() <= each.labels.items()
    }
    for view in world.portfolios:
        here = [at[view.id, each.id] for each in living if (view.id, each.id) in at]
        if view.node in ids or view.id in keep:
            model.add_exactly_one(here)
        else:
            model.add_at_most_one(here)
    top = model.new_int_var(0, scale, "")
    for each in living:
        load = sum(v.weight * at[v.id, each.id] for v in world.portfolios if (v.id, each.id) in at)
        model.add(load <= each.capacity)
        model.add(load * int(scale / each.capacity) <= top)
        for group in ("g", "h"):
            members = [v for v in world.portfolios if v.spread_group == group]
            model.add_at_most_one(at[v.id, each.id] for v in members if (v.id, each.id) in at)
    running = [view for view in world.portfolios if view.node in ids]
    model.add(sum(at[view.id, view.node] for view in running) >= len(running) - moves)
    placed = sum(
        view.weight * at[view.id, each.id]
        for view in world.portfolios
        for each in living
        if (view.id, each.id) in at
    )
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit_s
    solver.parameters.num_workers = 1
    model.maximize(placed)
    first = solver.solve(model)
    most = round(solver.objective_value)
    model.add(placed >= most)
    model.minimize(top)
    second = solver.solve(model)
    proven = first == second == cp_model.OPTIMAL
    return Optimum(most, solver.objective_value / scale, proven)
