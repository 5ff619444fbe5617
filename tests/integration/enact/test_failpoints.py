"""Crashes between any two statements of a handoff: the handoff still ends.

Every script below runs once for each point that it reaches. The last test compares the points with
the source: every statement of the protocol has a crash after it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.halt import halt_all
from scheduling.enact.handoff import expire, find_overdue, request
from scheduling.enact.process_failures import handle_process_exit, handle_stale_halt
from scheduling.enact.unheld_runs import reclaim_orphaned, reclaim_unactivated
from scheduling.models import ACTIVE_STATES, Handoff, Lease, Node, Run
from scheduling.scheduler import Scheduler
from scheduling.timing import timing
from scheduling.wire.messages import Commit, Halted, ProcessExited
from tests.support.crash_injection import (
    CrashAt,
    Script,
    ScriptStep,
    Trace,
    World,
    crash_at,
    make_order,
    make_world,
    record_points,
    resume,
    rolled_back,
    violations,
)
from tests.support.factories import ago, lose, make_node, make_portfolio, run_of, serving_since
from tests.support.kept_rows import KeptRows

pytestmark = pytest.mark.django_db


# --- what somebody does ---------------------------------------------------------------------------


def a_move(world: World) -> Any:
    return operations.migrate("p", "node-2", actor="ann")


def a_reload(world: World) -> Any:
    return operations.revise_portfolio("p", {"limits": {"largest_order": "5"}}, actor="ann")


def a_stop(world: World) -> Any:
    return operations.stop("p", actor="ann")


def a_delete(world: World) -> Any:
    return operations.delete_portfolio("p", actor="ann")


def a_creation(world: World) -> Any:
    return make_portfolio("p")


def a_tick(world: World) -> Any:
    return Scheduler("test").tick()


def ready(world: World) -> Any:
    """Both daemons report what they have prepared."""
    world.first.prepare()
    world.second.prepare()


class Said:
    """Words that are made once, from the world as it then is, and said again as they are."""

    def __init__(self, *, release: bool, by: str, events: int) -> None:
        self._release, self._by, self._events = release, by, events

    def __call__(self, world: World) -> Any:
        daemon = world.first if self._by == "node-1" else world.second
        if self not in world.messages:
            world.messages[self] = self._words(world)
        return world.send(daemon, world.messages[self])

    def _words(self, world: World) -> Commit:
        at = run_of(world.portfolio)
        to_seq = at.last_seq + self._events
        handoff = Handoff.objects.filter(portfolio=world.portfolio).order_by("-id").first()
        return Commit(
            portfolio=world.portfolio.pk,
            epoch=at.epoch,
            from_seq=at.last_seq,
            to_seq=to_seq,
            batch=str(uuid4()),
            orders=[make_order(to_seq)] if self._events else [],
            release=(handoff.pk if handoff else 0) if self._release else None,
        )


def released(by: str = "node-1", events: int = 2) -> ScriptStep:
    return ScriptStep(Said(release=True, by=by, events=events))


def committed(by: str, events: int = 0) -> ScriptStep:
    return ScriptStep(Said(release=False, by=by, events=events))


def failed(step: str, by: str, *, strategy: bool = False) -> ScriptStep:
    def report(world: World) -> Any:
        daemon = world.first if by == "node-1" else world.second
        handoff = Handoff.objects.filter(portfolio=world.portfolio).order_by("-id").first()
        return daemon.fails(handoff, step, strategy=strategy) if handoff else None

    return ScriptStep(report)


def dead(by: str, *, idle: bool = False) -> ScriptStep:
    """The process of its owner ended; the report is the same when it is said again."""

    def report(world: World) -> Any:
        at, daemon = run_of(world.portfolio), world.first if by == "node-1" else world.second
        death = world.messages.setdefault(
            report,
            ProcessExited(
                death=str(uuid4()),
                portfolio=at.portfolio_id,
                epoch=at.epoch,
                revision=at.revision,
                seq=at.last_seq,
                stage="event",
                idle=idle,
                error="ValueError: boom",
            ),
        )
        return execute(handle_process_exit(daemon.row.pk, daemon.incarnation, death, timing()))

    return ScriptStep(report)


def stale(world: World) -> Any:
    """catch_up is halt, and the next event is old."""
    at = run_of(world.portfolio)
    report = Halted(portfolio=at.portfolio_id, epoch=at.epoch, seq=at.last_seq, age_s=41.0)
    return execute(handle_stale_halt(world.first.row.pk, world.first.incarnation, report, timing()))


def too_late(world: World) -> Any:
    """The deadline of whatever is under way is over, and a sweep looks."""
    Handoff.objects.update(deadline_at=ago(1))
    return [execute(expire(number, timing())) for number in execute(find_overdue(timing()))]


def kill_switch(world: World) -> Any:
    return execute(halt_all(actor="ann", reason="enough"))


def restarted(name: str) -> ScriptStep:
    """A daemon of this name starts: register takes over what the one before had."""

    def start(world: World) -> Any:
        again = make_node(name)
        if name == "node-1":
            world.first = again
        else:
            world.second = again

    return ScriptStep(start)


def no_commit(world: World) -> Any:
    at = run_of(world.portfolio)
    return execute(reclaim_unactivated(at.portfolio_id, at.epoch, 10.0))


def orphaned(world: World) -> Any:
    at = run_of(world.portfolio)
    return execute(reclaim_orphaned(at.portfolio_id, at.epoch))


def a_failover(world: World) -> Any:
    at = run_of(world.portfolio)
    return execute(
        request(
            "failover",
            at.portfolio_id,
            target=world.second.row.pk,
            actor="balancer",
            reason="node-1 is lost",
            timing=timing(),
            seen_epoch=at.epoch,
        )
    )


# --- how the world is when it begins --------------------------------------------------------------


def first_is_lost(world: World) -> None:
    lose(world.first)


def silent(*names: str) -> Any:
    def begins(world: World) -> None:
        for daemon in world.daemons:
            if daemon.name in names:
                Lease.objects.filter(node=daemon.row).update(expires_at=ago(1))
                Node.objects.filter(pk=daemon.row.pk).update(status="lost")

    return begins


def pinned_there(world: World) -> None:
    Run.objects.filter(pk=world.portfolio.pk).update(pinned_node=world.first.row)


def four_deaths(world: World) -> None:
    Run.objects.filter(pk=world.portfolio.pk).update(attempts=4)


def not_yet(world: World) -> None:
    """It is deleted before, so that the act creates it anew."""
    operations.delete_portfolio("p", actor="cast")
    Said(release=True, by="node-1", events=0)(world)
    world.sent.clear()


def both(*begins: Any) -> Any:
    return lambda world: [begin(world) for begin in begins]


def step(do: Any) -> ScriptStep:
    """Something that is done again if its answer was lost."""
    return ScriptStep(do)


def asked(do: Any) -> ScriptStep:
    """Something that a person asks for, and does not ask for again."""
    return ScriptStep(do, is_repeated=False)


MOVE_TO_GRANT = (asked(a_move), step(ready), released())
RELOAD_TO_GRANT = (asked(a_reload), step(ready), released())

KINDS = [
    Script("migrate", (*MOVE_TO_GRANT, committed("node-2"))),
    Script("reload", (*RELOAD_TO_GRANT, committed("node-1"))),
    Script("place", (asked(a_creation), step(a_tick), step(ready), committed("node-1")), not_yet),
    Script("failover", (step(a_tick), step(ready), committed("node-2")), silent("node-1")),
    Script("stop", (asked(a_stop), released())),
    Script("delete", (asked(a_delete), released())),
    Script("register", (restarted("node-1"), committed("node-1"))),
    Script("halt", (step(kill_switch),)),
    Script("halted before a stale event", (step(stale),)),
]  # fmt: skip

WAYS_OUT = [
    Script("drain", (asked(lambda w: operations.drain("node-1", actor="ann")), step(a_tick),
                  step(ready), released(), committed("node-2"))),
    Script("migrate that cannot prepare", (asked(a_move), failed("prepare", "node-2"))),
    Script("migrate whose target is late", (asked(a_move), step(too_late))),
    Script("migrate whose source is late", (asked(a_move), step(ready), step(too_late),
                                         committed("node-2"))),
    Script("migrate that is rolled back", (*MOVE_TO_GRANT, failed("activate", "node-2"),
                                        committed("node-1"))),
    Script("migrate whose activation is late", (*MOVE_TO_GRANT, step(too_late),
                                             committed("node-1"))),
    Script("migrate that a stop ends", (asked(a_move), step(ready), asked(a_stop), released())),
    Script("migrate that a failover ends", (asked(a_move), step(lambda w: lose(w.first)),
                                         asked(a_failover), step(ready), committed("node-2"))),
    Script("migrate whose target starts again", (asked(a_move), step(ready), restarted("node-2"),
                                              released())),
    Script("migrate whose source starts again", (asked(a_move), step(ready), restarted("node-1"),
                                              committed("node-1"))),
    Script("grant whose target starts again", (*MOVE_TO_GRANT, restarted("node-2"),
                                            committed("node-2"))),
    Script("release for a target that is gone",
        (asked(a_move), step(ready), step(lambda w: silent("node-2")(w)), released(),
         committed("node-1", 1))),
    Script("reload that cannot prepare", (asked(a_reload), failed("prepare", "node-1"))),
    Script("reload that raises as it is prepared", (asked(a_reload),
                                                 failed("prepare", "node-1", strategy=True))),
    Script("reload that raises before its first commit", (*RELOAD_TO_GRANT, dead("node-1"),
                                                       committed("node-1"))),
    Script("reload that raises after it", (*RELOAD_TO_GRANT, committed("node-1", 1), dead("node-1"),
                                        committed("node-1"))),
    Script("stop past its deadline", (asked(a_stop), step(too_late))),
    Script("stop of what nobody answers for", (asked(a_stop),), silent("node-1")),
    Script("failover from its pin", (asked(a_failover), step(ready), committed("node-2")),
        both(first_is_lost, pinned_there)),
    Script("failover that came too late", (asked(a_failover), step(lambda w: w.first.beat()),
                                        step(ready)), first_is_lost),
    Script("failover that cannot prepare", (asked(a_failover), failed("prepare", "node-2")),
        first_is_lost),
    Script("failover whose target is late", (asked(a_failover), step(too_late)), first_is_lost),
    Script("failover for the fifth time", (asked(a_failover), step(ready)),
        both(first_is_lost, four_deaths)),
    Script("failover that cannot prepare for the fifth time",
        (asked(a_failover), failed("prepare", "node-2")), both(first_is_lost, four_deaths)),
    Script("death that is restarted", (dead("node-1"),)),
    Script("death without an event", (dead("node-1", idle=True),)),
    Script("fifth death", (dead("node-1"),), four_deaths),
    Script("register for the fifth time", (restarted("node-1"),), four_deaths),
    Script("place that cannot start",
        (asked(a_creation), step(a_tick), failed("prepare", "node-1")), not_yet),
    Script("places of two in one batch", (asked(a_creation), asked(lambda w: make_portfolio("r")),
                                       step(a_tick), step(ready), committed("node-1")), not_yet),
    Script("grant that its node never began", (restarted("node-1"), step(no_commit))),
    Script("run of an incarnation that is no more", (step(orphaned),)),
]  # fmt: skip


WORLD = KeptRows(make_world)


@pytest.fixture
def world() -> World:
    return fresh(WORLD.get())


def deaths(
    act: Script, world: World, numbers: Iterable[int], *, goes_on: bool = True
) -> Iterator[tuple[str, World]]:
    """Crash the script at each of these points; yield the point's name and the resulting world.

    Of the crashes in one step that leave the same rows, one is yielded, since all of them continue
    in the same way. A transaction that leaves nothing after its last statement leaves nothing after
    those before.
    """
    reached, seen = trace(act, world), set[tuple[int, str]]()
    with rolled_back():
        act.begins(world)
        for outside, inside in reached.by_transaction(numbers).items():
            for number in reversed(inside):
                is_known = reached.outside[outside] in seen
                dying = CrashAt(number, outside, is_known=is_known)
                with rolled_back():
                    now = fresh(world)
                    name = crash_at(act, now, dying, goes_on=goes_on)
                    if not (dying.left_nothing and is_known):
                        yield f"{name} ({number})", now
                if dying.left_nothing:
                    seen.add(reached.outside[outside])
                    break


def dies_everywhere(act: Script, world: World, numbers: Iterable[int]) -> list[str]:
    """Crash the script at each of these points; return the violations afterwards."""
    found = []
    for name, now in deaths(act, world, numbers):
        resume(now)
        found += [f"{name}: {phrase}" for phrase in violations(now)]
    return found


def fresh(world: World) -> World:
    """Return the initial world, with the leases of its nodes renewed, unless they are lost:
    earlier runs may have taken longer than a lease."""
    serving_since(3600)
    alive = set(Node.objects.filter(status="alive").values_list("name", flat=True))
    for daemon in world.daemons:
        if daemon.name in alive:
            daemon.beat()
    return World(world.first, world.second)


_traces: dict[Script, Trace] = {}


def trace(act: Script, world: World) -> Trace:
    """Return the points of a script, which are the same in every test."""
    if act not in _traces:
        with rolled_back():
            act.begins(world)
            _traces[act] = record_points(act, fresh(world))
    return _traces[act]


#: Most points of a pass do not belong to a handoff; one script crashes at those for all.
OF_A_HANDOFF = (
    "handoff.",
    "operations.",
    "commit.",
    "register.",
    "process_failures.",
    "halt.",
    "pending_reasons.",
)


@pytest.fixture(scope="session")
def died_at() -> set[str]:
    """Points with equal history at which an earlier script has crashed."""
    return set()


@pytest.mark.parametrize("act", KINDS, ids=str)
def test_crash_between_any_statements_leaves_no_handoff_stuck(
    act: Script, world: World, died_at: set[str]
) -> None:
    reached = trace(act, world).points
    numbers = [
        number
        for number, point in enumerate(reached, start=1)
        if point.name.startswith(OF_A_HANDOFF) or point.name not in died_at
    ]
    died_at.update(point.name for point in reached)
    assert len(numbers) > 6
    assert dies_everywhere(act, world, numbers) == []


@pytest.mark.parametrize("act", WAYS_OUT, ids=str)
def test_crash_during_a_failing_handoff_leaves_none_stuck(
    act: Script, world: World, died_at: set[str]
) -> None:
    reached = trace(act, world).points
    numbers = [n for n, point in enumerate(reached, start=1) if point.name not in died_at]
    died_at.update(point.name for point in reached)
    assert dies_everywhere(act, world, numbers) == []


def test_deadlines_alone_end_handoffs_after_a_crash(world: World) -> None:
    (migrate,) = (act for act in KINDS if act.name == "migrate")
    left = []
    numbers = range(1, len(trace(migrate, world).points) + 1)
    for name, now in deaths(migrate, world, numbers, goes_on=False):
        begun = list(Handoff.objects.values_list("pk", flat=True))
        resume(now, daemons_answer=False)
        # Not those that the passes begin meanwhile, since it is pinned elsewhere.
        active = Handoff.objects.filter(pk__in=begun, state__in=ACTIVE_STATES)
        left += [f"{name}: {handoff}" for handoff in active]
    assert left == []


# --- completeness --------------------------------------------------------------------------------

PROTOCOL = (
    "deadlines", "finish", "prepare", "release_source", "request_handoff", "rollback", "statements",
)  # fmt: skip
MODULES = [f"scheduling.enact.handoff.{name}" for name in PROTOCOL]
MODULES += [
    "scheduling.enact.process_failures",
    "scheduling.enact.unheld_runs",
    "scheduling.enact.revisions",
    "scheduling.enact.grant",
    "scheduling.enact.register",
]
#: Statements of these modules that no handoff is part of.
BESIDE = {"mark_proven_revisions", "try_again"}


def statements_of(module: str) -> set[tuple[str, str, str]]:
    """Return (module, function, statement) for each `query` and `query_one` in the source."""
    tree = ast.parse(Path(str(import_module(module).__file__)).read_text(encoding="utf-8"))
    return {
        (module, function.name, node.args[0].id)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name not in BESIDE
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("query", "query_one")
        and isinstance(node.args[0], ast.Name)
    }


def test_every_protocol_statement_has_a_tested_crash(world: World) -> None:
    reached = {point.statement for act in (*KINDS, *WAYS_OUT) for point in trace(act, world).points}
    written = set().union(*(statements_of(module) for module in MODULES))
    assert len(written) > 30
    assert sorted(written - reached) == []
