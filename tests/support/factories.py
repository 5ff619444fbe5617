"""Factories for tests on the real database: registered nodes, committing portfolios.

They use the statements that daemons and operators use; none writes a fenced row directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import msgspec

from chaos.harness.installation import SLOW_MACHINE_S
from portfolios.feed_registration import read_segments
from portfolios.feeds import open_feed
from portfolios.feeds.clock import Segment
from portfolios.feeds.history import newest_events
from portfolios.models import FeedRecord, Order, Portfolio
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.errors import HistoryNeeded
from portfolios.runtime.events import Event as MarketEvent
from portfolios.runtime.spec import Spec
from portfolios.strategies import registry
from scheduling import operations
from scheduling.db.transaction import execute, execute_autocommit
from scheduling.decide.types import RECORDED_FEEDS
from scheduling.enact.commit import commit
from scheduling.enact.handoff import expire, handle_prepared, handle_step_failure, release, request
from scheduling.enact.lease import renew_leases
from scheduling.enact.process_failures import handle_halt, handle_process_exit
from scheduling.enact.register import register
from scheduling.enact.revisions import mark_proven_revisions
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Gateway, Handoff, Lease, Node, Run
from scheduling.node_daemon.commit_builder import CommitBuilder
from scheduling.observe.desired_set import desired_set
from scheduling.scheduler import Scheduler
from scheduling.timing import timing
from scheduling.wire import messages as wire


@dataclass
class FakeNode:
    """A node with a valid lease and no process. Tests call its protocol steps one by one."""

    row: Node
    incarnation: UUID
    left_out: int = 0  #: answers that omitted a commit because its row was locked
    beaten_at_s: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        return self.row.name

    def desired(self, role: str) -> list[wire.DesiredEntry]:
        """Return the desired-set entries with this role."""
        wanted = execute(desired_set(self.row.pk))
        assert wanted is not None
        return [entry for entry in wanted.entries if entry.role == role]

    def prepare(self) -> None:
        """Report as prepared every handoff that this node should prepare."""
        for entry in self.desired("prepare"):
            assert entry.handoff is not None
            execute(handle_prepared(entry.handoff, self.row.pk, self.incarnation, timing()))

    def commit(
        self, name: str, events: int = 0, *, suppress: bool = False, lose: int | None = None
    ) -> str:
        """Process the next `events` events in the engine and commit them. Return the answer.

        `suppress` suppresses orders, as for stale events; `lose` omits the event of this seq.
        """
        portfolio = Portfolio.objects.present().select_related("run", "feed").get(name=name)
        (entry,) = [e for e in self.desired("run") if e.portfolio == portfolio.pk]
        spec = msgspec.convert(entry.spec, Spec)
        last = portfolio.run.last_seq
        checkpoint = getattr(portfolio, "checkpoint", None)
        state = None if checkpoint is None else bytes(checkpoint.state)
        segments = read_segments(portfolio.feed)
        engine = _loaded_engine(spec, state, last, segments)
        seen = open_feed().read_for(engine.symbols, last + 1, last + events, segments)
        seen = [event for event in seen if event.seq != lose]
        builder = CommitBuilder(last)
        builder.suppress = suppress
        builder.add(engine.run(seen, last, last + events, suppress))
        message = builder.build(portfolio.pk, entry.epoch)
        (result,) = execute(commit(self.row.pk, self.name, self.incarnation, [message]))
        return result.answer

    def send(self, *commits: wire.Commit) -> list[wire.CommitResult]:
        """Send commits as one request, and repeat those that the answer omits."""
        answers: dict[int, wire.CommitResult] = {}

        def all_answered() -> bool:
            asked = [c for c in commits if c.portfolio not in answers]
            results = execute_autocommit(commit(self.row.pk, self.name, self.incarnation, asked))
            answers.update({result.portfolio: result for result in results})
            return len(answers) == len(commits)

        self._repeat(all_answered)
        return [answers[c.portfolio] for c in commits]

    def release(self, message: wire.Commit) -> wire.CommitResult:
        """Send a releasing commit until it is answered."""
        answer: list[wire.CommitResult] = []

        def answered() -> bool:
            found = execute(release(self.row.pk, self.name, self.incarnation, message, timing()))
            answer.extend([] if found is None else [found])
            return found is not None

        self._repeat(answered)
        return answer[0]

    def beat(self, *, gateway: UUID = GATEWAY_ID, **said: Any) -> Any:
        """Send heartbeats until the lease row is not locked. Return the row of the answer."""
        words = wire.Heartbeat(incarnation=str(self.incarnation), have_version=0, **said)
        answer: list[Any] = []

        def written() -> bool:
            steps = renew_leases([self.row.pk], [words], timing(), gateway)
            answer[:] = [execute_autocommit(steps)[self.row.pk]]
            return not answer[0].lease_locked

        self._repeat(written)
        self.beaten_at_s = time.monotonic()
        return answer[0]

    def _repeat(self, answered: Callable[[], bool]) -> None:
        """Call `answered` until it is true; count in `left_out` how often it was not."""
        until = time.monotonic() + SLOW_MACHINE_S
        while not answered():
            self.left_out += 1
            assert time.monotonic() < until, f"a row of {self.name} is locked for minutes"
            time.sleep(0.005)

    def ready(self, handoff: Handoff) -> str:
        """Report this handoff as prepared. Return the outcome."""
        return execute(handle_prepared(handoff.pk, self.row.pk, self.incarnation, timing()))

    def fails(self, handoff: Handoff, step: str = "prepare", *, strategy: bool = False) -> str:
        """Report that a step of this handoff failed, in the strategy or not. Return the outcome."""
        return execute(
            handle_step_failure(
                handoff.pk, self.row.pk, self.incarnation, step, "it broke", strategy
            )
        )

    def owns(self) -> Sequence[str]:
        """Return the sorted names of the portfolios that the node's desired set tells it to run."""
        return sorted(entry.name for entry in self.desired("run"))


