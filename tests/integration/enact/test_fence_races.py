"""Races on real connections: exactly one writer wins, and the invariants hold."""

# ruff: noqa: B023 (what is done at once is done before the loop goes on)

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connection
from psycopg.rows import namedtuple_row

from ginkgo_site.database import conninfo
from portfolios.models import FeedSegment, Order
from scheduling import operations
from scheduling.db.transaction import Transaction, execute
from scheduling.enact.commit import commit
from scheduling.enact.handoff import expire, release
from scheduling.enact.lease import mark_lost
from scheduling.enact.register import register
from scheduling.enact.revisions import mark_proven_revisions
from scheduling.enact.stalls import mark_stalls
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Event, Handoff, Lease, Node, Run, Tenure
from scheduling.scheduler import Scheduler
from scheduling.timing import timing
from scheduling.wire.messages import OrderLine
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    ago,
    expire_lease,
    lose,
    make_node,
    make_portfolio,
    make_trader,
    newest_handoff,
    owner,
    prove_revision,
    register_message,
    serving_since,
)

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 3


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """Do all acts at one moment, each on a connection of its own. Return outcomes or errors."""
    gate = threading.Barrier(len(acts))
    outcomes: list[Any] = [None] * len(acts)

    def work(number: int) -> None:
        connection.ensure_connection()
        gate.wait()
        try:
            outcomes[number] = acts[number]()
        except Exception as error:
            outcomes[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


class Held:
    """A transaction that is not committed yet."""

    def __init__(self, steps: Transaction[Any]) -> None:
        self.connection = psycopg.connect(conninfo())
        self.outcome: Any = None
        with self.connection.cursor(row_factory=namedtuple_row) as cursor:
            try:
                asked = next(steps)
                while True:
                    cursor.execute(asked.sql.encode(), asked.params)
                    asked = steps.send(cursor.fetchall() if cursor.description else [])
            except StopIteration as stop:
                self.outcome = stop.value

    def commit(self) -> None:
        """Let the others see it."""
        self.connection.commit()
        self.connection.close()


def behind(held: Held, act: Callable[[], Any], repeats: FakeNode | None = None) -> Any:
    """Begin `act` while `held` is uncommitted, let it block on it, commit, return its outcome.

    What never blocks is repeated by a daemon: then `held` lasts until an answer left it out.
    """
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(act())
        except Exception as error:
            outcome.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    if repeats is None:
        wait_until_blocked()
    else:
        wait_until_left_out(repeats)
    held.commit()
    thread.join()
    return outcome[0]


def wait_until_left_out(daemon: FakeNode) -> None:
    """Return when an answer to this daemon left something out."""
    for _ in range(500):
        if daemon.left_out:
            return
        threading.Event().wait(0.01)
    raise AssertionError("nobody met the row that is held")


def wait_until_blocked() -> None:
    """Return when some session waits for a lock of another."""
    with psycopg.connect(conninfo(), autocommit=True) as looking:
        for _ in range(500):
            waiting = looking.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
            ).fetchone()
            assert waiting is not None
            if waiting[0]:
                return
            threading.Event().wait(0.01)
    raise AssertionError("nobody waited for the lock")


def assert_invariants(hand: OwnerSession) -> None:
    """I1 and I5: one owner an epoch, epochs only rise. I2: tenures tile. I10: the trail agrees."""
    tenures = list(Tenure.objects.filter(portfolio=hand.portfolio).order_by("epoch"))
    assert len({t.epoch for t in tenures}) == len(tenures)
    assert [t.to_seq for t in tenures[:-1]] == [t.from_seq for t in tenures[1:]]
    at = hand.run()
    assert tenures[-1].epoch <= at.epoch
    granted = Event.objects.filter(portfolio=hand.portfolio, kind="granted").order_by("id")
    assert [e.data["epoch"] for e in granted] == [t.epoch for t in tenures]
    active = Handoff.objects.filter(portfolio=hand.portfolio).filter(
        state__in=("preparing", "draining", "activating")
    )
    assert active.count() <= 1


def draining() -> tuple[OwnerSession, FakeNode, Handoff]:
    """Return a portfolio that drains on node-1, its target node-2, and the handoff."""
    Lease.objects.update(takeovers=[])
    source, target = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", source)
    prove_revision(hand.portfolio)
    handoff = operations.migrate("p", "node-2", actor="ann")
    target.ready(handoff)
    return hand, target, handoff


