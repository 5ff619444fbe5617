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

from scheduling.decide.types import WAITS_FOR_A_PERSON, NodeView, PortfolioView, Requirements

_weight, _need = attrgetter("weight"), attrgetter("need")


class NodeShare:
    """The portfolios that run steadily on one node, and what a plan needs to know of them all."""

    __slots__ = ("_is_suited", "_lightest", "_needs", "_outfit", "_weight", "portfolios")

    def __init__(self) -> None:
        self.portfolios: dict[int, PortfolioView] = {}
        self.forget()

    def forget(self) -> None:
        """Work everything out anew at the next look: the portfolios changed."""
        self._weight: float | None = None
        self._lightest: float | None = None
        self._needs: frozenset[Requirements] | None = None
        self._outfit: object = None
        self._is_suited = False

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

    def suits(self, node: NodeView) -> bool:
        """Whether `node` has what every one of them needs; what is pinned needs nothing."""
        outfit = (node.labels, node.strategies, node.feeds, node.python)
        if self._outfit != outfit:
            if self._needs is None:
                free = [p for p in self.portfolios.values() if p.pinned is None]
                self._needs = frozenset(map(_need, free))
            self._outfit = outfit
            self._is_suited = all(need.is_met_by(node) for need in self._needs)
        return self._is_suited


class FleetIndex:
    """Portfolios by what a plan has to do with them. Changed by `change` alone, never by a plan."""

    def __init__(self) -> None:
        self.portfolios: dict[int, PortfolioView] = {}
        self.shares: dict[int, NodeShare] = {}  #: node id → what runs steadily there
        #: Portfolio id → those that a plan looks at one by one.
        self.restless: dict[int, PortfolioView] = {}
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

    def change(self, portfolios: Iterable[PortfolioView], gone: Iterable[int] = ()) -> None:
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
            if not _is_absent(portfolio):
                self.restless[portfolio.id] = portfolio
            return
        share = self.shares.get(node)
        if share is None:
            share = self.shares[node] = NodeShare()
        share.portfolios[portfolio.id] = portfolio
        if share._weight is not None or share._needs is not None or share._lightest is not None:
            share.forget()
        if portfolio.spread_group:
            self._count(portfolio, node, 1)

    def _remove(self, portfolio: PortfolioView | None) -> None:
        if portfolio is None or self.restless.pop(portfolio.id, None) is not None:
            return
        node = portfolio.node
        share = None if node is None else self.shares.get(node)
        if node is None or share is None or share.portfolios.pop(portfolio.id, None) is None:
            return
        share.forget()
        if not share.portfolios:
            del self.shares[node]
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
    return portfolio.desired == "running" and portfolio.phase not in WAITS_FOR_A_PERSON


def _is_absent(portfolio: PortfolioView) -> bool:
    """Whether it neither runs nor should: it takes no place and asks for none."""
    return portfolio.node is None and portfolio.handoff is None and not should_run(portfolio)