def make_node(
    name: str, *, capacity: int = 5, labels: dict[str, str] | None = None, python: str = ""
) -> FakeNode:
    """Return a node that has just registered."""
    row, _ = Node.objects.get_or_create(name=name)
    incarnation = uuid4()
    words = register_message(incarnation, capacity=capacity, labels=labels or {}, python=python)
    execute(register(row.pk, name, words, timing(), GATEWAY_ID))
    row.refresh_from_db()
    return FakeNode(row, incarnation)


def make_settled_nodes(count: int) -> list[FakeNode]:
    """Return nodes alive for an hour, under a gateway that has served for an hour."""
    found = [make_node(f"node-{n}") for n in range(1, count + 1)]
    Node.objects.update(status_since=ago(3600))
    serving_since(3600)
    return found


def register_message(
    incarnation: UUID, *, capacity: int = 5, labels: dict[str, str] | None = None, python: str = ""
) -> wire.Register:
    feed = open_feed()
    return wire.Register(
        protocol=wire.PROTOCOL, incarnation=str(incarnation), host="rack-1", pid=4100,
        version="0.1.0", capacity=capacity, labels=labels or {}, strategies=registry.versions(),
        feeds={feed.name: feed.sha256, RECORDED_FEEDS: "1"}, python=python,
    )  # fmt: skip


def make_portfolio(name: str, **given: Any) -> Portfolio:
    """Return a new portfolio, a canary by default, without an owner."""
    values: dict[str, Any] = {"strategy": "canary", **given}
    return operations.create_portfolio(operations.NewPortfolio(name=name, **values), actor="cast")


def make_running_portfolio(
    name: str, daemon: FakeNode, *, events: int = 0, **given: Any
) -> Portfolio:
    """Return a portfolio that runs on `daemon`, unpinned, `events` events after its first."""
    portfolio = make_portfolio(name, **given)
    if time.monotonic() - daemon.beaten_at_s > 10:  # a machine on which a lease is soon over
        daemon.beat()
    operations.migrate(name, daemon.name, actor="cast")
    daemon.prepare()
    assert daemon.commit(name, events) == "ok"
    operations.unpin(name, actor="cast")
    portfolio.refresh_from_db()
    return portfolio


def make_buyer(name: str, daemon: FakeNode, events: int, *symbols: str) -> Portfolio:
    """Return a portfolio that runs on `daemon`, and buys and holds these symbols."""
    given: dict[str, Any] = {"strategy": "buy_and_hold", "symbols": list(symbols)}
    return make_running_portfolio(name, daemon, events=events, **given)


def begin_reload(name: str, change: dict[str, Any] | None = None) -> Handoff:
    """Change a portfolio, by default its limits. Return the handoff of the reload."""
    change = change or {"limits": {"largest_order": "5"}}
    _, handoff = operations.revise_portfolio(name, change, actor="ann")
    assert handoff is not None
    return handoff


