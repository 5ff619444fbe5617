"""Crash injection: run a handoff script, cut the connection at a failpoint, and resume.

A script is the whole life of a handoff, step by step. `record_points` runs it once and records
every failpoint that its transactions reach. `crash_at` runs it again and cuts the connection at one
of them, as kill -9 would: the transaction is rolled back, or it is durable and its answer is lost.
Afterwards the daemon repeats, with the same bytes, each message that got no answer, and the control
plane resumes. A crash inside a transaction that leaves every row as it was before the transaction
equals a crash before the transaction. That one is tested once; the others end with the crash.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import uuid4

from django.apps import apps
from django.db import connection, transaction
from django.db.models import Q

from portfolios.models import Order, Portfolio
from scheduling.db import failpoints
from scheduling.db.failpoints import ConnectionCut, Point
from scheduling.errors import Refused
from scheduling.models import ACTIVE_STATES, Event, Handoff, PassLock, Run, Tenure
from scheduling.scheduler import Scheduler
from scheduling.wire.messages import Commit, CommitResult
from tests.support.factories import (
    FakeNode,
    ago,
    make_node,
    make_running_portfolio,
    newest_handoff,
    order_line,
    prove_revision,
    run_of,
    serving_since,
)

ENDED = {"done", "failed", "rolled_back", "superseded"}
State = tuple[int, str]  #: the number of the step under way, and a digest of all rows
STAY_WITHOUT_OWNER = ("stopped", "halted", "quarantined")  #: phases that only an operator ends


@dataclass
class World:
    """Two nodes; canary `p` on node-1 and `q` on node-2, both with a good revision."""

    first: FakeNode
    second: FakeNode
    #: Sent commits, and other messages, to be repeated with the same content.
    sent: list[tuple[FakeNode, Commit]] = field(default_factory=list)
    messages: dict[object, Any] = field(default_factory=dict)

    @property
    def daemons(self) -> tuple[FakeNode, FakeNode]:
        """Both nodes, in their present incarnations."""
        return self.first, self.second

    def daemon(self, name: str) -> FakeNode:
        """Return node-1 or node-2, in its present incarnation."""
        return self.first if name == "node-1" else self.second

    @property
    def portfolio(self) -> Portfolio:
        """The portfolio `p` under test, deleted or not."""
        return Portfolio.objects.filter(name="p").latest("id")

    def handoff(self) -> Handoff:
        """The newest handoff of `p`."""
        return newest_handoff(self.portfolio)

    def send(self, daemon: FakeNode, commit: Commit) -> CommitResult:
        """Send a commit or a release, and keep it for repeats."""
        self.sent.append((daemon, commit))
        return _send(daemon, commit)


def make_world() -> World:
    """Return the initial state of every script."""
    serving_since(3600)
    first, second = make_node("node-1"), make_node("node-2")
    for name, daemon in (("p", first), ("q", second)):
        prove_revision(make_running_portfolio(name, daemon, events=3))
    return World(first, second)


def _send(daemon: FakeNode, commit: Commit) -> CommitResult:
    return daemon.release(commit) if commit.release is not None else daemon.send(commit)[0]


@dataclass(frozen=True)
class ScriptStep:
    """One action of a script. A daemon repeats its action if it got no answer."""

    do: Callable[[World], Any]
    is_repeated: bool = True


@dataclass(frozen=True)
class Script:
    """A handoff from its request to its end."""

    name: str
    steps: tuple[ScriptStep, ...]
    begins: Callable[[World], Any] = lambda world: None  #: what is done before, without a crash

    def __str__(self) -> str:
        return self.name


class CrashAt:
    """Cuts the connection at the failpoint number `at` of those reached.

    `outside` are numbers of points up to there, outside of transactions, each with the state of the
    script at that point. A crash that leaves every row as it was at one of these `equals` a crash
    there, and the script ends with it if that one is among the `tested`.
    """

    def __init__(self, at: int, outside: dict[int, State], tested: Container[State | None]) -> None:
        self.at = at
        self.points: list[Point] = []
        self.equals: State | None = None
        self._outside, self._tested = outside, tested
        self._rows: dict[str, State] = {}

    def __call__(self, point: Point) -> float:
        self.points.append(point)
        if (number := len(self.points)) in self._outside:
            self._rows[every_row()] = self._outside[number]
        if len(self.points) == self.at:
            raise ConnectionCut(f"at {point.name}")
        return 0.0

    @property
    def is_tested(self) -> bool:
        """Whether a crash with the same effect has been tested."""
        return self.equals in self._tested

    def compare_rows(self) -> None:
        """Record at which point, if any, all rows were as the crash left them."""
        self.equals = self._rows.get(every_row())


@dataclass
class Trace:
    """The points that a script reaches, in order."""

    points: list[Point] = field(default_factory=list)
    outside: dict[int, State] = field(default_factory=dict)  #: by number, outside of transactions
    step: int = 0

    def __call__(self, point: Point) -> float:
        self.points.append(point)
        if point.name.endswith((":begin", ":committed")):
            self.outside[len(self.points)] = self.step, every_row()
        return 0.0

    def crashes(self, numbers: Iterable[int]) -> Iterator[CrashAt]:
        """Return a crash at each of these points, to be caused before the next one is asked for.

        One that leaves the rows of a point outside of its transaction equals a crash there, and so
        do crashes after the earlier statements of that transaction, which are left out. An
        operation may be several transactions within one, so the first point of its step counts too.
        """
        tested: set[State | None] = set()
        for last, inside in self._by_transaction(numbers).items():
            step, _ = self.outside[last]
            first = min(n for n, (of, _) in self.outside.items() if of == step)
            outside = {n: self.outside[n] for n in (first, last)}
            for number in reversed(inside):
                crash = CrashAt(number, outside, tested)
                yield crash
                if crash.equals is not None:
                    tested.add(crash.equals)
                    break

    def _by_transaction(self, numbers: Iterable[int]) -> dict[int, list[int]]:
        """Return point outside of transactions → those of `numbers` up to the next such point."""
        found: dict[int, list[int]] = {}
        for number in numbers:
            found.setdefault(max(n for n in self.outside if n <= number), []).append(number)
        return found


def every_row() -> str:
    """Return a digest of all rows of portfolios and scheduling but the pass lock.

    That one ends after every crash.
    """
    models = [
        model
        for app in ("portfolios", "scheduling")
        for model in apps.get_app_config(app).get_models()
        if model is not PassLock
    ]
    each = " UNION ALL ".join(
        f"(SELECT coalesce(string_agg(t::text, ' ' ORDER BY t::text), '') AS rows"
        f" FROM {model._meta.db_table} t)"
        for model in models
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT md5(string_agg(rows, ';')) FROM ({each}) AS tables")
        return str(cursor.fetchone()[0])


@contextmanager
def rolled_back() -> Iterator[None]:
    """Roll back at the end what the block wrote."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def record_points(script: Script, world: World) -> Trace:
    """Run the steps of a script without a crash. Return the failpoints that they reach."""
    trace = Trace()
    for trace.step, step in enumerate(script.steps):
        with failpoints.hook_installed(trace), suppress(Refused):
            step.do(world)
    return trace


