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
    """Return an order that is open at the end: let `daemon` go on until there is one."""
    orders = Order.objects.filter(portfolio=portfolio, status="open")
    for _ in range(100):
        if (found := orders.first()) is not None:
            return found
        daemon.commit(portfolio.name, 94)
    raise AssertionError("no order is open after 25 days")


def reload(daemon: FakeNode, **config: int) -> None:
    """Let `daemon` release the portfolio to its own process of a revision with this config."""
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
    """Make a portfolio that was moved, reloaded and taken over. Return node-1 and its owner."""
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
    """Make the portfolio and verify it. Return the other node and its owner."""
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
    """Return one from the middle of what matches."""
    rows = list(Order.objects.filter(portfolio=portfolio, **which).order_by("seq", "index"))
    return rows[len(rows) // 2]


class Replays:
    """Counts the events that the process of the replay was given."""

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
        """Verify; return how many events were replayed, and the verdict."""
        self.events = 0
        verdict = verify_portfolio(name, **how)
        return self.events, verdict


def seen(portfolio: Portfolio, first: int, events: int) -> int:
    """Return how many of these events of the log are of its symbols."""
    begin = portfolio.first_seq + first
    return len(open_feed().read_for(frozenset(SYMBOLS), begin, begin + events - 1))


def anchors(name: str = NAME) -> list[int]:
    """Return the seqs of the anchors of a portfolio, newest first."""
    return [a.seq for a in VerificationAnchor.objects.filter(portfolio__name=name)]


def touched(what: Any, **changes: Any) -> None:
    """Change columns of the row of `what`."""
    type(what).objects.filter(pk=what.pk).update(**changes)
