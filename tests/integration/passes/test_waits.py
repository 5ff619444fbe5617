"""A transaction that waited for a row decides on what the row is after the wait.

PostgreSQL reads a locked row again; rows that the statement joins to it are as old as itself.
"""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, execute, query
from scheduling.enact.grant import lock_run
from scheduling.enact.handoff import expire
from scheduling.models import Handoff
from scheduling.operations.moves import stop_run
from scheduling.timing import timing
from tests.support.concurrency import Held, behind
from tests.support.factories import (
    OwnerSession,
    ago,
    make_node,
    make_trader,
    newest_handoff,
    run_of,
)

pytestmark = pytest.mark.django_db(transaction=True)


def stopping(hand: OwnerSession) -> Held:
    """Return a stop by a person that is not committed yet."""

    def transaction() -> Transaction[Any]:
        yield from want(hand, "stopped")
        yield from stop_run(hand.portfolio.pk, "ann", "")

    return Held(transaction())


SET_DESIRED_STATE = Statement(
    "SET_DESIRED_STATE",
    "UPDATE portfolios_portfolio SET desired_state = %(desired)s WHERE id = %(portfolio)s",
)


def want(hand: OwnerSession, desired: str) -> Transaction[Any]:
    yield from query(SET_DESIRED_STATE, desired=desired, portfolio=hand.portfolio.pk)


def test_an_exit_report_that_waited_for_a_stop_leaves_the_portfolio_stopped() -> None:
    hand = make_trader("p", make_node("node-1"))
    death = hand.death()
    assert behind(stopping(hand), lambda: hand.report_death(death)) == "stopped"
    assert (run_of(hand.portfolio).phase, run_of(hand.portfolio).node_id) == ("stopped", None)


def test_a_register_that_waited_for_a_stop_leaves_the_portfolio_stopped() -> None:
    hand = make_trader("p", make_node("node-1"))
    assert behind(stopping(hand), lambda: make_node("node-1")).name == "node-1"
    assert (run_of(hand.portfolio).phase, run_of(hand.portfolio).node_id) == ("stopped", None)


def test_a_stop_that_ends_after_a_start_leaves_the_portfolio_pending() -> None:
    hand = make_trader("p", make_node("node-1"))
    stopping(hand).commit()
    handoff = newest_handoff(hand.portfolio)
    Handoff.objects.update(deadline_at=ago(1))

    def starts() -> Transaction[Any]:
        yield from want(hand, "running")
        yield from lock_run(hand.portfolio.pk)

    assert behind(Held(starts()), lambda: execute(expire(handoff.pk, timing()))) == "done"
    assert run_of(hand.portfolio).phase == "pending"