def crash_at(script: Script, world: World, crash: CrashAt, *, goes_on: bool = True) -> str:
    """Run the steps of a script, with a crash at one failpoint. Return the failpoint's name.

    `goes_on` False: the script ends with the crash.
    """
    _perform(script, world, crash, goes_on=goes_on)
    assert len(crash.points) >= crash.at, f"{script} reached {[p.name for p in crash.points]}"
    return crash.points[crash.at - 1].name


def _perform(script: Script, world: World, crash: CrashAt, *, goes_on: bool = True) -> None:
    for step in script.steps:
        try:
            with failpoints.hook_installed(crash):
                step.do(world)
        except ConnectionCut:
            crash.compare_rows()
            if not goes_on or crash.is_tested:
                return
            _pass_lock_ends()
            if step.is_repeated:
                step.do(world)
        except Refused:
            continue  # an operator's request was refused, which changes nothing


def resume(world: World, *, daemons_answer: bool = True) -> None:
    """Run passes and daemons until nothing is left to be done.

    `daemons_answer` False: daemons report no step any more, so deadlines must end the handoffs.
    """
    for turn in range(6):
        if turn > 0 and _is_at_rest():
            break
        _pass_lock_ends()
        serving_since(3600)  # on a busy machine a crash takes longer than the gap of a gateway
        if not daemons_answer:
            Handoff.objects.filter(state__in=ACTIVE_STATES).update(deadline_at=ago(1))
        Scheduler("resumed").tick()
        for daemon in world.daemons if daemons_answer else ():
            daemon.beat()
            daemon.prepare()
            for entry in daemon.desired("drain"):
                world.send(daemon, _empty(entry.portfolio, entry.epoch, entry.handoff))
            for entry in daemon.desired("run"):
                if run_of(Portfolio.objects.get(pk=entry.portfolio)).first_commit_at is None:
                    world.send(daemon, _empty(entry.portfolio, entry.epoch))


