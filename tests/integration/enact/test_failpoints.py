"""Crashes between any two statements of a handoff: the handoff still ends.

Each script runs once for every failpoint that it reaches. The last test compares these with the
source: every statement of the protocol has a crash after it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.halt import halt_all
from scheduling.enact.handoff import expire, find_overdue
from scheduling.enact.unheld_runs import reclaim_orphaned, reclaim_unactivated
from scheduling.models import ACTIVE_STATES, Handoff, Lease, Node, Run
from scheduling.timing import timing
from scheduling.wire.messages import Commit
from tests.support.crash_injection import (
    Script,
    ScriptStep,
    Trace,
    World,
    crash_at,
    make_world,
    record_points,
    resume,
    rolled_back,
    violations,
)
from tests.support.factories import (
    OwnerSession,
    ago,
    lose,
    make_node,
    make_portfolio,
    order_line,
    run_of,
    serving_since,
    tick,
)
from tests.support.kept_rows import KeptRows

pytestmark = pytest.mark.django_db


# --- steps ----------------------------------------------------------------------------------------


def once(do: Any) -> ScriptStep:
    """Return a step that a person requests, and does not repeat."""
    return ScriptStep(do, is_repeated=False)


def prepare(world: World) -> Any:
    for daemon in world.daemons:
        daemon.prepare()


LIMITS = {"limits": {"largest_order": "5"}}
MOVE = once(lambda w: operations.migrate("p", "node-2", actor="ann"))
RELOAD = once(lambda w: operations.revise_portfolio("p", LIMITS, actor="ann"))
STOP = once(lambda w: operations.stop("p", actor="ann"))
DELETE = once(lambda w: operations.delete_portfolio("p", actor="ann"))
CREATE = once(lambda w: make_portfolio("p"))
TICK, PREPARE = ScriptStep(lambda w: tick()), ScriptStep(prepare)


class RepeatedCommit:
    """A commit message that is made once, of the world at that time, and repeated unchanged."""

    def __init__(self, *, release: bool, by: str, events: int) -> None:
        self._release, self._by, self._events = release, by, events

    def __call__(self, world: World) -> Any:
        if self not in world.messages:
            world.messages[self] = self._make(world)
        return world.send(world.daemon(self._by), world.messages[self])

    def _make(self, world: World) -> Commit:
        to_seq = run_of(world.portfolio).last_seq + self._events
        handoff = Handoff.objects.filter(portfolio=world.portfolio).order_by("-id").first()
        return OwnerSession(world.first, world.portfolio).next_commit(
            self._events,
            orders=[order_line(to_seq)] if self._events else [],
            release=(handoff.pk if handoff else 0) if self._release else None,
        )


def release(by: str = "node-1", events: int = 2) -> ScriptStep:
    """Return the step in which the daemon releases for the newest handoff."""
    return ScriptStep(RepeatedCommit(release=True, by=by, events=events))


def commit(by: str, events: int = 0) -> ScriptStep:
    """Return the step in which the daemon commits the next events."""
    return ScriptStep(RepeatedCommit(release=False, by=by, events=events))


def fail(step: str, by: str, *, strategy: bool = False) -> ScriptStep:
    def report(world: World) -> Any:
        handoff = Handoff.objects.filter(portfolio=world.portfolio).order_by("-id").first()
        return world.daemon(by).fails(handoff, step, strategy=strategy) if handoff else None

    return ScriptStep(report)


def die(by: str, *, idle: bool = False) -> ScriptStep:
    """Return the step in which the daemon reports, or repeats, that its process ended."""

    def report(world: World) -> Any:
        hand = OwnerSession(world.daemon(by), world.portfolio)
        return hand.report_death(world.messages.setdefault(report, hand.death(idle=idle)))

    return ScriptStep(report)


def halt_stale(world: World) -> Any:
    """Report a stop before an event that is too old for `catch_up: halt`."""
    return OwnerSession(world.first, world.portfolio).halts()


def expire_late(world: World) -> Any:
    """Let every handoff be past its deadline, and expire those that a sweep finds."""
    Handoff.objects.update(deadline_at=ago(1))
    return [execute(expire(number, timing())) for number in execute(find_overdue(timing()))]


def restart(name: str) -> ScriptStep:
    """Return the step in which a new daemon of this name registers, in place of the one before."""

    def start(world: World) -> Any:
        setattr(world, "first" if name == "node-1" else "second", make_node(name))

    return ScriptStep(start)


def reclaim_uncommitted(world: World) -> Any:
    at = run_of(world.portfolio)
    return execute(reclaim_unactivated(at.portfolio_id, at.epoch, 10.0))


def reclaim_orphan(world: World) -> Any:
    at = run_of(world.portfolio)
    return execute(reclaim_orphaned(at.portfolio_id, at.epoch))


def fail_over(world: World) -> Any:
    hand = OwnerSession(world.first, world.portfolio)
    return hand.fail_over_to(world.second, seen_epoch=hand.run().epoch)


# --- the world before the first step --------------------------------------------------------------


def lose_first(world: World) -> None:
    lose(world.first)


def silence(*names: str) -> Any:
    def begins(world: World) -> None:
        for daemon in world.daemons:
            if daemon.name in names:
                Lease.objects.filter(node=daemon.row).update(expires_at=ago(1))
                Node.objects.filter(pk=daemon.row.pk).update(status="lost")

    return begins


def pin_to_first(world: World) -> None:
    Run.objects.filter(pk=world.portfolio.pk).update(pinned_node=world.first.row)


def count_four_attempts(world: World) -> None:
    Run.objects.filter(pk=world.portfolio.pk).update(attempts=4)


def delete_before(world: World) -> None:
    """Delete the portfolio, so that the script creates it anew."""
    operations.delete_portfolio("p", actor="cast")
    RepeatedCommit(release=True, by="node-1", events=0)(world)
    world.sent.clear()


def in_order(*begins: Any) -> Any:
    return lambda world: [begin(world) for begin in begins]


FAIL_OVER, EXPIRE_LATE = once(fail_over), ScriptStep(expire_late)
MOVE_TO_GRANT = (MOVE, PREPARE, release())
RELOAD_TO_GRANT = (RELOAD, PREPARE, release())

KINDS = [
    Script("migrate", (*MOVE_TO_GRANT, commit("node-2"))),
    Script("reload", (*RELOAD_TO_GRANT, commit("node-1"))),
    Script("place", (CREATE, TICK, PREPARE, commit("node-1")), delete_before),
    Script("failover", (TICK, PREPARE, commit("node-2")), silence("node-1")),
    Script("stop", (STOP, release())),
    Script("delete", (DELETE, release())),
    Script("register", (restart("node-1"), commit("node-1"))),
    Script("halt", (ScriptStep(lambda w: execute(halt_all(actor="ann", reason="enough"))),)),
    Script("halted before a stale event", (ScriptStep(halt_stale),)),
]

WAYS_OUT = [
    Script("drain", (once(lambda w: operations.drain("node-1", actor="ann")), TICK,
                  PREPARE, release(), commit("node-2"))),
    Script("migrate that cannot prepare", (MOVE, fail("prepare", "node-2"))),
    Script("migrate whose target is late", (MOVE, EXPIRE_LATE)),
    Script("migrate whose source is late", (MOVE, PREPARE, EXPIRE_LATE, commit("node-2"))),
    Script("migrate that is rolled back", (*MOVE_TO_GRANT, fail("activate", "node-2"),
                                        commit("node-1"))),
    Script("migrate whose activation is late", (*MOVE_TO_GRANT, EXPIRE_LATE, commit("node-1"))),
    Script("migrate that a stop ends", (MOVE, PREPARE, STOP, release())),
    Script("migrate that a failover ends", (MOVE, ScriptStep(lambda w: lose(w.first)), FAIL_OVER,
                                         PREPARE, commit("node-2"))),
    Script("migrate whose target starts again", (MOVE, PREPARE, restart("node-2"), release())),
    Script("migrate whose source starts again", (MOVE, PREPARE, restart("node-1"),
                                              commit("node-1"))),
    Script("grant whose target starts again", (*MOVE_TO_GRANT, restart("node-2"),
                                            commit("node-2"))),
    Script("release for a target that is gone", (MOVE, PREPARE, ScriptStep(silence("node-2")),
                                              release(), commit("node-1", 1))),
    Script("reload that cannot prepare", (RELOAD, fail("prepare", "node-1"))),
    Script("reload that raises as it is prepared", (RELOAD,
                                                 fail("prepare", "node-1", strategy=True))),
    Script("reload that raises before its first commit", (*RELOAD_TO_GRANT, die("node-1"),
                                                       commit("node-1"))),
    Script("reload that raises after it", (*RELOAD_TO_GRANT, commit("node-1", 1), die("node-1"),
                                        commit("node-1"))),
    Script("stop past its deadline", (STOP, EXPIRE_LATE)),
    Script("stop of what nobody answers for", (STOP,), silence("node-1")),
    Script("failover from its pin", (FAIL_OVER, PREPARE, commit("node-2")),
        in_order(lose_first, pin_to_first)),
    Script("failover that came too late", (FAIL_OVER, ScriptStep(lambda w: w.first.beat()),
                                        PREPARE), lose_first),
    Script("failover that cannot prepare", (FAIL_OVER, fail("prepare", "node-2")), lose_first),
    Script("failover whose target is late", (FAIL_OVER, EXPIRE_LATE), lose_first),
    Script("failover for the fifth time", (FAIL_OVER, PREPARE),
        in_order(lose_first, count_four_attempts)),
    Script("failover that cannot prepare for the fifth time",
        (FAIL_OVER, fail("prepare", "node-2")), in_order(lose_first, count_four_attempts)),
    Script("death that is restarted", (die("node-1"),)),
    Script("death without an event", (die("node-1", idle=True),)),
    Script("fifth death", (die("node-1"),), count_four_attempts),
    Script("register for the fifth time", (restart("node-1"),), count_four_attempts),
    Script("place that cannot start", (CREATE, TICK, fail("prepare", "node-1")), delete_before),
    Script("places of two in one batch", (CREATE, once(lambda w: make_portfolio("r")), TICK,
                                       PREPARE, commit("node-1")), delete_before),
    Script("grant that its node never began", (restart("node-1"), ScriptStep(reclaim_uncommitted))),
    Script("run of an incarnation that is no more", (ScriptStep(reclaim_orphan),)),
]  # fmt: skip


WORLD = KeptRows(make_world)


@pytest.fixture
def world() -> World:
    return renewed(WORLD.get())


def outcomes_of_crashes(
    act: Script, world: World, numbers: Iterable[int], *, goes_on: bool = True
) -> Iterator[tuple[str, World]]:
    """Crash the script at each of these points; yield the point's name and the resulting world.

    Of crashes with the same effect one is yielded, since all of them continue in the same way.
    """
    trace = trace_of(act, world)
    with rolled_back():
        act.begins(world)
        for crash in trace.crashes(numbers):
            with rolled_back():
                now = renewed(world)
                name = crash_at(act, now, crash, goes_on=goes_on)
                if not crash.is_tested:
                    yield f"{name} ({crash.at})", now


def violations_after_crashes(act: Script, world: World, numbers: Iterable[int]) -> list[str]:
    found = []
    for name, now in outcomes_of_crashes(act, world, numbers):
        resume(now)
        found += [f"{name}: {phrase}" for phrase in violations(now)]
    return found


def renewed(world: World) -> World:
    """Return the initial world, with the leases of its nodes renewed, unless they are lost:
    earlier runs may have taken longer than a lease."""
    serving_since(3600)
    alive = set(Node.objects.filter(status="alive").values_list("name", flat=True))
    for daemon in world.daemons:
        if daemon.name in alive:
            daemon.beat()
    return World(world.first, world.second)


_traces: dict[Script, Trace] = {}


def trace_of(act: Script, world: World) -> Trace:
    """Return the points of a script, which are the same in every test."""
    if act not in _traces:
        with rolled_back():
            act.begins(world)
            _traces[act] = record_points(act, renewed(world))
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
def crashed_points() -> set[str]:
    """Return the names of the points at which earlier scripts crashed, which tests add."""
    return set()


@pytest.mark.parametrize("act", KINDS, ids=str)
def test_crash_between_any_statements_leaves_no_handoff_stuck(
    act: Script, world: World, crashed_points: set[str]
) -> None:
    reached = trace_of(act, world).points
    numbers = [
        number
        for number, point in enumerate(reached, start=1)
        if point.name.startswith(OF_A_HANDOFF) or point.name not in crashed_points
    ]
    crashed_points.update(point.name for point in reached)
    assert len(numbers) > 6
    assert violations_after_crashes(act, world, numbers) == []


@pytest.mark.parametrize("act", WAYS_OUT, ids=str)
def test_crash_during_a_failing_handoff_leaves_none_stuck(
    act: Script, world: World, crashed_points: set[str]
) -> None:
    reached = trace_of(act, world).points
    numbers = [n for n, point in enumerate(reached, start=1) if point.name not in crashed_points]
    crashed_points.update(point.name for point in reached)
    assert violations_after_crashes(act, world, numbers) == []


def test_deadlines_alone_end_handoffs_after_a_crash(world: World) -> None:
    (migrate,) = (act for act in KINDS if act.name == "migrate")
    left = []
    numbers = range(1, len(trace_of(migrate, world).points) + 1)
    for name, now in outcomes_of_crashes(migrate, world, numbers, goes_on=False):
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
BESIDE = {"mark_proven_revisions", "try_again", "_count_further_exit"}


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
    reached = {
        point.statement for act in (*KINDS, *WAYS_OUT) for point in trace_of(act, world).points
    }
    written = set().union(*(statements_of(module) for module in MODULES))
    assert len(written) > 30
    assert sorted(written - reached) == []