# --- two writers -------------------------------------------------------------------------------


def test_only_one_of_two_commits_from_one_seq_is_accepted() -> None:
    hand = make_trader("p", make_node("node-1"))
    for _ in range(ROUNDS):
        at = hand.run().last_seq
        words = [hand.words(events) for events in (1, 2, 3)]
        answers = at_once(*(lambda w=w: hand.send(w).answer for w in words))
        assert sorted(answers) == ["conflict", "conflict", "ok"]
        assert hand.run().last_seq == at + 1 + answers.index("ok")


def test_the_same_batch_sent_twice_at_once_is_ok_twice_and_written_once() -> None:
    hand = make_trader("p", make_node("node-1"))
    for number in range(ROUNDS):
        seq = hand.run().last_seq + 1
        line = OrderLine(seq, 0, "IBM", "buy", "1", "1", "open", "", 10**15)
        words = hand.words(1, orders=[line])
        assert at_once(*[lambda: hand.send(words).answer] * 3) == ["ok"] * 3
        assert Order.objects.count() == number + 1


def test_repeat_during_the_first_commit_is_not_a_conflict() -> None:
    node = make_node("node-1")
    hand = make_trader("p", node)
    words = hand.words(1)
    held = Held(commit(node.row.pk, node.name, node.incarnation, [words]))
    assert behind(held, lambda: hand.send(words).answer, repeats=node) == "ok"


def test_a_commit_that_meets_a_grant_in_flight_is_fenced_and_writes_nothing() -> None:
    hand, target, handoff = draining()
    late = hand.words(
        1, orders=[OrderLine(hand.run().last_seq + 1, 0, "IBM", "buy", "1", "1", "open", "", 1)]
    )
    Handoff.objects.update(deadline_at=ago(1))
    held = Held(expire(handoff.pk, timing()))
    assert held.outcome == "activating"
    answer = behind(held, lambda: hand.send(late), repeats=hand.daemon)
    assert answer.answer == "fenced"
    assert "owns it now" in answer.detail
    assert Order.objects.count() == 0
    assert owner("p", target).commit(1) == "ok"
    assert_invariants(hand)


def test_overlapping_requests_in_any_order_never_deadlock() -> None:
    node = make_node("node-1")
    hands = [make_trader(f"p-{number}", node) for number in range(4)]
    for _ in range(ROUNDS):
        words = [hand.words(1) for hand in hands]
        others = [hand.words(1) for hand in hands]
        answers = at_once(lambda: node.send(*words), lambda: node.send(*reversed(others)))
        said = [{r.portfolio: r.answer for r in some} for some in answers]
        for hand in hands:
            assert sorted(one[hand.portfolio.pk] for one in said) == ["conflict", "ok"]


# --- two grants --------------------------------------------------------------------------------


def test_a_release_and_its_deadline_grant_once() -> None:
    for _ in range(ROUNDS):
        hand, target, handoff = draining()
        before = hand.run().epoch
        words = hand.release_words(handoff, 1)
        Handoff.objects.filter(pk=handoff.pk).update(deadline_at=ago(1))
        answer, outcome = at_once(
            lambda: hand.daemon.release(words).answer,
            lambda: execute(expire(handoff.pk, timing())),
        )
        assert (answer, outcome) in [("handed_over", "early"), ("fenced", "activating")]
        assert hand.run().epoch == before + 1
        assert owner("p", target).commit(1) == "ok"
        assert_invariants(hand)
        operations.delete_portfolio("p", actor="ann")


def test_a_deadline_that_meets_a_release_in_flight_changes_nothing() -> None:
    hand, _, handoff = draining()
    Handoff.objects.update(deadline_at=ago(1))
    node = hand.daemon
    held = Held(
        release(node.row.pk, node.name, node.incarnation, hand.release_words(handoff), timing())
    )
    assert behind(held, lambda: execute(expire(handoff.pk, timing()))) == "early"
    assert newest_handoff(hand.portfolio).state == "activating"


def test_a_first_commit_and_its_deadline_end_in_one_of_two_ways() -> None:
    for _ in range(ROUNDS):
        hand, target, handoff = draining()
        hand.release(handoff)
        mine = owner("p", target)
        words = mine.words(0)
        Handoff.objects.filter(pk=handoff.pk).update(deadline_at=ago(1))
        answer, outcome = at_once(
            lambda: mine.send(words).answer,
            lambda: execute(expire(handoff.pk, timing())),
        )
        assert (answer, outcome) in [("ok", "early"), ("ok", "late"), ("fenced", "rolled_back")]
        at = hand.run()
        assert at.node_id in (hand.daemon.row.pk, target.row.pk)
        assert_invariants(hand)
        operations.delete_portfolio("p", actor="ann")


