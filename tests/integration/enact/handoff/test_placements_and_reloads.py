"""Placements that fail are attempts; reloads that fail reject their revision."""

from __future__ import annotations

import pytest

from portfolios.models import Portfolio, Revision
from scheduling import operations
from tests.integration.enact.handoff.conftest import expire_if_late, revised
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    expire_handoff,
    lose,
    make_portfolio,
    newest_handoff,
    prove_revision,
    run_of,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


def test_failed_placement_counts_as_an_attempt_of_its_node_and_the_fifth_quarantines(
    target: FakeNode,
) -> None:
    portfolio = placed(target)
    target.fails(newest_handoff(portfolio))
    for attempts in (2, 3, 4, 5):
        operations.migrate("new", target.name, actor="ann")
        target.fails(newest_handoff(portfolio))
        at = run_of(portfolio)
        if attempts == 2:
            assert (at.attempts, at.failures_by_node) == (2, {str(target.row.pk): 2})
            assert at.reason == "could not start on the node chosen (2 of 5): it broke"
    assert (at.phase, at.node_id, at.attempts) == ("quarantined", None, 5)
    assert "it broke" in at.reason


def test_placement_on_a_lost_node_is_not_an_attempt(target: FakeNode) -> None:
    portfolio = placed(target)
    lose(target)
    expire_if_late(newest_handoff(portfolio))
    assert run_of(portfolio).attempts == 0


def placed(target: FakeNode) -> Portfolio:
    """Return a portfolio that nobody ran yet, on its way to `target`."""
    portfolio = make_portfolio("new")
    operations.migrate("new", target.name, actor="ann")
    return portfolio


def test_a_revision_that_raises_while_it_is_prepared_is_rejected_and_the_old_one_runs_on(
    hand: OwnerSession, source: FakeNode
) -> None:
    source.fails(revised(hand), strategy=True)
    at = hand.run()
    assert (at.revision, at.phase, at.first_commit_at is None) == (1, "running", False)
    second = Revision.objects.get(portfolio=hand.portfolio, number=2)
    assert (second.status, second.status_reason) == ("rejected", "it broke")


def test_reload_that_fails_twice_rejects_its_revision(hand: OwnerSession, source: FakeNode) -> None:
    source.fails(revised(hand))
    assert Revision.objects.get(portfolio=hand.portfolio, number=2).status == "unproven"
    expire_handoff(operations.reload("p", actor="system"))
    assert Revision.objects.get(portfolio=hand.portfolio, number=2).status == "rejected"
    assert hand.run().phase == "running"


def test_a_revision_is_rejected_only_after_it_missed_its_first_commit_twice(
    hand: OwnerSession, source: FakeNode
) -> None:
    handoff = revised(hand)
    for status in ("unproven", "rejected"):
        source.ready(handoff)
        hand.release(handoff)
        assert hand.run().revision == 2
        assert expire_handoff(handoff) == "rolled_back"
        assert hand.run().revision == 1
        assert Revision.objects.get(portfolio=hand.portfolio, number=2).status == status
        assert hand.commit(1) == "ok"
        if status == "unproven":
            handoff = operations.reload("p", actor="system")


def test_a_revision_that_fails_by_itself_before_its_first_commit_is_rejected_at_once(
    hand: OwnerSession, source: FakeNode
) -> None:
    handoff = revised(hand)
    source.ready(handoff)
    hand.release(handoff)
    source.fails(handoff, "activate")
    assert Revision.objects.get(portfolio=hand.portfolio, number=2).status == "rejected"
    assert hand.run().revision == 1


def test_a_good_revision_is_never_rejected(hand: OwnerSession, source: FakeNode) -> None:
    second = revised(hand)
    source.ready(second)
    hand.release(second)
    hand.commit(1)
    prove_revision(hand.portfolio)
    source.fails(operations.reload("p", actor="ann", revision=1), strategy=True)
    assert Revision.objects.get(portfolio=hand.portfolio, number=1).status == "good"
