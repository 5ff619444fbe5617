"""The stock: what runs steadily, by node, kept from plan to plan.

Of a hundred thousand portfolios nearly all run on a living node and want nothing. A plan does not
look at them one by one: it takes each node's share as a whole, its weight and its group members,
and asks single portfolios only where it must. Between two plans the stock is told what changed, so
that a plan after a small change costs what the change costs, plus a look at each node.

The stock holds nothing that is not in the portfolios it was made of: one that followed any sequence
of changes gives the same plans, to the byte, as one made anew. Sums are therefore exact ones of the
share's present weights (`fsum`), never running totals, which would remember their roundings.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum
from operator import attrgetter

from scheduling.decide.types import NEEDS_OPERATOR_PHASES, NodeView, PortfolioView, Requirements

_weight, _requirements_of = attrgetter("weight"), attrgetter("requirements")


class SettledPortfolios:
    """The portfolios that run steadily on one node, and what a plan needs to know of them all."""

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
        """Work everything out anew at the next look: the portfolios changed."""
        self._weight: float | None = None
        self._lightest: float | None = None
        self._requirements: frozenset[Requirements] | None = None
        self._checked_features: object = None
        self._all_can_run = False

    @property
    def weight(self) -> float:
        """The places they take together."""
        if self._weight is None:
            exact = fsum(map(_weight, self.portfolios.values()))
            self._weight = int(exact) if exact.is_integer() else exact
        return self._weight

    @property
    def lightest(self) -> float:
        """The least of their weights."""
        if self._lightest is None:
            self._lightest = min(map(_weight, self.portfolios.values()))
        return self._lightest

    def all_can_run_on(self, node: NodeView) -> bool:
        """Whether `node` has what every one of them needs; what is pinned needs nothing."""
        outfit = (node.labels, node.strategies, node.feeds, node.python)
        if self._checked_features != outfit:
            if self._requirements is None:
                free = [p for p in self.portfolios.values() if p.pinned is None]
                self._requirements = frozenset(map(_requirements_of, free))
            self._checked_features = outfit
            self._all_can_run = all(need.is_met_by(node) for need in self._requirements)
        return self._all_can_run


class FleetIndex:
    """Portfolios by what a plan has to do with them. Changed by `change` alone, never by a plan."""

    def __init__(self) -> None:
        self.portfolios: dict[int, PortfolioView] = {}
        self.settled_by_node: dict[
            int, SettledPortfolios
        ] = {}  #: node id → what runs steadily there
        #: Portfolio id → those that a plan looks at one by one.
        self.unsettled: dict[int, PortfolioView] = {}
        #: Spread group → node id → how many of its members run steadily there.
        self.groups: dict[str, dict[int, int]] = {}
        #: Where members of a group share a node and one of them may not: (group, node id).
        self.crowded: set[tuple[str, int]] = set()
        self._hard: dict[tuple[str, int], int] = {}

    @classmethod
    def of(cls, portfolios: Iterable[PortfolioView]) -> FleetIndex:
        """Return the stock of these portfolios. About 1 µs for each."""
        stock = cls()
        stock.portfolios = {portfolio.id: portfolio for portfolio in portfolios}
        for portfolio in stock.portfolios.values():
            stock._add(portfolio)
        return stock

    def update(self, portfolios: Iterable[PortfolioView], gone: Iterable[int] = ()) -> None:
        """Take in portfolios that are new or changed, and drop those that are gone."""
        for number in gone:
            self._remove(self.portfolios.pop(number, None))
        for portfolio in portfolios:
            self._remove(self.portfolios.get(portfolio.id))
            self.portfolios[portfolio.id] = portfolio
            self._add(portfolio)

    def _add(self, portfolio: PortfolioView) -> None:
        node = portfolio.node
        if not (
            node is not None
            and portfolio.phase == "running"
            and portfolio.handoff is None
            and portfolio.desired == "running"
            and portfolio.not_before is None
            and portfolio.wanted is None
            and (portfolio.pinned is None or portfolio.pinned == node)
        ):
            if not _needs_no_place(portfolio):
                self.unsettled[portfolio.id] = portfolio
            return
        share = self.settled_by_node.get(node)
        if share is None:
            share = self.settled_by_node[node] = SettledPortfolios()
        share.portfolios[portfolio.id] = portfolio
        if (
            share._weight is not None
            or share._requirements is not None
            or share._lightest is not None
        ):
            share.invalidate()
        if portfolio.spread_group:
            self._count(portfolio, node, 1)

    def _remove(self, portfolio: PortfolioView | None) -> None:
        if portfolio is None or self.unsettled.pop(portfolio.id, None) is not None:
            return
        node = portfolio.node
        share = None if node is None else self.settled_by_node.get(node)
        if node is None or share is None or share.portfolios.pop(portfolio.id, None) is None:
            return
        share.invalidate()
        if not share.portfolios:
            del self.settled_by_node[node]
        if portfolio.spread_group:
            self._count(portfolio, node, -1)

    def _count(self, portfolio: PortfolioView, node: int, change: int) -> None:
        group = portfolio.spread_group or ""
        members = self.groups.setdefault(group, {})
        here, count = (group, node), members.get(node, 0) + change
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
    """Whether it is wanted running and does not wait for a person."""
    return portfolio.desired == "running" and portfolio.phase not in NEEDS_OPERATOR_PHASES


def _needs_no_place(portfolio: PortfolioView) -> bool:
    """Whether it neither runs nor should: it takes no place and asks for none."""
    return portfolio.node is None and portfolio.handoff is None and not should_run(portfolio)