def test_two_reports_of_one_step_grant_once() -> None:
    make_node("node-1")
    target = make_node("node-2")
    portfolio = make_portfolio("p")
    operations.migrate("p", "node-2", actor="ann")
    handoff = newest_handoff(portfolio)
    outcomes = at_once(*[lambda: target.ready(handoff)] * 3)
    assert sorted(outcomes) == ["activating", "late", "late"]
    assert Run.objects.get(pk=portfolio.pk).epoch == 1


def test_second_of_two_concurrent_migrates_is_refused() -> None:
    hand = make_trader("p", make_node("node-1"))
    make_node("node-2")
    make_node("node-3")
    outcomes = at_once(
        lambda: operations.migrate("p", "node-2", actor="ann"),
        lambda: operations.migrate("p", "node-3", actor="bob"),
    )
    (refused,) = [o for o in outcomes if isinstance(o, Exception)]
    assert getattr(refused, "code", refused) == "handoff_in_progress"
    assert Handoff.objects.filter(portfolio=hand.portfolio, kind="migrate").count() == 1


def test_concurrent_placements_take_the_last_capacity_once() -> None:
    source = make_node("node-1")
    make_node("node-2", capacity=1)
    make_trader("a", source)
    make_trader("b", source)
    outcomes = at_once(
        lambda: operations.migrate("a", "node-2", actor="ann"),
        lambda: operations.migrate("b", "node-2", actor="bob"),
    )
    (refused,) = [o for o in outcomes if isinstance(o, Exception)]
    assert getattr(refused, "code", refused) == "node_full"


def test_concurrent_creations_with_one_name_create_one_portfolio() -> None:
    make_portfolio("first")
    outcomes = at_once(*[lambda: make_portfolio("p")] * 3)
    codes = [getattr(o, "code", "made") for o in outcomes]
    assert sorted(codes) == ["made", "name_taken", "name_taken"]


# --- passes ------------------------------------------------------------------------------------


def test_two_sweeps_at_once_mark_and_fail_over_once() -> None:
    first = make_node("node-1")
    make_node("node-2")
    hand = make_trader("p", first)
    serving_since(3600)
    expire_lease(first)
    at_once(lambda: Scheduler("a").tick(), lambda: Scheduler("b").tick())
    Scheduler("c").tick()
    assert Event.objects.filter(kind="node_lost").count() == 1
    assert Handoff.objects.filter(portfolio=hand.portfolio, kind="failover").count() == 1


def test_passes_that_overlap_after_the_lock_ended_place_once() -> None:
    make_node("node-1")
    portfolio = make_portfolio("p")
    at_once(
        lambda: Scheduler("a").assign_portfolios(),
        lambda: Scheduler("b").assign_portfolios(),
        lambda: Scheduler("c").assign_portfolios(),
    )
    assert Handoff.objects.filter(portfolio=portfolio).count() == 1


def test_heartbeat_that_waited_for_the_sweep_revives_its_node() -> None:
    node = make_node("node-1")
    serving_since(3600)
    expire_lease(node)
    held = Held(mark_lost(timing()))
    assert [row.name for row in held.outcome] == ["node-1"]
    assert behind(held, node.beat, repeats=node).beaten is True
    assert Node.objects.get().status == "alive"


def test_sweep_during_a_heartbeat_marks_no_node_lost() -> None:
    node = make_node("node-1")
    serving_since(3600)
    expire_lease(node)
    with psycopg.connect(conninfo()) as beating:
        beating.execute("UPDATE scheduling_lease SET expires_at = clock_timestamp() + '30 s'")
        assert execute(mark_lost(timing())) == []


# --- register ----------------------------------------------------------------------------------


def test_heartbeat_that_waited_for_a_register_is_superseded() -> None:
    node, newer = make_node("node-1"), uuid4()
    held = Held(register(node.row.pk, node.name, register_message(newer), timing(), GATEWAY_ID))
    answer = behind(held, node.beat, repeats=node)
    # `unknown` is told to the holder only, who then registers, and would take it back.
    assert (answer.beaten, answer.held_by) == (False, newer)


