"""Answers before acts: what the balancer would do, as things are or as a question has them.

One function answers the command, the API and the page, so that they cannot disagree. Where nodes
are to be drained or added the answer tells the whole way, not the first pass of it: how much may
begin at a time is lifted, and said.
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
    newly_pending,
    pending_ids,
    suspect_targets,
)

#: Everything that has to move, at once: what a drain or a new node comes to in the end.
UNLIMITED = Policy(max_moves=1_000_000, handoffs_per_node=1_000_000)

#: So many nodes are tried for each kind of help: a plan each.
MAX_TRIED = 4


@dataclass(frozen=True, slots=True)
class Load:
    """The load of one node, in places, as it is and after all steps of the plan."""

    node: NodeView  #: as imagined
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Remedy:
    """What would help, having been tried: the plan was made with it."""

    reason: Reason
    no_place: int  #: portfolios that would then have no place, or have to stay


@dataclass(frozen=True, slots=True)
class Answer:
    """A plan, and what it comes to."""

    scenario: Scenario
    snapshot: Snapshot  #: as things are
    hypothetical: Snapshot  #: as the question has them
    policy: Policy
    plan: Plan
    unplaced: Unplaced  #: pending because of the question; without one, all that is pending
    stay: tuple[Pending, ...]  #: run on where they are although they should leave
    already_pending: int  #: pending as things are, whatever is asked
    loads: tuple[Load, ...]  #: in the order of names
    suspects: tuple[str, ...]  #: counted, though nobody is sure of them
    storm: bool  #: so many are lost that failover would be held first
    remedies: tuple[Remedy, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the plan is more than the next pass would begin."""
        return self.policy is UNLIMITED

    @property
    def failovers(self) -> int:
        """Return how many would be without an owner until they are failed over."""
        return sum(move.cause == "failover" for move in self.plan.move)


def answer(
    snapshot: Snapshot, question: Scenario, stock: FleetIndex, storm_fraction: float = 0.5
) -> Answer:
    """Return what the balancer would do if things were as `question` has them.

    Pure; `stock` is that of the snapshot's portfolios. Costs a plan or two, and where something has
    no place a few more to find what helps. Raise NotInSnapshot for a name no node has.
    """
    policy = UNLIMITED if question.drain or question.add else Policy()
    world = apply_scenario(snapshot, question)
    plan = make_plan(world, policy, stock)
    otherwise, stuck = frozenset[int](), frozenset[int]()
    if question:
        as_is = make_plan(snapshot, policy, stock)
        otherwise = pending_ids(as_is)
        stuck = frozenset(entry.portfolio.id for entry in as_is.stuck)
    left = newly_pending(plan, otherwise)
    stay = tuple(entry for entry in plan.stuck if entry.portfolio.id not in stuck)
    return Answer(
        scenario=question,
        snapshot=snapshot,
        hypothetical=world,
        policy=policy,
        plan=plan,
        unplaced=left,
        stay=stay,
        already_pending=sum(entry.portfolio.id in otherwise for entry in plan.pending),
        loads=tuple(_loads(snapshot, world, stock, plan)),
        suspects=suspect_targets(plan),
        storm=_would_be_storm(snapshot, question, storm_fraction),
        remedies=tuple(
            _RemedyFinder(world, policy, stock, otherwise, stuck).find(left, stay, plan)
        ),
    )


def _would_be_storm(snapshot: Snapshot, question: Scenario, fraction: float) -> bool:
    living = [node.name for node in snapshot.nodes if node.status in HOSTING]
    return is_storm(question.lose, living, fraction)


# Loads


def _loads(before: Snapshot, world: Snapshot, stock: FleetIndex, plan: Plan) -> Iterator[Load]:
    """Yield each node's load now, and once handoffs under way and all of the plan are done."""
    now: dict[int, float] = {node.id: 0 for node in world.nodes}
    for node_id, share in stock.settled_by_node.items():
        now[node_id] = now.get(node_id, 0) + share.weight
    then = dict(now)
    alive = {node.id for node in world.nodes if node.status in HOSTING}
    steps: list[Placement | Move] = [*plan.place, *plan.move]
    goes = {step.portfolio.id: step.target.id for step in steps}
    for portfolio in stock.unsettled.values():
        owner = portfolio.node
        if owner is not None:
            now[owner] = now.get(owner, 0) + portfolio.weight
        home = None if portfolio.id in goes else _final_node(portfolio, alive)
        if home is not None:
            then[home] = then.get(home, 0) + portfolio.weight
    for step in steps:
        then[step.target.id] += step.portfolio.weight
        source = step.portfolio.node
        if source is not None and step.portfolio.id not in stock.unsettled:
            then[source] -= step.portfolio.weight
    for node in sorted(world.nodes, key=lambda node: node.name):
        yield Load(node, now[node.id], then[node.id] if node.id in alive else 0)


