"""Loads and spread-group members per node while a plan is built, and the choice of a node."""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from operator import and_

from scheduling.decide.granted_revision import with_granted_revision
from scheduling.decide.planner.candidate_pool import NO_CAPACITY, SLACK, CandidatePool
from scheduling.decide.planner.fleet_index import FleetIndex, SettledPortfolios
from scheduling.decide.types import NodeView, PortfolioView, Requirements, Snapshot

HOSTING = ("alive", "suspect")

#: For a spread group on at least this many nodes a candidate pool sorted by members is cheaper
#: than skipping each of these nodes.
LARGE_GROUP = 32


class FleetState:
    """The loads and spread-group members of nodes, and the choice of a node under the hard rules.

    A node is represented by its index in the order of node names. Two loads are kept per node:

    - `held`: places taken by runs and by both ends of active handoffs. Decides what fits.
    - `expected`: places taken once the active handoffs are done. The balance is judged by it, so
      that a pass does not move again what is already moving.

    A node is *settled* if it gives no portfolio a reason to leave: it is alive or suspect, does not
    drain and meets the requirements of all settled portfolios on it, which are then counted as a
    whole. All other portfolios are counted individually.
    """

    def __init__(self, snapshot: Snapshot, index: FleetIndex) -> None:
        self.now = snapshot.taken_at
        self.index = index
        self.nodes: list[NodeView] = sorted(snapshot.nodes, key=lambda n: (n.name, n.id))
        self.index_by_id: dict[int, int] = {node.id: i for i, node in enumerate(self.nodes)}
        self.capacity: list[float] = [node.capacity for node in self.nodes]
        self.hosting: list[bool] = [node.status in HOSTING for node in self.nodes]
        self.alive: list[bool] = [node.status == "alive" for node in self.nodes]
        #: Whether the node takes new portfolios as long as it has room.
        self.open: list[bool] = [
            node.status in HOSTING
            and not node.cordoned
            and not node.draining
            and not self.is_flapping(node)
            for node in self.nodes
        ]
        #: A node with less room than this is full for every task of the plan.
        self.smallest_waiting: float = 0
        self.settled: list[bool] = [self._is_settled(node) for node in self.nodes]
        self.held: list[float] = [
            index.settled_by_node[node.id].weight
            if is_settled and node.id in index.settled_by_node
            else 0
            for node, is_settled in zip(self.nodes, self.settled, strict=True)
        ]
        self.expected: list[float] = list(self.held)
        #: (spread group, node) → number of members about to leave the node.
        self.leaving: dict[tuple[str, int], int] = {}
        self._members: dict[str, dict[int, int]] = {}  #: spread group → node → its members there
        self._meets: dict[Requirements, list[bool]] = {}  #: whether each node meets them
        #: (requirements, whether for suspect nodes, spread group or "") → pool.
        self._pools: dict[tuple[Requirements, bool, str], CandidatePool] = {}

    @classmethod
    def of(cls, snapshot: Snapshot) -> FleetState:
        """Return the fleet state with all places held that the snapshot says are held."""
        fleet = cls(snapshot, FleetIndex.of(snapshot.portfolios))
        for portfolio in fleet.individual_portfolios():
            fleet.hold_all_places(portfolio)
        return fleet

    def _is_settled(self, node: NodeView) -> bool:
        """Return whether no settled portfolio has a reason to leave the node."""
        settled = self.index.settled_by_node.get(node.id)
        return (
            node.status in HOSTING
            and not node.draining
            and (settled is None or settled.all_can_run_on(node))
        )

    def individual_portfolios(self) -> list[PortfolioView]:
        """Return all portfolios, sorted by name, but those that are settled on a settled node."""
        found = list(self.index.unsettled.values())
        for node_id, settled in self.index.settled_by_node.items():
            node_index = self.index_by_id.get(node_id)
            if node_index is None or not self.settled[node_index]:
                found.extend(settled.portfolios.values())
        return sorted(map(self.with_granted_revision, found), key=lambda each: (each.name, each.id))

    def with_granted_revision(self, portfolio: PortfolioView) -> PortfolioView:
        """Return the portfolio with its next grant's revision; unchanged if its owner lives."""
        if not portfolio.revision_choices or self.live_index(portfolio.node) is not None:
            return portfolio
        return with_granted_revision(portfolio, self.any_open_node_meets)

    def any_open_node_meets(self, requirements: Requirements) -> bool:
        """Return whether any open node, even a full one, meets the requirements."""
        return any(map(and_, self.open, self.meets(requirements)))

    def movable_settled_on(self, node: int) -> list[PortfolioView]:
        """Return the settled portfolios of a settled node that are not pinned."""
        found = self._settled_on(node)
        return [] if found is None else [p for p in found.portfolios.values() if p.pinned is None]

    def lightest_settled_on(self, node: int) -> float:
        """Return the least weight of a settled node's settled portfolios; `inf` if it has none."""
        found = self._settled_on(node)
        return inf if found is None else found.lightest

    def _settled_on(self, node: int) -> SettledPortfolios | None:
        return self.index.settled_by_node.get(self.nodes[node].id) if self.settled[node] else None

    # State

    def is_flapping(self, node: NodeView) -> bool:
        """Return whether the node was lost too often recently to be chosen automatically."""
        return node.flapping_until is not None and self.now < node.flapping_until

    def live_index(self, node_id: int | None) -> int | None:
        """Return the index of the node if it is alive or suspect, else None."""
        if node_id is None:
            return None
        node_index = self.index_by_id.get(node_id)
        return node_index if node_index is not None and self.hosting[node_index] else None

    def node_by_id(self, node_id: int | None) -> NodeView | None:
        """Return the node with this id, whatever its status, or None if the snapshot lacks it."""
        node_index = None if node_id is None else self.index_by_id.get(node_id)
        return None if node_index is None else self.nodes[node_index]

    def pinned_node(self, portfolio: PortfolioView) -> int | None:
        """Return the index of the portfolio's pinned node; None without a pin, or if it left."""
        view = self.node_by_id(portfolio.pinned)
        return None if view is None or view.status == "left" else self.index_by_id[view.id]

    def relative_load(self, node: int, added: float = 0) -> float:
        """Return the expected load, with `added` places, relative to the capacity; 1 is full."""
        return (self.expected[node] + added) / (self.capacity[node] or NO_CAPACITY)

    def meets(self, requirements: Requirements) -> list[bool]:
        """Return for each node whether it meets the requirements."""
        known = self._meets.get(requirements)
        if known is None:
            known = [requirements.is_met_by(node) for node in self.nodes]
            self._meets[requirements] = known
        return known

    def spread_members(self, portfolio: PortfolioView) -> dict[int, int]:
        """Return node → number of members of the portfolio's group, itself included; {} without."""
        if not portfolio.spread_group:
            return {}
        return self.group_members(portfolio.spread_group)

    def group_members(self, group: str) -> dict[int, int]:
        """Return node → number of members of a spread group there."""
        known = self._members.get(group)
        if known is None:
            known = self._members[group] = {
                self.index_by_id[node_id]: count
                for node_id, count in self.index.groups.get(group, {}).items()
                if node_id in self.index_by_id and self.settled[self.index_by_id[node_id]]
            }
        return known

    def fits(self, node: int, weight: float) -> bool:
        """Return whether `weight` places are free on `node`."""
        return self.held[node] + weight <= self.capacity[node] + SLACK

    # Changes

    def hold(self, node: int, portfolio: PortfolioView, sign: int = 1) -> None:
        """Take the portfolio's places on `node`, or release them with `sign` -1."""
        self.held[node] += sign * portfolio.weight
        if portfolio.spread_group:
            members = self.group_members(portfolio.spread_group)
            members[node] = members.get(node, 0) + sign
            if not members[node]:
                del members[node]

    def hold_all_places(self, portfolio: PortfolioView) -> int | None:
        """Add the portfolio to the held loads of nodes and to the expected load of its final node.

        It holds places on its owner and at both ends of its handoff, since a source stays warm
        until the target has committed. The final node is the living target, else the owner, else
        the living source; a stop has none. Return the index of the living owner, or None.
        """
        handoff = portfolio.handoff
        owner = self.live_index(portfolio.node)
        if handoff is None:
            if owner is not None:
                self.hold(owner, portfolio)
                self.expect(owner, portfolio)
            return owner
        target = self.live_index(handoff.target)
        source = self.live_index(handoff.source)
        living = [node for node in (target, owner, source) if node is not None]
        final_node = living[0] if living and handoff.kind != "stop" else None
        for node in {owner, source, target}:
            if node is not None:
                self.hold(node, portfolio)
                if node != final_node:
                    self.note_leaving(node, portfolio)
        if final_node is not None:
            self.expect(final_node, portfolio)
        return owner

    def note_leaving(self, node: int, portfolio: PortfolioView) -> None:
        """Count the portfolio among those of its spread group, if any, that will leave `node`."""
        if portfolio.spread_group:
            key = (portfolio.spread_group, node)
            self.leaving[key] = self.leaving.get(key, 0) + 1

    def expect(self, node: int, portfolio: PortfolioView, sign: int = 1) -> None:
        """Add the portfolio to the expected load of `node`, or subtract it with `sign` -1."""
        self.expected[node] += sign * portfolio.weight

    def invalidate_pools(self) -> None:
        """Drop the candidate pools, as after a held load decreased; a choice builds them anew."""
        self._pools.clear()

    # Choice

    def is_allowed(self, node: int, portfolio: PortfolioView) -> bool:
        """Return whether all hard rules allow the portfolio on `node`.

        Suspect nodes and earlier failures are preferences, not rules.
        """
        if not (self.open[node] and self.meets(portfolio.requirements)[node]):
            return False
        if not self.fits(node, portfolio.weight):
            return False
        return not (portfolio.spread_hard and node in self.spread_members(portfolio))

    def choose(self, portfolio: PortfolioView, avoid: Collection[int] = frozenset()) -> int | None:
        """Return the best allowed node (so one with room) that is not in `avoid`, or None.

        Alive nodes come first, then suspect ones. Nodes where the portfolio failed to start twice
        come last: its remaining attempts have to be made somewhere.
        """
        failed = frozenset(
            self.index_by_id[i] for i in portfolio.failed_nodes if i in self.index_by_id
        )
        skip = failed.union(avoid)
        for suspect in (False, True):
            node = self._best(portfolio, skip, suspect)
            if node is not None:
                return node
        last_resort = [
            (not self.alive[node], self._held_share_with(node, portfolio.weight), node)
            for node in failed
            if node not in avoid and self.is_allowed(node, portfolio)
        ]
        return min(last_resort)[2] if last_resort else None

    def _held_share_with(self, node: int, weight: float) -> float:
        """Return the held load, with `weight` added, relative to the capacity."""
        return (self.held[node] + weight) / (self.capacity[node] or NO_CAPACITY)

    def _best(self, portfolio: PortfolioView, skip: Collection[int], suspect: bool) -> int | None:
        """Return the best alive node, or with `suspect` the best suspect one; None without room."""
        requirements, weight = portfolio.requirements, portfolio.weight
        pool = self._pool(requirements, suspect)
        if not pool.nodes:
            return None
        members = self.spread_members(portfolio)
        if not members:
            return pool.best(weight, skip)
        # Most often a node without a member has room: no pool sorted by members is needed then.
        if portfolio.spread_hard or len(members) < LARGE_GROUP:
            alone = pool.best(weight, members if not skip else {*skip, *members})
            if alone is not None or portfolio.spread_hard:
                return alone
        return self._pool(requirements, suspect, portfolio.spread_group or "").best(weight, skip)

    def _pool(self, requirements: Requirements, suspect: bool, group: str = "") -> CandidatePool:
        """Return the pool of eligible nodes, sorted by members of `group`, if any, then by load."""
        key = (requirements, suspect, group)
        pool = self._pools.get(key)
        if pool is None:
            pool = CandidatePool(
                self.eligible_nodes(requirements, suspect),
                self.capacity,
                load=self.held,
                held=self.held,
                counts=self.group_members(group) if group else None,
                drop_below=self.smallest_waiting,
            )
            self._pools[key] = pool
        return pool

    def count_candidates(self, requirements: Requirements) -> int:
        """Return how many open and alive nodes, even full ones, meet the requirements."""
        return len(self._pool(requirements, suspect=False).nodes)

    def eligible_nodes(self, requirements: Requirements, suspect: bool = False) -> list[int]:
        """Return the open nodes, even full ones, that meet the requirements.

        Only the alive ones, or with `suspect` only the suspect ones.
        """
        meets = self.meets(requirements)
        return [
            node
            for node in range(len(self.nodes))
            if self.open[node] and meets[node] and self.alive[node] is not suspect
        ]