def tick(name: str = "test", **given: Any) -> Any:
    """Run one pass of the scheduler `name`: sweep, snapshot, plan, enact. Return its outcome."""
    return Scheduler(name).tick(**given)


def make_crowded_fleet() -> list[FakeNode]:
    """Return three nodes: three portfolios on node-1, one free place on node-2, node-3 cordoned."""
    nodes = [make_node("node-1"), make_node("node-2", capacity=2), make_node("node-3", capacity=3)]
    for name in ("one", "two", "three"):
        make_running_portfolio(name, nodes[0], priority=5 if name == "three" else 0)
    make_running_portfolio("four", nodes[1])
    operations.cordon("node-3", actor="cast")
    return nodes


def make_order(
    portfolio: Portfolio, seq: int, index: int = 0, *, seconds_ago: float = 1, **given: Any
) -> Order:
    """Store an order of a portfolio: filled, decided and committed so long ago."""
    values = {
        "symbol": "IBM", "side": "buy", "quantity": 10, "price": "101.5", "status": "filled",
        "node": "node-1", "epoch": 1, "revision": 1, **given,
    }  # fmt: skip
    at = ago(seconds_ago)
    values = {"decided_at": at, "committed_at": at} | values
    number = f"{portfolio.uid}-{seq}-{index}"
    return Order.objects.create(id=number, portfolio=portfolio, seq=seq, index=index, **values)


def order_line(seq: int, index: int = 0, **given: Any) -> wire.OrderLine:
    """Return an order of a commit, decided at `seq` and open, with given fields replaced."""
    values = {
        "symbol": "IBM", "side": "buy", "quantity": "10", "price": "12.5", "status": "open",
        "reason": "", "decided_us": 10**15, **given,
    }  # fmt: skip
    return wire.OrderLine(seq, index, **values)


def lose(daemon: FakeNode) -> None:
    """Expire the lease of a node and mark the node lost, without other effects of a pass."""
    Lease.objects.filter(node=daemon.row).update(expires_at="2000-01-01T00:00:00Z")
    Node.objects.filter(pk=daemon.row.pk).update(status="lost")


# --- the steps of the protocol, one by one -------------------------------------------------------


def _loaded_engine(
    spec: Spec, state: bytes | None, last_seq: int, segments: list[Segment]
) -> PortfolioEngine:
    """Return an engine, warmed up if its strategy wants to be."""
    history: list[MarketEvent] | None = None
    for _ in range(2):
        try:
            if state is None:
                return PortfolioEngine.fresh(spec, history)
            return PortfolioEngine.restore(spec, state, last_seq, history)
        except HistoryNeeded as needed:
            feed, symbols = open_feed(), spec.symbol_set()
            history = newest_events(feed, symbols, needed.last_seq, needed.events, segments)
    raise AssertionError(f"{spec.portfolio} asks for its history again, although it was given")


