"""Answer what the balancer would do, now or in a what-if scenario.

One function serves the command, the API and the page, so that they cannot disagree. If nodes are to
be drained or added, the answer covers all passes until the end, not only the first: limits on
concurrent moves are lifted, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from math import ceil

from scheduling.decide.liveness import is_storm
from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.planner.fleet_state import HOSTING
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import (
    Move,
    NodeView,
    Pending,
    Placement,
    Plan,
    Policy,
    PortfolioView,
    Reason,
    Snapshot,
)
from scheduling.decide.what_if.hypothetical import (
    MAX_CAPACITY,
    Addition,
    Scenario,
    add,
    added_nodes,
    apply_scenario,
    cordon,
    enlarge,
    reopen,
)
from scheduling.decide.what_if.node_loss import (
    Unplaced,
    hosting_nodes,
    newly_pending,
    pending_ids,
    suspect_targets,
)

#: Moves everything at once, to show the final result of a drain or a new node.
UNLIMITED = Policy(max_moves=1_000_000, handoffs_per_node=1_000_000)

#: Nodes tried per kind of remedy, at the cost of one plan each.
MAX_TRIED = 4


@dataclass(frozen=True, slots=True)
class Load:
    """The load of one node now and after the plan, each as a number of places taken."""

    node: NodeView  #: in the hypothetical snapshot
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Remedy:
    """A remedy that was tried by making a plan with it."""

    reason: Reason
    no_place: int  #: portfolios that would still have no place or stay on a node to leave


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a what-if scenario: the plan, and its consequences."""

    scenario: Scenario
    snapshot: Snapshot  #: the real one
    hypothetical: Snapshot  #: the snapshot under the scenario
    policy: Policy
    plan: Plan
    unplaced: Unplaced  #: pending because of the scenario; without one, all pending
    stay: tuple[Pending, ...]  #: keep running on a node that they should leave
    already_pending: int  #: number of portfolios pending without the scenario too
    loads: tuple[Load, ...]  #: sorted by node name
    suspects: tuple[str, ...]  #: suspect nodes that the plan uses
    storm: bool  #: failover would be held first
    remedies: tuple[Remedy, ...]

    @property
    def is_complete(self) -> bool:
        """Return whether the plan covers all passes, not only the next."""
        return self.policy is UNLIMITED

    @property
    def failovers(self) -> int:
        """Return the number of failovers in the plan, whose portfolios have no owner until then."""
        return sum(move.cause == "failover" for move in self.plan.move)


def answer(
    snapshot: Snapshot, scenario: Scenario, index: FleetIndex, storm_fraction: float
) -> Answer:
    """Return what the balancer would do under `scenario`.

    Pure; `index` indexes the snapshot's portfolios, `storm_fraction` is that of `is_storm`. Costs
    one or two plans, and more to find remedies if portfolios have no place. Raise NotInSnapshot.
    """
    policy = UNLIMITED if scenario.drain or scenario.add else Policy()
    hypothetical = apply_scenario(snapshot, scenario)
    plan = make_plan(hypothetical, policy, index)
    pending_before, stuck_before = frozenset[int](), frozenset[int]()
    if scenario:
        as_is = make_plan(snapshot, policy, index)
        pending_before = pending_ids(as_is)
        stuck_before = frozenset(entry.portfolio.id for entry in as_is.stuck)
    unplaced = newly_pending(plan, pending_before)
    stay = tuple(entry for entry in plan.stuck if entry.portfolio.id not in stuck_before)
    living = [node.name for node in hosting_nodes(snapshot)]
    return Answer(
        scenario=scenario,
        snapshot=snapshot,
        hypothetical=hypothetical,
        policy=policy,
        plan=plan,
        unplaced=unplaced,
        stay=stay,
        already_pending=sum(entry.portfolio.id in pending_before for entry in plan.pending),
        loads=tuple(_loads(hypothetical, index, plan)),
        suspects=suspect_targets(plan),
        storm=is_storm(scenario.lose, living, storm_fraction),
        remedies=tuple(
            _RemedyFinder(hypothetical, policy, index, pending_before, stuck_before).find(
                unplaced, stay, plan
            )
        ),
    )


# Loads


def _loads(hypothetical: Snapshot, index: FleetIndex, plan: Plan) -> Iterator[Load]:
    """Yield each node's load now and after the plan and all active handoffs, by node name."""
    before: dict[int, float] = {node.id: 0 for node in hypothetical.nodes}
    for node_id, settled in index.settled_by_node.items():
        before[node_id] = before.get(node_id, 0) + settled.weight
    after = dict(before)
    alive = {node.id for node in hypothetical.nodes if node.status in HOSTING}
    steps: list[Placement | Move] = [*plan.place, *plan.move]
    target_by_id = {step.portfolio.id: step.target.id for step in steps}
    for portfolio in index.unsettled.values():
        owner = portfolio.node
        if owner is not None:
            before[owner] = before.get(owner, 0) + portfolio.weight
        node_after = None if portfolio.id in target_by_id else _final_node(portfolio, alive)
        if node_after is not None:
            after[node_after] = after.get(node_after, 0) + portfolio.weight
    for step in steps:
        after[step.target.id] += step.portfolio.weight
        source = step.portfolio.node
        if source is not None and step.portfolio.id not in index.unsettled:
            after[source] -= step.portfolio.weight  # a settled portfolio was counted there
    for node in sorted(hypothetical.nodes, key=lambda each: each.name):
        yield Load(node, before[node.id], after[node.id] if node.id in alive else 0)


