"""Portfolios that traded, moved and were verified, and what a verdict says of them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from portfolios.feeds import open_feed
from portfolios.models import Order, Portfolio
from portfolios.runtime.events import decode_events
from portfolios.runtime.messages import Batch, Load, Reply
from portfolios.runtime.worker import PortfolioWorker
from portfolios.verify.types import Difference
from scheduling import operations
from scheduling.models import VerificationAnchor
from scheduling.verification.verdict import Verdict
from scheduling.verification.verify import verify_portfolio
from tests.support.factories import FakeNode, make_node, make_running_portfolio, owner

NAME = "trader"
SYMBOLS = ["GE", "IBM", "KO", "XOM"]
CONFIG = {"fast": 1, "slow": 2}


def make_crossing(daemon: FakeNode, events: int) -> Portfolio:
    """Return a portfolio of four symbols that has handled so many events on `daemon`."""
    return make_running_portfolio(
        NAME, daemon, events=events, strategy="sma_cross", config=CONFIG, symbols=SYMBOLS
    )


def open_order(portfolio: Portfolio, daemon: FakeNode) -> Order:
    """Let `daemon` go on with the portfolio until it has an open order, and return that order."""
    orders = Order.objects.filter(portfolio=portfolio, status="open")
    for _ in range(100):
        if (found := orders.first()) is not None:
            return found
        daemon.commit(portfolio.name, 94)
    raise AssertionError(f"{portfolio.name} has no open order after 25 days of events")


def reload(daemon: FakeNode, **config: int) -> None:
    """Reload the portfolio with this config, up to the release by `daemon`, its owner."""
    _, handoff = operations.revise_portfolio(NAME, {"config": config}, actor="ann")
    assert handoff is not None and daemon.ready(handoff) == "draining"
    assert owner(NAME, daemon).release(handoff).answer == "handed_over"


def move(source: FakeNode, target: FakeNode, name: str = NAME) -> None:
    """Move the portfolio, and let the target commit once."""
    handoff = operations.migrate(name, target.name, actor="ann")
    assert target.ready(handoff) == "draining"
    assert owner(name, source).release(handoff).answer == "handed_over"
    assert target.commit(name) == "ok"


def make_moved() -> tuple[FakeNode, FakeNode]:
    """Make a portfolio that was moved, reloaded and taken over. Return node-1 and its owner.

    It moved from node-1 to node-2, and a new incarnation of node-2, the owner, took it over.
    """
    one, two = make_node("node-1"), make_node("node-2")
    make_crossing(one, 4_000)
    move(one, two)
    assert two.commit(NAME, 3_000) == "ok"
    assert two.commit(NAME, 2_000, suppress=True) == "ok"
    reload(two, fast=2, slow=3)
    assert two.commit(NAME, 3_000) == "ok"
    again = make_node("node-2")
    assert again.commit(NAME, 2_000) == "ok"
    return one, again


def make_verified() -> tuple[FakeNode, FakeNode]:
    """Make the portfolio of `make_moved` and verify it. Return what `make_moved` returns."""
    nodes = make_moved()
    assert verify_portfolio(NAME).identical
    return nodes


def make_anchored() -> FakeNode:
    """Make a portfolio that traded for 8,000 events, and verify it. Return its owner."""
    node = make_node("node-1")
    make_crossing(node, 8_000)
    assert verify_portfolio(NAME).identical
    return node


def difference(verdict: Verdict) -> Difference:
    """Return the first difference that the verdict names."""
    found = verdict.compared.difference
    assert found is not None, verdict.sentence
    return found


def the_order(portfolio: Portfolio, **which: Any) -> Order:
    """Return the order in the middle of those that match `which`."""
    rows = list(Order.objects.filter(portfolio=portfolio, **which).order_by("seq", "index"))
    return rows[len(rows) // 2]


class Replays:
    """Counts the events of replays; `process` stands for the process that replays them."""

    def __init__(self) -> None:
        self.events = 0

    def process(self, code_of: Any, **limits: Any) -> Any:
        answer = PortfolioWorker().answer

        def ask(request: Load | Batch) -> Reply:
            if isinstance(request, Batch):
                self.events += len(decode_events(request.events))
            return answer(request)

        return nullcontext(ask)

    def of(self, name: str = NAME, **how: Any) -> tuple[int, Any]:
        """Verify the portfolio. Return (number of replayed events, verdict)."""
        self.events = 0
        verdict = verify_portfolio(name, **how)
        return self.events, verdict


def seen(portfolio: Portfolio, first: int, events: int) -> int:
    """Return how many of `events` events, from the portfolio's event `first` on, are of SYMBOLS."""
    begin = portfolio.first_seq + first
    return len(open_feed().read_for(frozenset(SYMBOLS), begin, begin + events - 1))


def anchors(name: str = NAME) -> list[int]:
    """Return the seqs of the anchors of a portfolio, newest first."""
    return [a.seq for a in VerificationAnchor.objects.filter(portfolio__name=name)]


def update_row(what: Any, **changes: Any) -> None:
    """Change columns of the row of this model instance in the database."""
    type(what).objects.filter(pk=what.pk).update(**changes)
