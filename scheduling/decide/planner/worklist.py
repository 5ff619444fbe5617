"""Classify portfolios by the action they need: fail over, place, drain, return to pin, move off.

Building the worklist examines each portfolio that is not settled on a settled node, and adds the
places it holds to the fleet state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from scheduling.decide.planner.feasibility import describe_artifact
from scheduling.decide.planner.fleet_index import should_run
from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.types import MoveCause, Pending, Policy, PortfolioView, Reason, Snapshot


def placing_order(portfolio: PortfolioView) -> tuple[float, float, str, int]:
    """Return the sort key of placement: by priority, then weight, both highest first."""
    return (-portfolio.priority, -portfolio.weight, portfolio.name, portfolio.id)


@dataclass(slots=True)
class PlacementTask:
    """A portfolio that should run on another node, and the target chosen for it."""

    portfolio: PortfolioView
    cause: MoveCause | None  #: None: it has no owner and is to be placed
    source: int | None = None  #: index of the node to leave
    supersedes: int | None = None  #: id of the active handoff that the new one ends
    preferred_node: int | None = None  #: index of a node preferred to all others, if allowed
    held_node: int | None = None  #: index of a node where its active handoff already holds places
    only_node: int | None = None  #: index of the only node considered
    why: str = ""  #: the code of the move's reason, if it differs from the cause
    room_for: str = ""  #: the name of the portfolio that the move makes room for
    target: int | None = None
    load_before: float = 0  #: of the target, before the move
    source_load: float = 0  #: before the move
    cpu: Mapping[str, float] | None = None  #: the figures behind a rebalance move by CPU

    @property
    def is_leaving(self) -> bool:
        """Return whether the portfolio runs and should leave its node."""
        return self.cause in ("drain", "pin", "rebalance")


class Worklist:
    """Portfolios grouped by the action they need."""

    def __init__(self, snapshot: Snapshot, policy: Policy, fleet: FleetState) -> None:
        self.snapshot = snapshot
        self.policy = policy
        self.fleet = fleet
        self.now = snapshot.taken_at
        self.failover: list[PlacementTask] = []
        self.place: list[PlacementTask] = []
        self.drain: list[PlacementTask] = []
        self.pin: list[PlacementTask] = []
        #: On a node that breaks one of their rules, or has a member of their hard spread group too.
        self.misplaced: list[PlacementTask] = []
        self.pending: list[Pending] = []  #: without a living owner; have to wait
        self.stuck: list[Pending] = []  #: run on a node that they should leave, and cannot
        self.older: list[Pending] = []  #: run an earlier revision than the wanted one
        #: A failover is under way or held back.
        self.has_failover = snapshot.storm_hold or bool(snapshot.storm_late) or snapshot.after_storm
        self._running_lists: dict[int, list[PortfolioView]] = {}  #: by node: see `running`
        self._classify_portfolios()

    def to_place(self) -> list[PlacementTask]:
        """Return failovers and placements in the order in which they are assigned."""
        return [
            *self._limit_after_storm(_in_placing_order(self.failover)),
            *_in_placing_order(self.place),
        ]

    def to_move_off(self) -> list[PlacementTask]:
        """Return running portfolios that should leave their node, in order of precedence."""
        return [
            *_in_placing_order(self.drain),
            *_in_placing_order(self.pin),
            *_in_placing_order(self.misplaced),
        ]

    def running(self, node: int) -> list[PortfolioView]:
        """Return the list of portfolios on a node that may be rebalanced.

        A caller that moves one of them removes it from the list.
        """
        known = self._running_lists.get(node)
        if known is None:
            known = self._running_lists[node] = self.fleet.movable_settled_on(node)
        return known

    def movable(self, node: int) -> list[PortfolioView]:
        """Return the portfolios of `running` that may move now."""
        now = self.now
        return [
            p for p in self.running(node) if p.phase == "running" and not _is_backing_off(p, now)
        ]

    def lightest(self, node: int) -> float:
        """Return a lower bound for the weights of `movable(node)`, without examining each."""
        known = self._running_lists.get(node)
        if known is None:  # so none of the node's settled portfolios has been chosen to move
            return self.fleet.lightest_settled_on(node)
        return min((portfolio.weight for portfolio in known), default=inf)

    def _classify_portfolios(self) -> None:
        """Enqueue or check portfolios that are not settled on a settled node; hold their places."""
        individual = self.fleet.individual_portfolios()
        for portfolio in individual:
            task = self._task_without_owner(portfolio)
            owner = self.fleet.hold_all_places(portfolio)
            if task is not None:
                self._enqueue(task)
            elif owner is not None and portfolio.handoff is None and should_run(portfolio):
                self._check_current_node(portfolio, owner)
        self._separate_spread_groups({p.spread_group for p in individual if p.spread_group})

    def _separate_spread_groups(self, groups: set[str]) -> None:
        """Relocate all but one of the members of a hard spread group that share a node.

        Members share a node if the group was made hard after they were placed. `groups` are those
        with members outside the settled portfolios.
        """
        fleet = self.fleet
        shared = {(group, fleet.index_by_id.get(node_id)) for group, node_id in fleet.index.crowded}
        for group in groups:
            shared |= {(group, node) for node, n in fleet.group_members(group).items() if n > 1}
        for group, node in shared:
            if node is None:
                continue
            sharing = [p for p in self.running(node) if p.spread_hard and p.spread_group == group]
            sharing.sort(key=placing_order)
            # If a member that may not move is there too, that one stays, and all others leave.
            stays = 1 if len(sharing) == fleet.group_members(group).get(node) else 0
            for portfolio in sharing[stays:]:
                self.running(node).remove(portfolio)
                self._add_move_off(self.misplaced, portfolio, node, "rebalance", why="spread")

    def _task_without_owner(self, portfolio: PortfolioView) -> PlacementTask | None:
        """Return the task of a portfolio that should run and has no living owner, else None."""
        if not should_run(portfolio):
            return None
        fleet, handoff = self.fleet, portfolio.handoff
        if fleet.live_index(portfolio.node) is not None:
            return None
        held_node = None
        if handoff is not None:
            target = fleet.live_index(handoff.target)
            if handoff.kind == "stop":
                return None  # a stop outranks failover
            if target is not None and handoff.kind in ("failover", "place"):
                self.has_failover = self.has_failover or handoff.kind == "failover"
                return None  # already under way
            # During a migrate the target may have prepared; without one, the source is still warm.
            held_node = fleet.live_index(handoff.source) if target is None else target
        pinned = fleet.live_index(portfolio.pinned)
        return PlacementTask(
            portfolio,
            cause=None if portfolio.node is None else "failover",
            source=None if portfolio.node is None else fleet.index_by_id.get(portfolio.node),
            supersedes=None if handoff is None else handoff.id,
            preferred_node=pinned if portfolio.node is None else held_node,
            held_node=held_node,
        )

    def _enqueue(self, task: PlacementTask) -> None:
        """Append a task to failovers or placements, or record why it has to wait."""
        portfolio, snapshot = task.portfolio, self.snapshot
        failover = task.cause == "failover"
        held = None
        if failover and snapshot.frozen and snapshot.frozen_failover:
            held = "frozen_failover"
        elif failover and snapshot.storm_hold:
            held = "storm_hold"
        elif failover and snapshot.storm_late:
            held = "storm_late"
        if held is not None:
            self._hold_back(task, held, by=snapshot.storm_by, late=list(snapshot.storm_late))
        elif _is_backing_off(portfolio, self.now):
            self.pending.append(Pending(portfolio, _back_off_reason(portfolio, self.now)))
        else:
            (self.failover if failover else self.place).append(task)

    def _hold_back(self, task: PlacementTask, why: str, **params: object) -> None:
        """Record a failover as pending, with the code `why` and its parameters as the reason."""
        source = self.fleet.node_by_id(task.portfolio.node)
        reason = Reason(why, {"node": source.name if source else None, **params})
        self.pending.append(Pending(task.portfolio, reason))

    def _limit_after_storm(self, failover: list[PlacementTask]) -> list[PlacementTask]:
        """Return all failovers; after a storm, hold back those over what one pass may start."""
        if not self.snapshot.after_storm:
            return failover
        limit = self.policy.failovers_after_storm
        for task in failover[limit:]:
            self._hold_back(task, "after_storm", limit=limit)
        return failover[:limit]

    def _check_current_node(self, portfolio: PortfolioView, node: int) -> None:
        """Record that a running portfolio should leave its node, stays, or may be rebalanced."""
        fleet = self.fleet
        pin = fleet.pinned_node(portfolio)
        if fleet.nodes[node].draining:
            self._add_move_off(self.drain, portfolio, node, "drain")
        elif pin == node:
            self._note_older_revision(portfolio, node)
        elif pin is not None:
            self._add_move_off(self.pin, portfolio, node, "pin", only_node=pin)
        elif not (fleet.meets(portfolio.requirements)[node] or self._meets_wanted(portfolio, node)):
            self._add_move_off(self.misplaced, portfolio, node, "rebalance", why="rule_broken")
        else:
            self.running(node).append(portfolio)
            self._note_older_revision(portfolio, node)

    def _note_older_revision(self, portfolio: PortfolioView, node: int) -> None:
        """Record a portfolio on an earlier revision whose node cannot run the wanted one."""
        wanted = portfolio.wanted
        if wanted is not None and not self._has_wanted_strategy(portfolio, node):
            nodes = range(len(self.fleet.nodes))
            params = {
                "running": f"r{portfolio.revision}",
                "wanted": f"r{wanted.revision}",
                "strategy": f"{wanted.strategy} {wanted.strategy_version}",
                **describe_artifact(wanted.artifact),
                "node": self.fleet.nodes[node].name,
                "node_python": self.fleet.nodes[node].python,
                "having": sum(self._has_wanted_strategy(portfolio, each) for each in nodes),
                "nodes": len(nodes),
            }
            self.older.append(Pending(portfolio, Reason("older_revision", params)))

    def _meets_wanted(self, portfolio: PortfolioView, node: int) -> bool:
        """Return whether the node meets the requirements of a wanted revision not yet running."""
        wanted = portfolio.wanted
        if wanted is None:  # the running one is wanted, or the wanted one was rejected
            return False
        # An artifact brings its strategy: none need be installed on the node.
        requirements = portfolio.requirements._replace(
            strategy=wanted.strategy if wanted.artifact is None else "",
            strategy_version=wanted.strategy_version if wanted.artifact is None else 0,
            artifact=wanted.artifact,
        )
        return self.fleet.meets(requirements)[node]

    def _has_wanted_strategy(self, portfolio: PortfolioView, node: int) -> bool:
        """Return whether the node can run the wanted revision's code, which a reload needs."""
        wanted = portfolio.wanted
        return wanted is not None and not wanted.lacking_on(self.fleet.nodes[node])

    def _add_move_off(
        self,
        bucket: list[PlacementTask],
        portfolio: PortfolioView,
        node: int,
        cause: MoveCause,
        only_node: int | None = None,
        why: str = "",
    ) -> None:
        """Append a task to `bucket`, or record why the portfolio has to stay for now."""
        if self.snapshot.frozen:
            self.stuck.append(Pending(portfolio, Reason("frozen", {"cause": cause})))
        elif _is_backing_off(portfolio, self.now):
            self.stuck.append(Pending(portfolio, _back_off_reason(portfolio, self.now)))
        else:
            bucket.append(PlacementTask(portfolio, cause, node, only_node=only_node, why=why))


def _in_placing_order(tasks: Iterable[PlacementTask]) -> list[PlacementTask]:
    return sorted(tasks, key=lambda task: placing_order(task.portfolio))


def _is_backing_off(portfolio: PortfolioView, now: float) -> bool:
    return portfolio.not_before is not None and now < portfolio.not_before


def _back_off_reason(portfolio: PortfolioView, now: float) -> Reason:
    assert portfolio.not_before is not None
    return Reason("backing_off", {"wait_s": portfolio.not_before - now})
