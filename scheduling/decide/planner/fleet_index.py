"""Index of settled portfolios by node, kept from plan to plan.

Of a hundred thousand portfolios nearly all are settled: they run where they should and need no
action. A plan does not examine them individually: it uses each node's total weight and spread-group
members. Between two plans the index is updated with what changed, so that a plan after a small
change costs as much as the change, plus one step per node.

The index depends only on its present portfolios: after any sequence of updates it gives the same
plans, byte for byte, as one built anew. Sums are therefore computed from the present weights
(`fsum`), never kept as running totals, which would accumulate rounding errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum
from operator import attrgetter

from scheduling.decide.types import NEEDS_OPERATOR_PHASES, NodeView, PortfolioView, Requirements

_weight, _requirements_of = attrgetter("weight"), attrgetter("requirements")


class SettledPortfolios:
    """The settled portfolios of one node, and aggregates of them."""

    __slots__ = (
        "_all_can_run",
        "_checked_features",
        "_lightest",
        "_requirements",
        "_weight",
        "portfolios",
    )

    def __init__(self) -> None:
        self.portfolios: dict[int, PortfolioView] = {}
        self.invalidate()

    def invalidate(self) -> None:
        """Drop the cached aggregates, since the portfolios changed."""
        self._weight: float | None = None
        self._lightest: float | None = None
        self._requirements: frozenset[Requirements] | None = None
        self._checked_features: object = None
        self._all_can_run = False

    @property
    def weight(self) -> float:
        """Return the total weight of the portfolios."""
        if self._weight is None:
            exact = fsum(map(_weight, self.portfolios.values()))
            # A node of whole weights has a whole load, as if it were summed one by one.
            self._weight = int(exact) if exact.is_integer() else exact
        return self._weight

    @property
    def lightest(self) -> float:
        """Return the weight of the lightest portfolio."""
        if self._lightest is None:
            self._lightest = min(map(_weight, self.portfolios.values()))
        return self._lightest

    def all_can_run_on(self, node: NodeView) -> bool:
        """Return whether `node` can run each of these portfolios that is not pinned."""
        features = (node.labels, node.strategies, node.feeds, node.python)
        if self._checked_features != features:
            if self._requirements is None:
                free = [p for p in self.portfolios.values() if p.pinned is None]
                self._requirements = frozenset(map(_requirements_of, free))
            self._checked_features = features
            self._all_can_run = all(each.is_met_by(node) for each in self._requirements)
        return self._all_can_run


class FleetIndex:
    """Settled portfolios by node, and the others. Changed only by `update`, never by a plan."""

    def __init__(self) -> None:
        self.portfolios: dict[int, PortfolioView] = {}
        self.settled_by_node: dict[int, SettledPortfolios] = {}  #: by node id
        #: Portfolios, by id, that a plan examines individually.
        self.unsettled: dict[int, PortfolioView] = {}
        #: Spread group → node id → number of its settled members there.
        self.groups: dict[str, dict[int, int]] = {}
        #: (group, node id) where settled members share a node although the spread of one is hard.
        self.crowded: set[tuple[str, int]] = set()
        #: (group, node id) → number of its settled members there whose spread is hard.
        self._hard: dict[tuple[str, int], int] = {}

    @classmethod
    def of(cls, portfolios: Iterable[PortfolioView]) -> FleetIndex:
        """Build the index of these portfolios. Takes about 1 µs for each."""
        index = cls()
        index.portfolios = {portfolio.id: portfolio for portfolio in portfolios}
        for portfolio in index.portfolios.values():
            index._add(portfolio)
        return index

    def update(self, portfolios: Iterable[PortfolioView], gone: Iterable[int] = ()) -> None:
        """Add or replace portfolios, and remove those whose ids are in `gone`."""
        for portfolio_id in gone:
            self._remove(self.portfolios.pop(portfolio_id, None))
        for portfolio in portfolios:
            self._remove(self.portfolios.get(portfolio.id))
            self.portfolios[portfolio.id] = portfolio
            self._add(portfolio)

    def _add(self, portfolio: PortfolioView) -> None:
        """Add a portfolio to the settled ones of its node, to the unsettled ones, or to neither."""
        node = portfolio.node
        is_settled = (
            portfolio.phase == "running"
            and portfolio.handoff is None
            and portfolio.desired == "running"
            and portfolio.not_before is None
            and portfolio.wanted is None
            and (portfolio.pinned is None or portfolio.pinned == node)
        )
        if node is None or not is_settled:
            if not _needs_no_place(portfolio):
                self.unsettled[portfolio.id] = portfolio
            return
        settled = self.settled_by_node.get(node)
        if settled is None:
            settled = self.settled_by_node[node] = SettledPortfolios()
        settled.portfolios[portfolio.id] = portfolio
        settled.invalidate()
        if portfolio.spread_group:
            self._count_member(portfolio, node, 1)

    def _remove(self, portfolio: PortfolioView | None) -> None:
        """Remove a portfolio from where `_add` put it: settled ones, unsettled ones, or neither."""
        if portfolio is None or self.unsettled.pop(portfolio.id, None) is not None:
            return
        node = portfolio.node
        settled = None if node is None else self.settled_by_node.get(node)
        if node is None or settled is None or settled.portfolios.pop(portfolio.id, None) is None:
            return
        settled.invalidate()
        if not settled.portfolios:
            del self.settled_by_node[node]
        if portfolio.spread_group:
            self._count_member(portfolio, node, -1)

    def _count_member(self, portfolio: PortfolioView, node: int, change: int) -> None:
        """Add `change` to the number of members of the portfolio's spread group on `node`."""
        group = portfolio.spread_group or ""
        members = self.groups.setdefault(group, {})
        here = (group, node)
        count = members.get(node, 0) + change
        if count:
            members[node] = count
        else:
            del members[node]
            if not members:
                del self.groups[group]
        if portfolio.spread_hard:
            self._hard[here] = self._hard.get(here, 0) + change
            if not self._hard[here]:
                del self._hard[here]
        if count > 1 and here in self._hard:
            self.crowded.add(here)
        else:
            self.crowded.discard(here)


def should_run(portfolio: PortfolioView) -> bool:
    """Return whether the portfolio should run and does not wait for an operator."""
    return portfolio.desired == "running" and portfolio.phase not in NEEDS_OPERATOR_PHASES


def _needs_no_place(portfolio: PortfolioView) -> bool:
    """Return whether the portfolio neither runs nor should run."""
    return portfolio.node is None and portfolio.handoff is None and not should_run(portfolio)
