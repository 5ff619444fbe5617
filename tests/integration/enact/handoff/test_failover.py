"""Handoffs from a node that is lost."""

from __future__ import annotations

import pytest

from tests.integration.enact.handoff.conftest import error, failing_over
from tests.support.factories import FakeNode, OwnerSession, lose, owner

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


def test_failover_fails_if_the_owner_returns_before_the_grant(
    hand: OwnerSession, target: FakeNode
) -> None:
    lose(hand.daemon)
    handoff = failing_over(hand, target)
    hand.daemon.beat()
    assert target.ready(handoff) == "failed"
    assert error(handoff) == "node-1 sends heartbeats again and keeps it"
    assert hand.commit(1) == "ok"


def test_a_failover_counts_as_an_attempt_until_the_next_progress(
    hand: OwnerSession, target: FakeNode
) -> None:
    lose(hand.daemon)
    target.ready(failing_over(hand, target))
    assert hand.run().attempts == 1
    mine = owner("p", target)
    mine.commit(0)
    assert hand.run().attempts == 1
    mine.commit(1)
    assert hand.run().attempts == 0


def test_fifth_lost_owner_quarantines_instead_of_failover(
    hand: OwnerSession, target: FakeNode
) -> None:
    for _ in range(4):
        hand.die()
    lose(hand.daemon)
    assert target.ready(failing_over(hand, target)) == "quarantined"
    at = hand.run()
    assert (at.phase, at.node_id) == ("quarantined", None)
    assert "node-1, which ran it, was lost" in at.reason


def test_failover_whose_target_cannot_start_the_portfolio_is_an_attempt(
    hand: OwnerSession, target: FakeNode
) -> None:
    lose(hand.daemon)
    assert target.fails(failing_over(hand, target)) == "failed"
    at = hand.run()
    assert (at.attempts, at.failures_by_node) == (1, {str(target.row.pk): 1})
    assert at.reason == "could not start on node-2: it broke"