def _final_node(portfolio: PortfolioView, alive: Collection[int]) -> int | None:
    """Return where a portfolio runs once its handoff under way is done."""
    handoff = portfolio.handoff
    if handoff is None:
        return portfolio.node
    if handoff.kind == "stop":
        return None
    return handoff.target if handoff.target in alive else portfolio.node


# What would help


class _RemedyFinder:
    """Tries what a person could do, in worlds of its own."""

    def __init__(
        self,
        world: Snapshot,
        policy: Policy,
        stock: FleetIndex,
        otherwise: Collection[int],
        stuck: Collection[int],
    ) -> None:
        self.world = world
        self.policy = policy
        self.stock = stock
        self.otherwise = otherwise
        self.stuck = stuck

    def find(self, left: Unplaced, stay: tuple[Pending, ...], plan: Plan) -> Iterator[Remedy]:
        """Yield what would help those that have no place, each tried, and what is not sure."""
        homeless = (*left.no_place, *stay)
        if homeless:
            yield from self._reopened(len(homeless))
            yield from self._larger(homeless)
        suspects = suspect_targets(plan)
        if suspects:
            without = self._left_in(cordon(self.world, suspects))
            if without > len(homeless):
                yield Remedy(
                    Reason("suspects_counted", {"nodes": list(suspects), "left": without}), without
                )

    def _left_in(self, world: Snapshot) -> int:
        plan = make_plan(world, self.policy, self.stock)
        stay = sum(entry.portfolio.id not in self.stuck for entry in plan.stuck)
        return len(newly_pending(plan, self.otherwise).no_place) + stay

    def _reopened(self, homeless: int) -> Iterator[Remedy]:
        """Yield the nodes that could be opened again, most room first, where it helps."""
        for node, free in self._by_room(lambda node: node.cordoned or node.draining)[:MAX_TRIED]:
            left = self._left_in(reopen(self.world, [node.name]))
            if left < homeless:
                code = "undrain" if node.draining else "uncordon"
                params = {"node": node.name, "free": free, "left": left}
                yield Remedy(Reason(code, params), left)

    def _larger(self, homeless: tuple[Pending, ...]) -> Iterator[Remedy]:
        """Yield one node more, or more places on one there is, where that helps."""
        places = ceil(sum(entry.portfolio.weight for entry in homeless))
        if places > MAX_CAPACITY:
            return
        labels: dict[str, str] = {}
        for entry in homeless:
            for key, value in entry.portfolio.selector.items():
                labels.setdefault(key, value)
        addition = Addition(places, labels)
        left = self._left_in(add(self.world, [addition]))
        if left >= len(homeless):
            return
        nodes = [
            node.name
            for node, _ in self._by_room(
                lambda node: not (node.cordoned or node.draining) and node.status == "alive"
            )[:MAX_TRIED]
            if self._left_in(enlarge(self.world, node.name, places)) <= left
        ]
        params = {"places": places, "add": str(addition), "nodes": nodes, "left": left}
        yield Remedy(Reason("more_room", params), left)

    def _by_room(self, wanted: Callable[[NodeView], bool]) -> list[tuple[NodeView, float]]:
        """Return real nodes that can host and are `wanted`, with their free places, most first."""
        taken = {node_id: share.weight for node_id, share in self.stock.settled_by_node.items()}
        for portfolio in self.stock.unsettled.values():
            handoff = portfolio.handoff
            ends = {portfolio.node} if handoff is None else {
                portfolio.node, handoff.source, handoff.target,
            }  # fmt: skip
            for node_id in ends:
                if node_id is not None:
                    taken[node_id] = taken.get(node_id, 0) + portfolio.weight
        new = {node.id for node in added_nodes(self.world)}
        found = [
            (node, node.capacity - taken.get(node.id, 0))
            for node in self.world.nodes
            if node.status in HOSTING and node.id not in new and wanted(node)
        ]
        return sorted(found, key=lambda pair: (-pair[1], pair[0].name))


def source_names(moves: Iterable[Move]) -> set[str]:
    """Return the names of the nodes that something moves from."""
    return {move.source.name for move in moves if move.source is not None}