@dataclass
class OwnerSession:
    """Sends a daemon's messages about one portfolio, true or not."""

    daemon: FakeNode
    portfolio: Portfolio

    def run(self) -> Run:
        """Return the run as it is in the database."""
        return run_of(self.portfolio)

    def next_commit(self, events: int = 1, **given: Any) -> wire.Commit:
        """Return a commit message of the next `events` events, with given fields replaced."""
        at = self.run()
        values: dict[str, Any] = {
            "portfolio": self.portfolio.pk, "epoch": at.epoch, "from_seq": at.last_seq,
            "to_seq": at.last_seq + events, "batch": str(uuid4()),
            "record": self._record(at.last_seq + events), **given,
        }  # fmt: skip
        return wire.Commit(**values)

    def _record(self, seq: int) -> bytes:
        """Return the hash of a stored record, as nodes send it; b"" if there is no such record."""
        found = FeedRecord.objects.filter(feed=self.portfolio.feed_id, seq=seq).first()
        return sha256(found.event).digest() if found else b""

    def send(self, message: wire.Commit) -> wire.CommitResult:
        """Send a commit message, which may be a repeat or from an older epoch."""
        return self.daemon.send(message)[0]

    def commit(self, events: int = 1, **given: Any) -> str:
        """Send a commit of the next events and return the answer."""
        return self.send(self.next_commit(events, **given)).answer

    def release_message(self, handoff: Handoff, events: int = 0, **given: Any) -> wire.Commit:
        """Return the releasing commit for `handoff`."""
        return self.next_commit(events, release=handoff.pk, **given)

    def release(self, handoff: Handoff, events: int = 0, **given: Any) -> wire.CommitResult:
        return self.daemon.release(self.release_message(handoff, events, **given))

    def move_to(self, target: FakeNode, *, kind: str = "migrate", **given: Any) -> Any:
        """Request a migration, or a handoff of another kind, without the operator's checks."""
        values: dict[str, Any] = {"actor": "ann", "reason": "", "timing": timing(), **given}
        return execute(request(kind, self.portfolio.pk, target=target.row.pk, **values))

    def fail_over_to(self, target: FakeNode, **given: Any) -> Any:
        """Request a failover as a pass does."""
        lost = {"actor": "balancer", "reason": f"{self.daemon.name} is lost"}
        return self.move_to(target, kind="failover", **lost, **given)

    def die(self, **given: Any) -> str:
        """Report that the portfolio's process exited."""
        return self.report_death(self.death(**given))

    def death(self, **given: Any) -> wire.ProcessExited:
        """Return the report that its process exited, with given fields replaced."""
        at = self.run()
        values: dict[str, Any] = {
            "death": str(uuid4()), "portfolio": self.portfolio.pk, "epoch": at.epoch,
            "revision": at.revision, "seq": at.last_seq, "stage": "event",
            "error": "ValueError: boom", **given,
        }  # fmt: skip
        return wire.ProcessExited(**values)

    def report_death(self, death: wire.ProcessExited) -> str:
        return execute(
            handle_process_exit(self.daemon.row.pk, self.daemon.incarnation, death, timing())
        )

    def halts(self, **given: Any) -> str:
        """Report a stop before an event 41.2 s old, by `catch_up: halt`. Return the outcome.

        `given` replaces fields of the report.
        """
        at = self.run()
        values: dict[str, Any] = {
            "portfolio": self.portfolio.pk, "epoch": at.epoch, "seq": at.last_seq, "age_s": 41.2,
            **given,
        }  # fmt: skip
        said = wire.Halted(**values)
        return execute(handle_halt(self.daemon.row.pk, self.daemon.incarnation, said, timing()))


def owner(name: str, daemon: FakeNode) -> OwnerSession:
    """Return the session of `daemon` for the portfolio of this name."""
    return OwnerSession(daemon, Portfolio.objects.present().get(name=name))


def make_trader(name: str, daemon: FakeNode, *, events: int = 1, **given: Any) -> OwnerSession:
    """Return a portfolio that runs on `daemon` and has committed `events` events."""
    hand = OwnerSession(daemon, make_running_portfolio(name, daemon, **given))
    if events:
        assert hand.commit(events) == "ok"
    return hand


def run_of(portfolio: Portfolio) -> Run:
    """Return the run of a portfolio, read anew."""
    return Run.objects.get(pk=portfolio.pk)


def newest_handoff(portfolio: Portfolio) -> Handoff:
    """Return the newest handoff of a portfolio, read anew."""
    found = Handoff.objects.filter(portfolio=portfolio).order_by("-id").first()
    assert found is not None
    return found


def state_of(handoff: Handoff) -> str:
    """Return the state of a handoff, read anew."""
    return Handoff.objects.get(pk=handoff.pk).state


def expire_handoff(handoff: Handoff) -> str:
    """Expire a handoff past its deadline, as the sweep does. Return the outcome."""
    Handoff.objects.filter(pk=handoff.pk).update(deadline_at=ago(1))
    return execute(expire(handoff.pk, timing()))


def expire_lease(daemon: FakeNode, seconds_ago: float = 1) -> None:
    """Let a lease have expired under a reachable gateway; no pass has noticed that yet."""
    Gateway.objects.update(pulsed_at=ago(0))
    Lease.objects.filter(node=daemon.row).update(
        expires_at=ago(seconds_ago), renewed_at=ago(30 + seconds_ago)
    )


def serving_since(seconds_ago: float, *, pulsed_ago: float = 0, gateway: UUID = GATEWAY_ID) -> None:
    """Record that a gateway has served for `seconds_ago`, and pulsed `pulsed_ago` seconds ago."""
    Gateway.objects.update_or_create(
        pk=gateway,
        defaults={"serving_since": ago(seconds_ago), "pulsed_at": ago(pulsed_ago), "left_at": None},
    )


def prove_revision(portfolio: Portfolio) -> None:
    """Let the running revision of a portfolio have run for long enough, and mark it good."""
    Run.objects.filter(pk=portfolio.pk).update(first_commit_at=ago(3600))
    execute(mark_proven_revisions(timing()))


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)
