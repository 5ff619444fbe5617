"""Transactions that lock several rows lock them in one order, and never wait for each other."""

# ruff: noqa: B023 (what is done at once is done before the loop goes on)

from __future__ import annotations

from functools import partial

import psycopg
import pytest

from ginkgo_site.database import conninfo
from portfolios.models import FeedSegment
from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.commit import commit
from scheduling.enact.revisions import mark_proven_revisions
from scheduling.enact.stalls import mark_stalls
from scheduling.models import Handoff, Run
from scheduling.scheduler import Scheduler
from scheduling.timing import timing
from tests.support.concurrency import (
    Held,
    Row,
    assert_invariants,
    at_once,
    behind,
    draining,
    node_row,
    run_row,
)
from tests.support.factories import (
    FakeNode,
    ago,
    expire_lease,
    lose,
    make_node,
    make_trader,
    newest_handoff,
    owner,
    prove_revision,
    serving_since,
)

pytestmark = pytest.mark.django_db(transaction=True)


ROUNDS = 3


def test_a_stop_and_the_first_commit_that_closes_a_handoff_never_deadlock() -> None:
    for _ in range(ROUNDS):
        hand, target, handoff = draining()
        hand.release(handoff)
        mine = owner("p", target)
        words = mine.next_commit(0)
        stops = partial(operations.stop, "p", actor="ann")
        answer, stop = at_once(lambda: mine.send(words).answer, stops)
        assert (answer, type(stop)) == ("ok", Handoff)
        assert mine.release(stop).answer == "handed_over"
        operations.delete_portfolio("p", actor="ann")


def test_stop_waits_for_a_first_commit_under_way() -> None:
    hand, target, handoff = draining()
    hand.release(handoff)
    words = [owner("p", target).next_commit(0)]
    held = Held(commit(target.row.pk, target.name, target.incarnation, words))
    assert behind(held, lambda: operations.stop("p", actor="ann")).state == "draining"
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
    for n, hand in enumerate([make_trader(f"p-{n}", (first, second)[n % 2]) for n in range(6)]):
        operations.migrate(hand.portfolio.name, ("node-2", "node-1")[n % 2], actor="ann")
    expire_lease(first)
    expire_lease(second)
    names = ("node-1", "node-2")
    outcomes = at_once(*(partial(make_node, name, capacity=50) for name in names))
    assert [type(o) for o in outcomes] == [FakeNode, FakeNode]
    assert Handoff.objects.filter(state="failed").count() == 6
    assert [d.owns() for d in outcomes] == [["p-0", "p-2", "p-4"], ["p-1", "p-3", "p-5"]]


def test_proving_a_revision_during_an_exit_report_never_deadlocks() -> None:
    hand = make_trader("p", make_node("node-1"))
    prove_revision(hand.portfolio)
    for _ in range(ROUNDS):
        prove = partial(execute, mark_proven_revisions(timing()))
        outcomes = at_once(hand.die, prove, partial(hand.commit, 1))
        assert not [o for o in outcomes if isinstance(o, psycopg.Error)]


def test_concurrent_failover_and_owner_heartbeat_either_grant_or_fail_the_handoff() -> None:
    first, second = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", first)
    lose(first)
    Scheduler("a").tick()
    failover = newest_handoff(hand.portfolio)
    row, outcome = at_once(first.beat, lambda: second.ready(failover))
    assert row.renewed is True
    owners = {"activating": second.row.pk, "failed": first.row.pk}
    assert hand.run().node_id == owners[outcome]
    assert_invariants(hand)


def test_a_move_request_locks_source_and_target_node_in_id_order() -> None:
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
    rows = Row("scheduling_handoff", "id", handoff.pk), node_row(hand.daemon)
    assert run_row(hand).held_while(stop, *rows) == [True, True]


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
