"""Batches of handoff requests: their cost, and their independence."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import DataError, IntegrityError
from psycopg.errors import DeadlockDetected

from portfolios.models import Portfolio
from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact import pending_reasons, storm
from scheduling.enact.handoff import Request
from scheduling.models import ACTIVE_STATES, Event, Handoff, Node, PassLock, Run
from scheduling.passes import balance
from scheduling.timing import timing
from tests.support.api_client import counted_transactions
from tests.support.factories import (
    FakeNode,
    ago,
    begin_reload,
    expire_handoff,
    lose,
    make_node,
    make_settled_nodes,
    make_trader,
    newest_handoff,
    run_of,
    tick,
)
from tests.support.handoff_requests import ask, placed, waiting
from tests.support.patches import note_calls, once_planned

pytestmark = pytest.mark.django_db


# --- what it costs -------------------------------------------------------------------------------


def statements_of(changes: int) -> list[str]:
    """Return the statements of a pass that places `changes` portfolios."""
    waiting(*(f"p-{Portfolio.objects.count()}-{number}" for number in range(changes)))
    with counted_transactions() as said:
        assert len(tick().balance.requested) == changes
    return said


def test_a_batch_of_requests_takes_as_many_statements_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(3):
        make_node(f"node-{number}", capacity=100)
    monkeypatch.setattr(balance, "BATCH", 6)
    of_one = len(statements_of(1))
    assert len(statements_of(balance.BATCH)) == of_one
    # The transaction's idle limit, lock and read runs, active handoffs, lock nodes, targets,
    # insert, audit, touch; the pass lock.
    assert len(statements_of(balance.BATCH + 1)) == of_one + 10


def test_superseding_several_handoffs_takes_as_many_statements_as_one() -> None:
    first, second, third = make_settled_nodes(3)
    hands = [make_trader(f"p-{number}", first) for number in range(3)]
    said = []
    for some in (hands[:1], hands[1:]):
        for hand in some:
            hand.move_to(second)
        asked = [
            Request("failover", hand.portfolio.pk, third.row.pk, "lost", heeds_storm=True)
            for hand in some
        ]
        with counted_transactions() as counts:
            ask(*asked)
        said.append(len(counts))
    assert said[0] == said[1]
    assert Handoff.objects.filter(state="superseded", error="a failover came first").count() == 3
    assert Event.objects.filter(kind="handoff_superseded").count() == 3
    assert Handoff.objects.filter(state__in=ACTIVE_STATES, target_node=third.row).count() == 3


def test_pending_reasons_are_one_statement_and_none_if_unchanged() -> None:
    for names in (["a"], ["b", "c", "d"]):
        waiting(*names)
        with counted_transactions() as counts:
            tick()
        assert counts.count(pending_reasons.STORE_REASONS.sql) == 1
    assert {row.reason for row in Run.objects.all()} == {
        "needs 1 place: there is no node yet; start one with run_node"
    }
    with counted_transactions() as counts:
        tick()
    assert pending_reasons.STORE_REASONS.sql not in counts


def test_only_a_changed_reason_wakes_boards(monkeypatch: pytest.MonkeyPatch) -> None:
    wakes = note_calls(monkeypatch, pending_reasons, "notify_watchers")
    waiting("a", "b")
    tick()
    assert len(wakes) == 1
    tick()
    assert len(wakes) == 1


@pytest.mark.parametrize("left", [{"attempts": 1}, {"phase": "quarantined"}], ids=str)
def test_reason_of_a_failure_stays_on_the_run(left: dict[str, Any]) -> None:
    (first,) = make_settled_nodes(1)
    hand = make_trader("p", first)
    Run.objects.filter(pk=hand.portfolio.pk).update(reason="it broke", **left)
    tick()
    assert hand.run().reason == "it broke"


# --- none harms another --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "changed", "said"),
    [
        (Portfolio, {"desired_state": "stopped"}, "b is to be stopped; start it first."),
        (Run, {"phase": "halted"}, "b is halted; start it first."),
        (Run, {"phase": "quarantined"}, "b is quarantined; start it first."),
        (Run, {"epoch": 7}, "b has got another owner or revision; read it again."),
    ],
)
def test_portfolio_that_changed_since_the_plan_is_refused_alone(
    monkeypatch: pytest.MonkeyPatch, model: Any, changed: dict[str, Any], said: str
) -> None:
    make_node("node-1")
    other = waiting("a", "b", "c")[1]
    once_planned(monkeypatch, lambda: model.objects.filter(pk=other.pk).update(**changed))
    outcome = tick().balance
    assert len(outcome.requested) == 2
    assert [(line.portfolio, line.reason) for line in outcome.rejected] == [("b", said)]
    assert run_of(other).reason == "waits for the next pass"


def test_a_reason_found_before_a_grant_is_not_written_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = waiting("a", "b")[1]
    once_planned(monkeypatch, lambda: Run.objects.filter(pk=other.pk).update(epoch=7))
    tick()
    assert run_of(other).reason == "waits for the next pass"
    assert "there is no node yet" in Run.objects.get(portfolio__name="a").reason


def test_node_that_left_takes_no_portfolio_although_its_lease_is_valid() -> None:
    node = make_node("node-1")
    Node.objects.update(status="left")
    assert ask(placed(waiting("p")[0], node)) == ["node_lost"]


def test_last_free_capacity_goes_to_the_first_request() -> None:
    node = make_node("node-1", capacity=2)
    one, two, heavy = *waiting("a", "b"), *waiting("c", weight=2)
    answers = ask(placed(one, node), placed(heavy, node), placed(two, node))
    assert answers == [newest_handoff(one).pk, "node_full", newest_handoff(two).pk]


def overtaken_move() -> tuple[list[FakeNode], Portfolio, Request]:
    """Return three nodes, a waiting portfolio, and a failover to the third node.

    It supersedes a move from the first to the second; both have one place.
    """
    nodes = make_settled_nodes(3)
    moved = make_trader("moved", nodes[0])
    moved.move_to(nodes[1])
    Node.objects.exclude(pk=nodes[2].row.pk).update(capacity=1)
    failover = Request("failover", moved.portfolio.pk, nodes[2].row.pk, "lost")
    return nodes, waiting("other")[0], failover


def test_capacity_of_a_superseded_handoff_is_free_for_the_next_request() -> None:
    (first, second, third), other, failover = overtaken_move()
    lose(first)
    assert ask(placed(other, second), failover)[0] == "node_full"
    assert newest_handoff(Portfolio.objects.get(name="moved")).target_node == third.row
    assert ask(placed(other, second)) == [newest_handoff(other).pk]


def test_capacity_of_a_superseded_handoff_is_free_within_the_same_batch() -> None:
    (first, second, _), other, failover = overtaken_move()
    lose(first)
    assert "node_full" not in ask(failover, placed(other, second))


def test_capacity_of_a_failover_source_is_not_free_while_the_portfolio_runs() -> None:
    (first, _, _), other, failover = overtaken_move()
    assert ask(failover, placed(other, first))[1] == "node_full"


def test_failover_to_the_target_of_a_move_needs_no_second_place() -> None:
    first, second = make_settled_nodes(2)
    moved = make_trader("moved", first)
    moved.move_to(second)
    Node.objects.filter(pk=second.row.pk).update(capacity=1)
    lose(first)
    (begun,) = ask(Request("failover", moved.portfolio.pk, second.row.pk, "lost"))
    assert newest_handoff(moved.portfolio).pk == begun


def test_reload_needs_no_free_place_on_its_node() -> None:
    (first,) = make_settled_nodes(1)
    hand = make_trader("p", first)
    Node.objects.update(capacity=1)
    reload = begin_reload("p")
    assert reload == newest_handoff(hand.portfolio)
    assert reload.state == "preparing"


def test_a_storm_holds_the_failovers_of_a_batch_and_nothing_else_of_it() -> None:
    first, second = make_settled_nodes(2)
    hand = make_trader("lost", first)
    moving = hand.move_to(second)
    other = waiting("other")[0]
    execute(storm.hold("ann", ""))
    failover = Request("failover", hand.portfolio.pk, second.row.pk, "lost", heeds_storm=True)
    assert ask(failover, placed(other, second)) == ["storm_hold", newest_handoff(other).pk]
    # What it would have ended goes on.
    assert Handoff.objects.get(pk=moving.id).state == "preparing"


def test_target_of_a_superseded_handoff_gets_a_new_desired_set() -> None:
    first, second, third = make_settled_nodes(3)
    moved = make_trader("moved", first)
    moved.move_to(second)
    assert second.desired("prepare") != []
    known = Node.objects.get(pk=second.row.pk).desired_version
    ask(Request("failover", moved.portfolio.pk, third.row.pk, "lost"))
    assert Node.objects.get(pk=second.row.pk).desired_version > known
    assert second.desired("prepare") == []


def test_source_of_a_superseded_move_gets_a_new_desired_set() -> None:
    first, second = make_settled_nodes(2)
    hand = make_trader("p", first)
    moving = hand.move_to(second)
    second.prepare()
    asked = newest_handoff(hand.portfolio)
    assert hand.release(asked).answer == "handed_over"
    Run.objects.filter(pk=hand.portfolio.pk).update(epoch=9)
    known = Node.objects.get(pk=first.row.pk).desired_version
    expire_handoff(asked)
    assert Handoff.objects.get(pk=moving.id).state == "superseded"
    assert Node.objects.get(pk=first.row.pk).desired_version > known


@pytest.mark.parametrize("error", [DataError, DeadlockDetected, IntegrityError])
def test_request_that_fails_a_batch_fails_alone(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    make_node("node-1")
    bad = waiting("a", "b", "c")[1]
    honest = balance.request_all

    def breaking(asked: Any, **given: Any) -> Any:
        if bad.pk in {each.portfolio for each in asked}:
            raise error
        return honest(asked, **given)

    monkeypatch.setattr(balance, "request_all", breaking)
    outcome = tick().balance
    assert len(outcome.requested) == 2
    assert [(line.portfolio, line.reason) for line in outcome.rejected] == [
        ("b", f"the request failed in the database ({error.__name__})")
    ]


def test_audit_log_names_the_target_or_for_a_stop_the_source() -> None:
    first, second = make_settled_nodes(2)
    hand = make_trader("p", first)
    hand.move_to(second)
    operations.stop("p", actor="ann")
    told = Event.objects.filter(portfolio=hand.portfolio, kind="handoff_requested")
    names = list(told.order_by("id").values_list("data__kind", "node__name"))
    assert names[-2:] == [("migrate", "node-2"), ("stop", "node-1")]


def test_stop_has_the_drain_deadline_and_move_the_prepare_deadline() -> None:
    first, second = make_settled_nodes(2)
    hand = make_trader("p", first)
    hand.move_to(second)
    waits = [newest_handoff(hand.portfolio)]
    operations.stop("p", actor="ann")
    waits.append(newest_handoff(hand.portfolio))
    times = [(each.deadline_at - each.requested_at).total_seconds() for each in waits]
    limits = timing()
    assert times == pytest.approx([limits.prepare_deadline_s, limits.drain_deadline_s], abs=0.5)


# --- the order, and whose turn it is -------------------------------------------------------------


def test_failovers_are_requested_before_placements_and_moves() -> None:
    first, second, *_ = make_settled_nodes(5)
    lost, drained = make_trader("lost", first), make_trader("drained", second)
    new = waiting("new")[0]
    lose(first)
    Node.objects.filter(pk=second.row.pk).update(draining=True)
    tick()
    asked = [newest_handoff(each) for each in (lost.portfolio, new, drained.portfolio)]
    assert [each.kind for each in asked] == ["failover", "place", "migrate"]
    assert [each.pk for each in asked] == sorted(each.pk for each in asked)


def test_pass_that_lost_its_lock_starts_no_further_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    make_node("node-1")
    waiting("a", "b", "c")
    monkeypatch.setattr(balance, "BATCH", 1)
    honest = balance.request_all

    def slow(*given: Any, **named: Any) -> Any:
        PassLock.objects.update(holder="another", until=ago(-4))
        return honest(*given, **named)

    monkeypatch.setattr(balance, "request_all", slow)
    assert len(tick().balance.requested) == 1
    assert Handoff.objects.count() == 1


# --- which revision ------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempts", "revision"), [(0, 2), (1, 1)])
def test_placement_takes_the_wanted_revision_and_after_a_failure_the_good_one(
    attempts: int, revision: int
) -> None:
    make_node("node-1")
    portfolio = waiting("p")[0]
    operations.revise_portfolio("p", {"limits": {"largest_order": "5"}}, actor="ann")
    Run.objects.filter(pk=portfolio.pk).update(good_revision=1, attempts=attempts)
    tick()
    assert newest_handoff(portfolio).to_revision == revision
