"""Batches of handoff requests while somebody holds a row that they need."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connection

from ginkgo_site.database import conninfo
from scheduling.enact.grant import lock_run
from scheduling.enact.handoff import Request, handle_step_failure, request_all
from scheduling.enact.notify import lock_nodes
from scheduling.models import Handoff, Run
from scheduling.passes import balance
from scheduling.timing import timing
from tests.support.concurrency import Held, at_once, behind
from tests.support.factories import (
    make_node,
    make_settled_nodes,
    make_trader,
    newest_handoff,
    run_of,
    tick,
)
from tests.support.handoff_requests import ask, placed, waiting
from tests.support.patches import note_calls

pytestmark = pytest.mark.django_db


@pytest.fixture
def impatient() -> None:
    """Limit lock waits to a moment."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '300ms'")


@pytest.mark.django_db(transaction=True)
def test_batch_with_a_locked_run_is_split_and_only_that_request_is_repeated(
    impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_node("node-1")
    held_one = waiting("a", "b", "c")[1]
    asked = note_calls(monkeypatch, balance, "request_all")
    held = Held(lock_run(held_one.pk))
    outcome = tick().balance
    held.commit()
    assert [[each.portfolio for each in requests] for (requests,) in asked[1:]] == [[held_one.pk]]
    assert len(outcome.requested) == 2
    assert [(line.portfolio, line.reason) for line in outcome.rejected] == [
        ("b", "the request failed in the database (LockNotAvailable)")
    ]
    assert len(tick().balance.requested) == 1


@pytest.mark.django_db(transaction=True)
def test_locked_node_delays_only_portfolios_that_go_there(impatient: None) -> None:
    nodes = [make_node("node-1"), make_node("node-2")]
    waiting("a", "b", "c", "d")
    held = Held(lock_nodes([nodes[1].row.pk]))
    outcome = tick().balance
    held.commit()
    begun = Handoff.objects.filter(pk__in=outcome.requested)
    assert {handoff.target_node for handoff in begun} == {nodes[0].row}
    assert (len(outcome.requested), len(outcome.rejected)) == (2, 2)


@pytest.mark.django_db(transaction=True)
def test_pending_reasons_are_stored_without_waiting_for_a_locked_run(impatient: None) -> None:
    held_one = waiting("a", "b")[0]
    held = Held(lock_run(held_one.pk))
    tick()
    held.commit()
    assert "there is no node yet" in Run.objects.get(portfolio__name="b").reason
    assert run_of(held_one).reason == "waits for the next pass"


@pytest.mark.django_db(transaction=True)
def test_concurrent_equal_requests_start_each_handoff_once() -> None:
    node = make_node("node-1", capacity=100)
    asked = [placed(each, node) for each in waiting(*(f"p-{number}" for number in range(20)))]
    for patient in (True, False):
        Handoff.objects.all().delete()
        answers = at_once(
            lambda: ask(*asked, patient=patient),  # noqa: B023 (done before the loop goes on)
            lambda: ask(*reversed(asked), patient=patient),  # noqa: B023
        )
        numbers = [each for answer in answers for each in answer if isinstance(each, int)]
        assert len(set(numbers)) == len(numbers) == Handoff.objects.count()
        if patient:
            assert len(numbers) == len(asked)


class Watched(Held):
    """Record the unlocked nodes before the next request continues."""

    def commit(self) -> None:
        with psycopg.connect(conninfo()) as looking:
            rows = looking.execute("SELECT name FROM scheduling_node FOR UPDATE SKIP LOCKED")
            self.free = sorted(name for (name,) in rows)
        super().commit()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("part", ["owner", "target of what is ended"])
def test_nodes_are_locked_in_the_order_of_their_ids(part: str) -> None:
    """Two requests that each hold a lock of the other would deadlock."""
    first, second, third = make_settled_nodes(3)
    if part == "owner":
        moved = make_trader("moved", first)
    else:
        moved = make_trader("moved", second)
        moved.move_to(first)
    asked = Request("failover", moved.portfolio.pk, third.row.pk, "lost")
    held = Watched(lock_nodes([first.row.pk]))
    assert behind(held, lambda: ask(asked)) == [newest_handoff(moved.portfolio).pk]
    assert held.free == ["node-2", "node-3"]


@pytest.mark.django_db(transaction=True)
def test_concurrent_requests_take_the_last_capacity_once() -> None:
    node = make_node("node-1", capacity=1)
    one, two = waiting("a", "b")
    held = Held(request_all([placed(one, node)], actor="test", timing=timing()))
    assert behind(held, lambda: ask(placed(two, node))) == ["node_full"]


@pytest.mark.django_db(transaction=True)
def test_request_that_waited_for_an_ended_handoff_is_not_refused() -> None:
    first, second, third = make_settled_nodes(3)
    hand = make_trader("p", first)
    ending = hand.move_to(second)
    broke = ("prepare", "it broke", False)
    held = Held(handle_step_failure(ending.id, second.row.pk, second.incarnation, *broke))
    again = Request("migrate", hand.portfolio.pk, third.row.pk, "again")
    assert behind(held, lambda: ask(again)) == [newest_handoff(hand.portfolio).pk]
    assert newest_handoff(hand.portfolio).target_node == third.row
