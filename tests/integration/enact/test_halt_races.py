"""A halt and concurrent writers on real connections: no portfolio has an owner after it."""

from __future__ import annotations

from functools import partial

import pytest

from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.commit import commit
from scheduling.enact.halt import halt_all
from scheduling.enact.handoff import request
from scheduling.errors import Refused
from scheduling.models import Handoff, Run
from scheduling.operations import halt_all as halt_everything
from scheduling.operations import undo_halt
from scheduling.timing import timing
from tests.support.concurrency import Held, Row, at_once, behind, run_row
from tests.support.factories import OwnerSession, make_node, make_portfolio, make_trader

pytestmark = pytest.mark.django_db(transaction=True)


def test_halt_counts_a_commit_under_way_and_fences_the_next() -> None:
    node = make_node("node-1")
    hand = make_trader("one", node)
    message = hand.next_commit(4)
    held = Held(commit(node.row.pk, node.name, node.incarnation, [message]))
    halted = behind(held, lambda: halt_everything(actor="olive"))
    assert [line.last_seq for line in halted.results] == [message.to_seq]
    assert hand.send(hand.next_commit(1, epoch=message.epoch)).answer == "fenced"


def test_a_commit_that_waited_for_the_halt_is_fenced() -> None:
    hand = make_trader("one", make_node("node-1"))
    message = hand.next_commit(4)
    held = Held(halt_all(actor="olive", reason=""))
    assert behind(held, lambda: hand.send(message), repeats=hand.daemon).answer == "fenced"
    assert hand.run().last_seq == message.from_seq


def test_placement_requested_while_a_halt_ran_is_refused() -> None:
    node = make_node("node-1")
    portfolio = make_portfolio("waiting")
    held = Held(halt_all(actor="olive", reason=""))
    place = request(
        "place", portfolio.pk, target=node.row.pk, actor="olive", reason="", timing=timing()
    )
    refused = behind(held, lambda: execute(place))
    assert isinstance(refused, Refused)
    assert refused.code == "already_stopped"
    assert not Handoff.objects.exists()


def test_node_that_registers_during_a_halt_owns_nothing() -> None:
    for number in range(3):
        name = f"node-{number}"  # a third takeover of one name within a minute is refused
        make_trader(f"one-{number}", make_node(name))
        at_once(lambda: halt_everything(actor="olive"), partial(make_node, name))
        assert not Run.objects.filter(node__isnull=False).exists()


def portfolio_row(hand: OwnerSession) -> Row:
    return Row("portfolios_portfolio", "id", hand.portfolio.pk)


def moving() -> tuple[OwnerSession, Row]:
    """Return the owner of one in a handoff, and that handoff's row."""
    hand = make_trader("one", make_node("node-1"))
    make_node("node-2")
    handoff = operations.migrate("one", "node-2", actor="ann")
    return hand, Row("scheduling_handoff", "id", handoff.pk)


def test_a_halt_locks_portfolios_before_runs_and_handoffs() -> None:
    hand, handoff = moving()
    halt = partial(halt_everything, actor="olive")
    assert portfolio_row(hand).held_while(halt, run_row(hand), handoff) == [True, True]


def test_a_halt_locks_runs_before_handoffs() -> None:
    hand, handoff = moving()
    assert run_row(hand).held_while(partial(halt_everything, actor="olive"), handoff) == [True]


def test_an_undo_locks_portfolios_before_runs() -> None:
    hand = make_trader("one", make_node("node-1"))
    halt_everything(actor="olive")
    undo = partial(undo_halt, actor="olive")
    assert portfolio_row(hand).held_while(undo, run_row(hand)) == [True]
    assert hand.run().phase == "pending"