def test_register_and_commit_end_in_one_of_two_ways() -> None:
    hand = make_trader("p", make_node("node-1"))
    for _ in range(ROUNDS):
        zombie = OwnerSession(hand.daemon, hand.portfolio)
        words, at = zombie.words(3), hand.run()
        expire_lease(hand.daemon)
        answer, again = at_once(lambda: zombie.send(words).answer, lambda: make_node("node-1"))
        assert (answer, hand.run().last_seq - at.last_seq) in [("ok", 3), ("fenced", 0)]
        assert hand.run().epoch == at.epoch + 1
        hand = owner("p", again)
        assert hand.commit(1) == "ok"
        assert_invariants(hand)


def test_register_of_both_nodes_during_a_release_leaves_no_orphan() -> None:
    for _ in range(ROUNDS):
        hand, _, handoff = draining()
        words = hand.release_words(handoff)
        expire_lease(hand.daemon)
        outcomes = at_once(
            lambda: hand.daemon.release(words).answer,
            lambda: make_node("node-1"),
            lambda: make_node("node-2"),
        )
        assert outcomes[0] in ("handed_over", "keep", "fenced")
        daemons = {d.row.pk: d for d in outcomes[1:]}
        Scheduler("a").tick(rebalance=False)
        for daemon in daemons.values():
            daemon.prepare()
        at = hand.run()
        assert owner("p", daemons[at.node_id or 0]).commit(1) == "ok"
        assert_invariants(hand)
        operations.delete_portfolio("p", actor="ann")


# --- no deadlocks ------------------------------------------------------------------------------


def test_a_stop_and_the_first_commit_that_closes_a_handoff_never_deadlock() -> None:
    for _ in range(ROUNDS):
        hand, target, handoff = draining()
        hand.release(handoff)
        mine = owner("p", target)
        words = mine.words(0)
        answer, stop = at_once(
            lambda: mine.send(words).answer,
            lambda: operations.stop("p", actor="ann"),
        )
        assert (answer, type(stop)) == ("ok", Handoff)
        assert mine.release(stop).answer == "handed_over"
        operations.delete_portfolio("p", actor="ann")


def test_stop_waits_for_a_first_commit_under_way() -> None:
    hand, target, handoff = draining()
    hand.release(handoff)
    held = Held(
        commit(target.row.pk, target.name, target.incarnation, [owner("p", target).words(0)])
    )
    stop = behind(held, lambda: operations.stop("p", actor="ann"))
    assert stop.state == "draining"
    assert Handoff.objects.get(pk=handoff.pk).state == "done"


def test_moves_in_opposite_directions_never_deadlock() -> None:
    first, second = make_node("node-1", capacity=50), make_node("node-2", capacity=50)
    there = [make_trader(f"a-{n}", first) for n in range(ROUNDS)]
    back = [make_trader(f"b-{n}", second) for n in range(ROUNDS)]
    for one, other in zip(there, back, strict=True):
        moves = at_once(
            lambda: operations.migrate(one.portfolio.name, "node-2", actor="ann"),
            lambda: operations.migrate(other.portfolio.name, "node-1", actor="bob"),
        )
        assert [type(move) for move in moves] == [Handoff, Handoff]
        steps = at_once(lambda: second.ready(moves[0]), lambda: first.ready(moves[1]))
        assert steps == ["draining", "draining"]


def test_registers_of_nodes_that_hand_each_other_portfolios_never_deadlock() -> None:
    first, second = make_node("node-1", capacity=50), make_node("node-2", capacity=50)
    hands = [make_trader(f"p-{n}", (first, second)[n % 2]) for n in range(6)]
    for n, hand in enumerate(hands):
        operations.migrate(hand.portfolio.name, ("node-2", "node-1")[n % 2], actor="ann")
    expire_lease(first)
    expire_lease(second)
    outcomes = at_once(
        lambda: make_node("node-1", capacity=50), lambda: make_node("node-2", capacity=50)
    )
    assert [type(o) for o in outcomes] == [FakeNode, FakeNode]
    assert Handoff.objects.filter(state="failed").count() == 6
    assert [d.owns() for d in outcomes] == [["p-0", "p-2", "p-4"], ["p-1", "p-3", "p-5"]]


