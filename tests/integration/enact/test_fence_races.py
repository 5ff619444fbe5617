"""Two commits or two grants at one moment: exactly one writer wins, and the invariants hold."""

# ruff: noqa: B023 (what is done at once is done before the loop goes on)

from __future__ import annotations

import pytest

from portfolios.models import Order
from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.commit import commit
from scheduling.enact.handoff import expire, release
from scheduling.models import Handoff, Run
from scheduling.timing import timing
from scheduling.wire.messages import OrderLine
from tests.support.concurrency import Held, assert_invariants, at_once, behind, draining
from tests.support.factories import (
    ago,
    make_node,
    make_portfolio,
    make_trader,
    newest_handoff,
    owner,
)

pytestmark = pytest.mark.django_db(transaction=True)


ROUNDS = 3


def test_only_one_of_two_commits_from_one_seq_is_accepted() -> None:
    hand = make_trader("p", make_node("node-1"))
    for _ in range(ROUNDS):
        at = hand.run().last_seq
        words = [hand.next_commit(events) for events in (1, 2, 3)]
        answers = at_once(*(lambda w=w: hand.send(w).answer for w in words))
        assert sorted(answers) == ["conflict", "conflict", "ok"]
        assert hand.run().last_seq == at + 1 + answers.index("ok")


def test_the_same_batch_sent_twice_at_once_is_ok_twice_and_written_once() -> None:
    hand = make_trader("p", make_node("node-1"))
    for number in range(ROUNDS):
        line = OrderLine(hand.run().last_seq + 1, 0, "IBM", "buy", "1", "1", "open", "", 10**15)
        words = hand.next_commit(1, orders=[line])
        assert at_once(*[lambda: hand.send(words).answer] * 3) == ["ok"] * 3
        assert Order.objects.count() == number + 1


def test_repeat_during_the_first_commit_is_not_a_conflict() -> None:
    node = make_node("node-1")
    hand = make_trader("p", node)
    words = hand.next_commit(1)
    held = Held(commit(node.row.pk, node.name, node.incarnation, [words]))
    assert behind(held, lambda: hand.send(words).answer, repeats=node) == "ok"


def test_a_commit_that_meets_a_grant_in_flight_is_fenced_and_writes_nothing() -> None:
    hand, target, handoff = draining()
    order = OrderLine(hand.run().last_seq + 1, 0, "IBM", "buy", "1", "1", "open", "", 1)
    late = hand.next_commit(1, orders=[order])
    Handoff.objects.update(deadline_at=ago(1))
    held = Held(expire(handoff.pk, timing()))
    assert held.outcome == "activating"
    answer = behind(held, lambda: hand.send(late), repeats=hand.daemon)
    assert answer.answer == "fenced"
    assert "was refused: the epoch is" in answer.detail
    assert Order.objects.count() == 0
    assert owner("p", target).commit(1) == "ok"
    assert_invariants(hand)


def test_overlapping_requests_in_any_order_never_deadlock() -> None:
    node = make_node("node-1")
    hands = [make_trader(f"p-{number}", node) for number in range(4)]
    for _ in range(ROUNDS):
        words = [hand.next_commit(1) for hand in hands]
        others = [hand.next_commit(1) for hand in hands]
        answers = at_once(lambda: node.send(*words), lambda: node.send(*reversed(others)))
        said = [{r.portfolio: r.answer for r in some} for some in answers]
        for hand in hands:
            assert sorted(one[hand.portfolio.pk] for one in said) == ["conflict", "ok"]


def test_a_release_and_its_deadline_grant_once() -> None:
    for _ in range(ROUNDS):
        hand, target, handoff = draining()
        before = hand.run().epoch
        words = hand.release_message(handoff, 1)
        Handoff.objects.filter(pk=handoff.pk).update(deadline_at=ago(1))
        answer, outcome = at_once(
            lambda: hand.daemon.release(words).answer, lambda: execute(expire(handoff.pk, timing()))
        )
        assert (answer, outcome) in [("handed_over", "early"), ("fenced", "activating")]
        assert hand.run().epoch == before + 1
        assert owner("p", target).commit(1) == "ok"
        assert_invariants(hand)
        operations.delete_portfolio("p", actor="ann")


def test_a_deadline_that_meets_a_release_in_flight_changes_nothing() -> None:
    hand, _, handoff = draining()
    Handoff.objects.update(deadline_at=ago(1))
    node, words = hand.daemon, hand.release_message(handoff)
    held = Held(release(node.row.pk, node.name, node.incarnation, words, timing()))
    assert behind(held, lambda: execute(expire(handoff.pk, timing()))) == "early"
    assert newest_handoff(hand.portfolio).state == "activating"


def test_concurrent_first_commit_and_deadline_either_commit_or_roll_back() -> None:
    for _ in range(ROUNDS):
        hand, target, handoff = draining()
        hand.release(handoff)
        mine = owner("p", target)
        words = mine.next_commit(0)
        Handoff.objects.filter(pk=handoff.pk).update(deadline_at=ago(1))
        answer, outcome = at_once(
            lambda: mine.send(words).answer, lambda: execute(expire(handoff.pk, timing()))
        )
        assert (answer, outcome) in [("ok", "early"), ("ok", "late"), ("fenced", "rolled_back")]
        assert hand.run().node_id in (hand.daemon.row.pk, target.row.pk)
        assert_invariants(hand)
        operations.delete_portfolio("p", actor="ann")


def test_three_concurrent_reports_of_readiness_grant_once() -> None:
    make_node("node-1")
    target = make_node("node-2")
    portfolio = make_portfolio("p")
    operations.migrate("p", "node-2", actor="ann")
    handoff = newest_handoff(portfolio)
    assert sorted(at_once(*[lambda: target.ready(handoff)] * 3)) == ["activating", "late", "late"]
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


def test_concurrent_creations_with_one_name_create_one_portfolio() -> None:
    make_portfolio("first")
    outcomes = at_once(*[lambda: make_portfolio("p")] * 3)
    codes = [getattr(o, "code", "made") for o in outcomes]
    assert sorted(codes) == ["made", "name_taken", "name_taken"]
