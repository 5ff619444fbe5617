"""Stopping and deleting a portfolio, also during another handoff."""

from __future__ import annotations

import pytest

from scheduling import operations
from scheduling.models import Handoff
from tests.integration.enact.handoff.conftest import activating, migrated
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    expire_handoff,
    expire_lease,
    lose,
    make_node,
    make_portfolio,
    newest_handoff,
    owner,
    state_of,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


def test_a_stop_ends_with_the_release(hand: OwnerSession) -> None:
    before = hand.run()
    handoff = operations.stop("p", actor="ann", reason="enough")
    message = hand.release_message(handoff, events=2)
    assert hand.daemon.release(message).answer == "handed_over"
    assert hand.daemon.release(message).answer == "handed_over"
    at = hand.run()
    assert (at.node_id, at.phase, at.epoch) == (None, "stopped", before.epoch + 1)
    assert (at.last_seq, at.reason) == (before.last_seq + 2, "enough")
    assert (state_of(handoff), hand.daemon.owns()) == ("done", [])


def test_late_release_ends_a_stop(hand: OwnerSession) -> None:
    assert expire_handoff(operations.stop("p", actor="ann")) == "done"
    assert hand.run().phase == "stopped"
    assert hand.commit(epoch=hand.run().epoch - 1) == "fenced"


@pytest.mark.parametrize("gone", ["expired", "lost"])
def test_stop_on_an_unreachable_node_is_done_at_once(hand: OwnerSession, gone: str) -> None:
    {"expired": expire_lease, "lost": lose}[gone](hand.daemon)
    operations.stop("p", actor="ann")
    assert hand.run().phase == "stopped"
    assert newest_handoff(hand.portfolio).state == "done"


@pytest.mark.parametrize("under_way", [migrated, activating])
def test_stop_supersedes_a_handoff_in_any_step(
    hand: OwnerSession, target: FakeNode, under_way: object
) -> None:
    first = under_way(hand, target)  # type: ignore[operator]
    stop = operations.stop("p", actor="ann")
    assert (state_of(first), state_of(stop)) == ("superseded", "draining")
    daemon = target if hand.run().node_id == target.row.pk else hand.daemon
    assert owner("p", daemon).release(stop).answer == "handed_over"
    assert hand.run().phase == "stopped"
    assert Handoff.objects.filter(state__in=("preparing", "draining", "activating")).count() == 0


def test_delete_supersedes_a_handoff_and_frees_the_name(
    hand: OwnerSession, target: FakeNode
) -> None:
    first = activating(hand, target)
    operations.delete_portfolio("p", actor="ann")
    assert state_of(first) == "superseded"
    expire_handoff(newest_handoff(hand.portfolio))
    assert hand.run().node_id is None
    assert make_portfolio("p").pk != hand.portfolio.pk


def test_start_during_a_stop_leaves_the_portfolio_pending(hand: OwnerSession) -> None:
    make_node("node-2")  # with room for it
    stop = operations.stop("p", actor="ann")
    assert operations.start("p", actor="ann") is None
    hand.release(stop)
    at = hand.run()
    assert (at.phase, at.node_id) == ("pending", None)


def test_second_stop_returns_the_active_one(hand: OwnerSession) -> None:
    stop = operations.stop("p", actor="ann")
    assert operations.delete_portfolio("p", actor="ann") == stop
    assert Handoff.objects.filter(kind="stop").count() == 1
