"""Attempts count for the failed event; earlier commits and idle exits do not change them."""

from __future__ import annotations

import pytest

from portfolios.feed_registration import current_head, ensure_feed, read_segments
from scheduling import operations
from scheduling.models import Run
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    ago,
    expire_lease,
    make_node,
    make_portfolio,
    newest_handoff,
    owner,
    tick,
)

pytestmark = pytest.mark.django_db


def test_progress_before_the_failed_event_keeps_the_attempts(hand: OwnerSession) -> None:
    bad = hand.run().last_seq + 10
    assert hand.die(failed_seq=bad + 5) == "restart"  # in a batch that ends behind it
    assert hand.commit(9) == "ok"
    assert hand.run().attempts == 1
    assert [hand.die(failed_seq=bad) for _ in range(4)] == ["restart"] * 3 + ["quarantined"]
    at = hand.run()
    assert (at.last_seq, at.attempts, at.failed_seq) == (bad - 1, 5, bad)


def test_commit_of_the_failed_event_resets_the_attempts(hand: OwnerSession) -> None:
    hand.die(failed_seq=hand.run().last_seq + 10)
    assert hand.commit(10) == "ok"
    at = hand.run()
    assert (at.attempts, at.failed_seq, at.reason) == (0, None, "")


def test_desired_set_names_the_failed_event(hand: OwnerSession) -> None:
    hand.die(failed_seq=hand.run().last_seq + 3)
    (entry,) = hand.daemon.desired("run")
    assert (entry.failed_seq, entry.attempts) == (hand.run().last_seq + 3, 1)


def test_a_start_lifts_a_stale_halt_for_events_up_to_the_head_at_the_start(
    hand: OwnerSession,
) -> None:
    at = hand.run()
    assert hand.halts() == "halted"
    before = current_head("replay")
    operations.start("p", actor="ann")
    assert before <= (hand.run().resume_seq or 0) <= current_head("replay")
    hand.daemon.prepare()
    (entry,) = hand.daemon.desired("run")
    assert entry.resume_seq >= before
    assert entry.resumed_from == at.last_seq
    assert hand.commit(1) == "ok"
    (entry,) = hand.daemon.desired("run")
    assert entry.resumed_from == at.last_seq  # what a limit halts from here on holds


def begun_by_pass() -> tuple[int, ...]:
    return tuple(tick().balance.requested)


@pytest.mark.parametrize(("waited_s", "begun"), [(4.0, 0), (5.5, 1)])
def test_back_off_continues_on_the_next_node(
    hand: OwnerSession, waited_s: float, begun: int
) -> None:
    second = make_node("node-2")
    assert [hand.die(before_first_event=True) for _ in range(2)] == ["restart", "elsewhere"]
    assert begun_by_pass() == ()
    assert hand.run().reason == "failed 2 times on node-1: ValueError: boom"
    Run.objects.update(phase_since=ago(waited_s))  # of 5 s after the second attempt
    assert len(begun_by_pass()) == begun
    assert begun == 0 or newest_handoff(hand.portfolio).target_node == second.row


def test_events_missed_before_the_first_placement_do_not_halt_a_portfolio(node: FakeNode) -> None:
    portfolio = make_portfolio("new", catch_up="halt")
    head = current_head("replay")
    operations.migrate("new", node.name, actor="ann")
    node.prepare()
    (entry,) = node.desired("run")
    assert entry.resume_seq >= head >= portfolio.first_seq
    assert entry.resumed_from == portfolio.first_seq - 1
    new = owner("new", node)
    assert new.commit(0) == "ok"
    lifted_to = new.run().resume_seq
    operations.migrate("new", make_node("node-2").name, actor="ann")
    assert new.release(newest_handoff(portfolio)).answer
    assert new.run().resume_seq == lifted_to  # what comes between two nodes is an outage


def test_daemon_exit_during_a_paused_feed_is_not_an_attempt(hand: OwnerSession) -> None:
    hand.commit(current_head("replay") - hand.run().last_seq)
    hand.commit(read_segments(ensure_feed(0.0))[-1].from_seq - hand.run().last_seq)
    for _ in range(7):
        expire_lease(hand.daemon)
        make_node("node-1")
    assert (hand.run().attempts, hand.run().phase) == (0, "starting")