def _final_node(portfolio: PortfolioView, alive: Collection[int]) -> int | None:
    """Return the id of the portfolio's node once its active handoff is done; None: no owner."""
    handoff = portfolio.handoff
    if handoff is None:
        return portfolio.node
    if handoff.kind == "stop":
        return None
    return handoff.target if handoff.target in alive else portfolio.node


# Remedies


@dataclass(frozen=True, slots=True)
class _RemedyFinder:
    """Try what an operator could do, each remedy in a hypothetical snapshot of its own."""

    hypothetical: Snapshot
    policy: Policy
    index: FleetIndex
    pending_before: Collection[int]  #: ids of portfolios that are pending without the scenario
    stuck_before: Collection[int]  #: ids of portfolios that stay without the scenario

    def find(self, unplaced: Unplaced, stay: tuple[Pending, ...], plan: Plan) -> Iterator[Remedy]:
        """Yield the remedies that help the portfolios without a place and those of `Answer.stay`.

        The last may be a warning instead: the plan relies on suspect nodes.
        """
        without_place = (*unplaced.no_place, *stay)
        if without_place:
            yield from self._try_reopening(len(without_place))
            yield from self._try_enlarging(without_place)
        suspects = suspect_targets(plan)
        if suspects:
            left = self._without_place_in(cordon(self.hypothetical, suspects))
            if left > len(without_place):
                params = {"nodes": list(suspects), "left": left}
                yield Remedy(Reason("suspects_counted", params), left)

    def _without_place_in(self, hypothetical: Snapshot) -> int:
        """Return how many portfolios would have no place, or stay where they must not."""
        plan = make_plan(hypothetical, self.policy, self.index)
        stay = sum(entry.portfolio.id not in self.stuck_before for entry in plan.stuck)
        return len(newly_pending(plan, self.pending_before).no_place) + stay

    def _try_reopening(self, no_place_now: int) -> Iterator[Remedy]:
        """Yield a remedy for each node whose reopening helps, most free places first."""
        for node, free in self._roomiest(lambda each: each.cordoned or each.draining)[:MAX_TRIED]:
            left = self._without_place_in(reopen(self.hypothetical, [node.name]))
            if left < no_place_now:
                code = "undrain" if node.draining else "uncordon"
                params = {"node": node.name, "free": free, "left": left}
                yield Remedy(Reason(code, params), left)

    def _try_enlarging(self, without_place: tuple[Pending, ...]) -> Iterator[Remedy]:
        """Yield the remedy of a new node, or of more places on existing ones, if that helps."""
        places = ceil(sum(entry.portfolio.weight for entry in without_place))
        if places > MAX_CAPACITY:
            return
        labels: dict[str, str] = {}  # of selectors that conflict, the value of the first
        for entry in without_place:
            for key, value in entry.portfolio.selector.items():
                labels.setdefault(key, value)
        addition = Addition(places, labels)
        left = self._without_place_in(add(self.hypothetical, [addition]))
        if left >= len(without_place):
            return
        roomiest = self._roomiest(
            lambda each: not (each.cordoned or each.draining) and each.status == "alive"
        )
        nodes = [  # each of these helps as much as the new node
            node.name
            for node, _free in roomiest[:MAX_TRIED]
            if self._without_place_in(enlarge(self.hypothetical, node.name, places)) <= left
        ]
        params = {"places": places, "add": str(addition), "nodes": nodes, "left": left}
        yield Remedy(Reason("more_room", params), left)

    def _roomiest(self, wanted: Callable[[NodeView], bool]) -> list[tuple[NodeView, float]]:
        """Return (node, free places) of real hosting nodes that are `wanted`, most free first."""
        taken = {node_id: settled.weight for node_id, settled in self.index.settled_by_node.items()}
        for portfolio in self.index.unsettled.values():
            handoff = portfolio.handoff
            ends = () if handoff is None else (handoff.source, handoff.target)
            for node_id in {portfolio.node, *ends}:
                if node_id is not None:
                    taken[node_id] = taken.get(node_id, 0) + portfolio.weight
        new = {node.id for node in added_nodes(self.hypothetical)}
        found = [
            node
            for node in self.hypothetical.nodes
            if node.status in HOSTING and node.id not in new and wanted(node)
        ]
        free = {node.id: node.capacity - taken.get(node.id, 0) for node in found}
        found.sort(key=lambda each: (-free[each.id], each.name))
        return [(node, free[node.id]) for node in found]


def source_names(moves: Iterable[Move]) -> set[str]:
    """Return the names of the nodes that portfolios move from."""
    return {move.source.name for move in moves if move.source is not None}