def _is_at_rest() -> bool:
    """Return whether no handoff is active and no portfolio waits for an owner or first commit."""
    under_way = ~Q(phase__in=STAY_WITHOUT_OWNER) & (Q(node=None) | Q(first_commit_at=None))
    is_open = Handoff.objects.filter(state__in=ACTIVE_STATES).exists()
    return not is_open and not Run.objects.filter(under_way).exists()


def _empty(portfolio: int, epoch: int, release: int | None = None) -> Commit:
    """Return a commit of no events, which releases the portfolio if `release` is a handoff."""
    at = run_of(Portfolio.objects.get(pk=portfolio)).last_seq
    return Commit(
        portfolio=portfolio, epoch=epoch, from_seq=at, to_seq=at, batch=str(uuid4()),
        release=release,
    )  # fmt: skip


def _pass_lock_ends() -> None:
    """Expire the pass lock, which a crashed pass holds for five seconds more."""
    PassLock.objects.update(until=ago(1))


def violations(world: World) -> list[str]:
    """Return a phrase for each violated invariant."""
    found: list[str] = []
    portfolio = world.portfolio
    run = run_of(portfolio)
    for handoff in Handoff.objects.exclude(state__in=ENDED):
        found.append(f"{handoff} is stuck")
    # Every portfolio has an owner, or a reason.
    if run.node_id is None and not (run.phase == "stopped" or run.reason):
        found.append(f"p has neither an owner nor a reason, phase {run.phase}")
    if run.phase in ("starting", "draining"):
        found.append(f"p is still {run.phase}")
    owners = [
        daemon.name
        for daemon in world.daemons
        if portfolio.pk in [entry.portfolio for entry in daemon.desired("run")]
    ]
    if owners != ([] if run.node is None else [run.node.name]):
        found.append(f"desired sets of {owners} tell them to run p, {run.node} owns p")
    # I1, I2: one owner per epoch, epochs rise, tenures tile up to its seq.
    tenures = list(Tenure.objects.filter(portfolio=portfolio).order_by("epoch"))
    for before, after in pairwise(tenures):
        if before.to_seq != after.from_seq:
            found.append(f"{before} ended at {before.to_seq}, {after} began at {after.from_seq}")
    if [t.epoch for t in tenures if t.ended_at is None] != [run.epoch] * (run.node_id is not None):
        found.append("the open tenure is not the run's")
    grants = Event.objects.filter(portfolio=portfolio, kind="granted").order_by("id")
    if [e.data["epoch"] for e in grants] != [t.epoch for t in tenures]:
        found.append("the audit log has other grants than the tenures")
    found += _repeats_write(world, portfolio)
    found += _older_epochs_write(portfolio, tenures, world)
    return found


def _repeats_write(world: World, portfolio: Portfolio) -> list[str]:
    """I4: every sent commit, repeated twice, changes nothing, and both answers are equal."""
    before = _written(portfolio)
    found = []
    for daemon, commit in world.sent:
        once, twice = _send(daemon, commit), _send(daemon, commit)
        if once.answer != twice.answer:
            found.append(f"a repeat was answered {once.answer}, then {twice.answer}")
        kept = Handoff.objects.filter(release_batch=commit.batch).first()
        if kept is not None and once.answer != kept.release_answer:
            found.append(f"a release was answered {kept.release_answer}, now {once.answer}")
    if _written(portfolio) != before:
        found.append(f"a repeat changed {before} to {_written(portfolio)}")
    return found


def _older_epochs_write(portfolio: Portfolio, tenures: list[Tenure], world: World) -> list[str]:
    """I5: commits of earlier owners are fenced."""
    before, run = _written(portfolio), run_of(portfolio)
    found = []
    for tenure in tenures:
        if tenure.epoch < run.epoch:
            assert tenure.node is not None
            assert tenure.incarnation is not None
            daemon = FakeNode(tenure.node, tenure.incarnation)
            late = Commit(
                portfolio=portfolio.pk, epoch=tenure.epoch, from_seq=run.last_seq,
                to_seq=run.last_seq + 1, batch=str(uuid4()), orders=[order_line(run.last_seq + 1)],
            )  # fmt: skip
            (answer,) = daemon.send(late)
            if answer.answer != "fenced":
                found.append(f"epoch {tenure.epoch} was answered {answer.answer}")
    if _written(portfolio) != before:
        found.append("an older epoch wrote")
    return found


def _written(portfolio: Portfolio) -> tuple[Any, ...]:
    run = run_of(portfolio)
    orders = tuple(Order.objects.filter(portfolio=portfolio).values_list("id", "epoch"))
    return run.epoch, run.node_id, run.last_seq, run.batch, orders
