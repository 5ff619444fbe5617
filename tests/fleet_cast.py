"""A cast for tests against the real database: nodes that registered, portfolios that commit.

Everything goes through the statements that daemons and people use; nothing writes a fenced row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import msgspec

from portfolios.feeds import open_feed
from portfolios.feeds_setup import segments_of
from portfolios.models import Portfolio
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.spec import Spec
from portfolios.strategies import registry
from scheduling.enact import requests
from scheduling.enact.commit import commit
from scheduling.enact.handoff import prepared
from scheduling.enact.recipe import run
from scheduling.enact.register import register
from scheduling.enact.timing import timing
from scheduling.models import Lease, Node
from scheduling.node_daemon.progress import Progress
from scheduling.observe.desired import desired_set
from scheduling.wire.messages import PROTOCOL, Desired, Register


@dataclass
class Daemon:
    """A node with a valid lease and no process: it does a step when it is told to."""

    row: Node
    incarnation: UUID

    @property
    def name(self) -> str:
        """Return the node's name."""
        return self.row.name

    def desired(self, role: str) -> list[Desired]:
        """Return what the node should have in this role."""
        wanted = run(desired_set(self.row.pk))
        assert wanted is not None
        return [entry for entry in wanted.entries if entry.role == role]

    def prepare(self) -> None:
        """Report every handoff that waits for this node as prepared."""
        for entry in self.desired("prepare"):
            assert entry.handoff is not None
            run(prepared(entry.handoff, self.row.pk, self.incarnation, timing()))

    def commit(self, name: str, events: int = 0) -> str:
        """Run the next `events` events of the log through the portfolio; return the answer."""
        portfolio = Portfolio.objects.present().select_related("run", "feed").get(name=name)
        (entry,) = [e for e in self.desired("run") if e.portfolio == portfolio.pk]
        spec = msgspec.convert(entry.spec, Spec)
        last = portfolio.run.last_seq
        checkpoint = getattr(portfolio, "checkpoint", None)
        engine = (
            PortfolioEngine.fresh(spec)
            if checkpoint is None
            else PortfolioEngine.restore(spec, bytes(checkpoint.state), last)
        )
        segments = segments_of(portfolio.feed)
        seen = open_feed().read_for(spec.symbol_set(), last + 1, last + events, segments)
        progress = Progress(last)
        progress.add(engine.run(seen, last, last + events))
        message = progress.commit(portfolio.pk, entry.epoch)
        (result,) = run(commit(self.row.pk, self.name, self.incarnation, [message]))
        return result.answer


def a_node(name: str, *, capacity: int = 5, labels: dict[str, str] | None = None) -> Daemon:
    """Return a node that has just registered."""
    row, _ = Node.objects.get_or_create(name=name)
    incarnation = uuid4()
    feed = open_feed()
    words = Register(
        protocol=PROTOCOL,
        incarnation=str(incarnation),
        host="rack-1",
        pid=4100,
        version="0.1.0",
        capacity=capacity,
        labels=labels or {},
        strategies=registry.versions(),
        feeds={feed.name: feed.sha256},
    )
    run(register(row.pk, name, words, timing()))
    row.refresh_from_db()
    return Daemon(row, incarnation)


def a_portfolio(name: str, **given: Any) -> Portfolio:
    """Return a canary that nobody owns yet, or whatever is given."""
    values: dict[str, Any] = {"strategy": "canary", **given}
    return requests.create_portfolio(requests.NewPortfolio(name=name, **values), actor="cast")


def a_running(name: str, daemon: Daemon, *, events: int = 0, **given: Any) -> Portfolio:
    """Return a portfolio that runs on `daemon`, unpinned, `events` events after its first."""
    portfolio = a_portfolio(name, **given)
    requests.migrate(name, daemon.name, actor="cast")
    daemon.prepare()
    assert daemon.commit(name, events) == "ok"
    requests.unpin(name, actor="cast")
    portfolio.refresh_from_db()
    return portfolio


def lose(daemon: Daemon) -> None:
    """Let the daemon fall silent for long enough that its node counts as lost."""
    Lease.objects.filter(node=daemon.row).update(expires_at="2000-01-01T00:00:00Z")
    Node.objects.filter(pk=daemon.row.pk).update(status="lost")
