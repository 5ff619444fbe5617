"""The fleet as a plan takes shape: who holds what, and which node would be the best for whom."""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from operator import and_
from typing import NamedTuple

from scheduling.decide.granted_revision import with_granted_revision
from scheduling.decide.planner.candidate_pool import NO_CAPACITY, SLACK, CandidatePool
from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.types import (
    NodeView,
    PortfolioView,
    Requirements,
    Snapshot,
    may_continue_under,
)

HOSTING = ("alive", "suspect")

#: A spread group with at least this many nodes taken gets an order of its own, by members per node.
LARGE_GROUP = 32


class MissingRequirements(NamedTuple):
    """Which parts of a need a node does not meet."""

    selector: bool
    strategy: bool
    feed: bool
    python: bool


def lacks(node: NodeView, need: Requirements) -> MissingRequirements:
    """Return what `node` lacks of `need`: labels, versions of strategy and Python, feed data."""
    return MissingRequirements(
        any(node.labels.get(key) != value for key, value in need.selector),
        bool(need.strategy) and node.strategies.get(need.strategy) != need.strategy_version,
        bool(need.feed) and node.feeds.get(need.feed) != need.feed_sha,
        not may_continue_under(need.python, need.accept_python, node.python),
    )


class FleetState:
    """Loads and group members per node, and the choice of a node under the hard rules.

    Nodes are numbers in the order of their names. Two loads are kept for each:

    - `held`: what is taken, by runs and by the slots of handoffs under way on both their ends. It
      decides what fits.
    - `expected`: what will run there once the handoffs under way are done. It decides what is
      even, so that a pass does not move again what is already moving.

    A node is *settled* where nothing about it bears on what runs there: it is alive or suspect,
    does not drain and has what each of them needs. Its share of the stock is held as a whole; all
    other portfolios are `others`, to be held one by one.
    """

    def __init__(self, snapshot: Snapshot, fleet_index: FleetIndex) -> None:
        self.now = snapshot.taken_at
        self.stock = fleet_index
        self.nodes: list[NodeView] = sorted(snapshot.nodes, key=lambda n: (n.name, n.id))
        self.index_by_id: dict[int, int] = {node.id: i for i, node in enumerate(self.nodes)}
        self.capacity: list[float] = [node.capacity for node in self.nodes]
        self.hosting: list[bool] = [node.status in HOSTING for node in self.nodes]
        self.alive: list[bool] = [node.status == "alive" for node in self.nodes]
        self.open: list[bool] = [
            node.status in HOSTING
            and not node.cordoned
            and not node.draining
            and not self.is_flapping(node)
            for node in self.nodes
        ]
        #: A node with less room than this is full for everything that waits for a place.
        self.smallest_waiting: float = 0
        self.settled: list[bool] = [self._is_settled(node) for node in self.nodes]
        self.held: list[float] = [
            fleet_index.settled_by_node[node.id].weight
            if is_settled and node.id in fleet_index.settled_by_node
            else 0
            for node, is_settled in zip(self.nodes, self.settled, strict=True)
        ]
        self.expected: list[float] = list(self.held)
        #: (spread group, node) → how many of the members there are about to leave it.
        self.leaving: dict[tuple[str, int], int] = {}
        self._members: dict[str, dict[int, int]] = {}
        self._meets: dict[Requirements, list[bool]] = {}
        self._pools: dict[tuple[Requirements, bool, str], CandidatePool] = {}

    @classmethod
    def of(cls, snapshot: Snapshot) -> FleetState:
        """Return the fleet with everything held that the snapshot says is held."""
        fleet = cls(snapshot, FleetIndex.of(snapshot.portfolios))
        for portfolio in fleet.individual_portfolios():
            fleet.hold_all_places(portfolio)
        return fleet

    def _is_settled(self, node: NodeView) -> bool:
        share = self.stock.settled_by_node.get(node.id)
        return (
            node.status in HOSTING
            and not node.draining
            and (share is None or share.all_can_run_on(node))
        )

    def individual_portfolios(self) -> list[PortfolioView]:
        """Return what is not held as part of a settled node's share, in the order of names."""
        found = list(self.stock.unsettled.values())
        for node_id, share in self.stock.settled_by_node.items():
            number = self.index_by_id.get(node_id)
            if number is None or not self.settled[number]:
                found.extend(share.portfolios.values())
        return sorted(map(self.with_granted_revision, found), key=lambda each: (each.name, each.id))

    def with_granted_revision(self, portfolio: PortfolioView) -> PortfolioView:
        """Return the portfolio with the revision that its next grant brings."""
        if not portfolio.revision_choices or self.live_index(portfolio.node) is not None:
            return portfolio
        return with_granted_revision(portfolio, self.any_open_node_meets)

    def any_open_node_meets(self, need: Requirements) -> bool:
        """Whether a node that takes new portfolios meets the need, full ones included."""
        return any(map(and_, self.open, self.meets(need)))

    def movable_settled_on(self, node: int) -> list[PortfolioView]:
        """Return what runs steadily on a settled node and no pin holds there."""
        share = self.stock.settled_by_node.get(self.nodes[node].id) if self.settled[node] else None
        return [] if share is None else [p for p in share.portfolios.values() if p.pinned is None]

    def lightest_settled_on(self, node: int) -> float:
        """Return the least weight of a settled node's share; infinite where there is none."""
        share = self.stock.settled_by_node.get(self.nodes[node].id) if self.settled[node] else None
        return inf if share is None else share.lightest

    # What is

    def is_flapping(self, node: NodeView) -> bool:
        """Whether the node was lost too often lately to be chosen without a person."""
        return node.flapping_until is not None and self.now < node.flapping_until

    def live_index(self, node_id: int | None) -> int | None:
        """Return the number of a node that can hold something: alive or suspect. Else None."""
        if node_id is None:
            return None
        number = self.index_by_id.get(node_id)
        return number if number is not None and self.hosting[number] else None

    def node_by_id(self, node_id: int | None) -> NodeView | None:
        """Return the node of this id, whatever its status, or None if it is not in the snapshot."""
        number = None if node_id is None else self.index_by_id.get(node_id)
        return None if number is None else self.nodes[number]

    def pinned_node(self, portfolio: PortfolioView) -> int | None:
        """Return the number of the node it is pinned to, or None. One that left is no pin."""
        view = self.node_by_id(portfolio.pinned)
        return None if view is None or view.status == "left" else self.index_by_id[view.id]

    def relative_load(self, node: int) -> float:
        """Return the expected load as a part of the capacity: 1 is full."""
        return self.expected[node] / (self.capacity[node] or NO_CAPACITY)

    def relative_load_with(self, node: int, weight: float) -> float:
        """Return what `relative` would be with `weight` more, or less, on the node."""
        return (self.expected[node] + weight) / (self.capacity[node] or NO_CAPACITY)

    def meets(self, need: Requirements) -> list[bool]:
        """Return for each node whether it has everything of `need`."""
        known = self._meets.get(need)
        if known is None:
            known = [need.is_met_by(node) for node in self.nodes]
            self._meets[need] = known
        return known

    def spread_members(self, portfolio: PortfolioView) -> dict[int, int]:
        """Return node -> how many of the portfolio's spread group are there, itself included."""
        if not portfolio.spread_group:
            return {}
        return self.group_members(portfolio.spread_group)

    def group_members(self, group: str) -> dict[int, int]:
        """Return node -> how many of a spread group are there."""
        known = self._members.get(group)
        if known is None:
            known = self._members[group] = {
                self.index_by_id[node_id]: count
                for node_id, count in self.stock.groups.get(group, {}).items()
                if node_id in self.index_by_id and self.settled[self.index_by_id[node_id]]
            }
        return known

    def fits(self, node: int, weight: float) -> bool:
        """Whether `weight` more places are free on `node`."""
        return self.held[node] + weight <= self.capacity[node] + SLACK

    # What changes

    def hold(self, node: int, portfolio: PortfolioView, sign: int = 1) -> None:
        """Take the portfolio's places on `node`, or with `sign` -1 give them back."""
        self.held[node] += sign * portfolio.weight
        if portfolio.spread_group:
            members = self.group_members(portfolio.spread_group)
            members[node] = members.get(node, 0) + sign
            if not members[node]:
                del members[node]

    def hold_all_places(self, portfolio: PortfolioView) -> int | None:
        """Take the places the portfolio holds; return the number of its living owner, or None.

        It holds them where it runs and at both ends of its handoff: a source stays warm until the
        target has committed.
        """
        handoff = portfolio.handoff
        owner = self.live_index(portfolio.node)
        if handoff is None:
            if owner is not None:
                self.hold(owner, portfolio)
                self.expect(owner, portfolio)
            return owner
        target = self.live_index(handoff.target)
        home = target
        if home is None:
            home = self.live_index(handoff.source) if owner is None else owner
        if handoff.kind == "stop":
            home = None
        for node in {owner, self.live_index(handoff.source), target}:
            if node is not None:
                self.hold(node, portfolio)
                if node != home:
                    self.note_leaving(node, portfolio)
        if home is not None:
            self.expect(home, portfolio)
        return owner

    def note_leaving(self, node: int, portfolio: PortfolioView) -> None:
        """Note that the portfolio is about to leave `node`, though it still holds places there."""
        if portfolio.spread_group:
            key = (portfolio.spread_group, node)
            self.leaving[key] = self.leaving.get(key, 0) + 1

    def expect(self, node: int, portfolio: PortfolioView, sign: int = 1) -> None:
        """Expect the portfolio to run on `node`, or with `sign` -1 to be gone from it."""
        self.expected[node] += sign * portfolio.weight

    def invalidate_pools(self) -> None:
        """Sort nodes anew at the next choice: needed once a held load went down."""
        self._pools.clear()

    # What would be best

    def is_allowed(self, node: int, portfolio: PortfolioView) -> bool:
        """Whether every hard rule lets it run there. Suspicion and failures are not rules."""
        if not (self.open[node] and self.meets(portfolio.requirements)[node]):
            return False
        if not self.fits(node, portfolio.weight):
            return False
        return not (portfolio.spread_hard and node in self.spread_members(portfolio))

    def choose(self, portfolio: PortfolioView, avoid: Collection[int] = frozenset()) -> int | None:
        """Return the best node for the portfolio, or None if no node is allowed and has room.

        Alive nodes first; then suspect ones; and where starting it failed twice only if nothing
        else is left, so that its last attempts are made rather than never.
        """
        failed = frozenset(
            self.index_by_id[i] for i in portfolio.failed_nodes if i in self.index_by_id
        )
        skip = frozenset(avoid) | failed if failed else avoid
        for suspect in (False, True):
            node = self._best(portfolio, skip, suspect)
            if node is not None:
                return node
        left = [
            (not self.alive[node], self._filled(node, portfolio.weight), node)
            for node in failed
            if node not in avoid and self.is_allowed(node, portfolio)
        ]
        return min(left)[2] if left else None

    def _filled(self, node: int, weight: float) -> float:
        return (self.held[node] + weight) / (self.capacity[node] or NO_CAPACITY)

    def _best(self, portfolio: PortfolioView, skip: Collection[int], suspect: bool) -> int | None:
        need, weight = portfolio.requirements, portfolio.weight
        pool = self._pool(need, suspect)
        if not pool.nodes:
            return None
        neighbours = self.spread_members(portfolio)
        if not neighbours:
            return pool.best(weight, skip)
        if portfolio.spread_hard or len(neighbours) < LARGE_GROUP:
            alone = pool.best(weight, neighbours if not skip else {*skip, *neighbours})
            if alone is not None or portfolio.spread_hard:
                return alone
        return self._pool(need, suspect, portfolio.spread_group or "").best(weight, skip)

    def _pool(self, need: Requirements, suspect: bool, group: str = "") -> CandidatePool:
        key = (need, suspect, group)
        pool = self._pools.get(key)
        if pool is None:
            pool = CandidatePool(
                self.eligible_nodes(need, suspect),
                self.capacity,
                self.held,
                self.held,
                self.group_members(group) if group else None,
                self.smallest_waiting,
            )
            self._pools[key] = pool
        return pool

    def count_candidates(self, need: Requirements) -> int:
        """Return how many alive nodes take new portfolios and meet the need, full ones included."""
        return len(self._pool(need, suspect=False).nodes)

    def eligible_nodes(self, need: Requirements, suspect: bool = False) -> list[int]:
        """Return the nodes that take new portfolios and meet the need, full ones included."""
        meets = self.meets(need)
        return [
            node
            for node in range(len(self.nodes))
            if self.open[node] and meets[node] and self.alive[node] is not suspect
        ]