def test_proving_beside_an_exit_report_never_deadlocks() -> None:
    hand = make_trader("p", make_node("node-1"))
    prove_revision(hand.portfolio)
    for _ in range(ROUNDS):
        outcomes = at_once(
            hand.die, lambda: execute(mark_proven_revisions(timing())), lambda: hand.commit(1)
        )
        assert not [o for o in outcomes if isinstance(o, psycopg.Error)]


def test_a_failover_and_a_beat_of_the_owner_end_in_one_of_two_ways() -> None:
    first, second = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", first)
    lose(first)
    Scheduler("a").tick()
    failover = newest_handoff(hand.portfolio)
    row, outcome = at_once(first.beat, lambda: second.ready(failover))
    assert row.beaten is True
    assert (outcome, hand.run().node_id) in [
        ("activating", second.row.pk),
        ("failed", first.row.pk),
    ]
    assert_invariants(hand)


# --- one order of locks --------------------------------------------------------------------------


class Row:
    """One row that this session holds while another wants it."""

    def __init__(self, table: str, key: str, value: int) -> None:
        self.sql = f"SELECT FROM {table} WHERE {key} = {value} FOR UPDATE"

    def free(self) -> bool:
        """Return whether nobody holds it."""
        with psycopg.connect(conninfo()) as asking:
            try:
                asking.execute(f"{self.sql} NOWAIT".encode())
            except psycopg.errors.LockNotAvailable:
                return False
        return True

    def held_while(self, act: Callable[[], Any], *later: Row) -> list[bool]:
        """Hold it, let `act` block on it, and return which of `later` are still free then."""
        holding = psycopg.connect(conninfo())
        holding.execute(self.sql.encode())
        outcome: list[Any] = []
        thread = threading.Thread(target=lambda: outcome.extend(at_once(act)))
        thread.start()
        wait_until_blocked()
        free = [row.free() for row in later]
        holding.rollback()
        holding.close()
        thread.join()
        assert not isinstance(outcome[0], Exception), outcome
        return free


def run_row(hand: OwnerSession) -> Row:
    return Row("scheduling_run", "portfolio_id", hand.portfolio.pk)


def node_row(daemon: FakeNode) -> Row:
    return Row("scheduling_node", "id", daemon.row.pk)


def test_a_request_locks_the_nodes_of_both_ends_in_their_order() -> None:
    first, second = make_node("node-1"), make_node("node-2")
    make_trader("p", first)
    move = partial(operations.migrate, "p", "node-2", actor="ann")
    assert node_row(first).held_while(move, node_row(second)) == [True]


def test_a_request_that_supersedes_locks_all_nodes_in_their_order() -> None:
    first, _, third = (make_node(f"node-{n}") for n in (1, 2, 3))
    make_trader("p", third)
    operations.migrate("p", "node-1", actor="ann")
    stop = partial(operations.stop, "p", actor="ann")
    assert node_row(first).held_while(stop, node_row(third)) == [True]


def test_a_stop_locks_the_run_before_its_handoff() -> None:
    hand, _, handoff = draining()
    stop = partial(operations.stop, "p", actor="ann")
    assert run_row(hand).held_while(
        stop, Row("scheduling_handoff", "id", handoff.pk), node_row(hand.daemon)
    ) == [True, True]


def test_a_register_locks_all_its_runs_in_their_order_and_then_its_nodes() -> None:
    first, second = make_node("node-1"), make_node("node-2")
    coming = make_trader("a", second)
    own = make_trader("b", first)
    operations.migrate("a", "node-1", actor="ann")
    operations.migrate("b", "node-2", actor="ann")
    again = partial(make_node, "node-1")
    rows = (run_row(own), node_row(first), node_row(second))
    assert run_row(coming).held_while(again, *rows) == [True, True, True]


def test_proving_and_stall_marking_skip_locked_runs() -> None:
    hand = make_trader("p", make_node("node-1"))
    serving_since(3600)
    FeedSegment.objects.update(from_time=ago(3600))
    Run.objects.update(first_commit_at=ago(131), last_commit_at=ago(61))
    with psycopg.connect(conninfo()) as committing:
        committing.execute("SELECT FROM scheduling_run FOR UPDATE")
        assert execute(mark_proven_revisions(timing())) == 0
        assert execute(mark_stalls(timing())) == 0
    assert execute(mark_proven_revisions(timing())) == 1
    assert execute(mark_stalls(timing())) == 1
    assert hand.run().good_revision == 1
