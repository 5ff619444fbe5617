"""The step after the grant: the first commit of the new owner, or a rollback to the source."""

from __future__ import annotations

import pytest

from scheduling.models import Handoff
from tests.integration.enact.handoff.conftest import activating, migrated
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    expire_handoff,
    lose,
    make_node,
    owner,
    state_of,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


def test_missed_first_commit_deadline_grants_back_to_the_source(
    hand: OwnerSession, source: FakeNode, target: FakeNode
) -> None:
    before = hand.run().epoch
    handoff = activating(hand, target)
    zombie = owner("p", target).next_commit(0)
    assert expire_handoff(handoff) == "rolled_back"
    at = hand.run()
    assert (at.epoch, at.node_id, at.phase) == (before + 2, source.row.pk, "starting")
    assert target.send(zombie)[0].answer == "fenced"
    assert hand.commit(2) == "ok"
    assert Handoff.objects.get(pk=handoff.pk).pause_ms is not None


def test_failed_activation_of_a_handoff_without_a_grant_changes_nothing(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = migrated(hand, target)
    assert target.fails(handoff, "activate") == "late"
    assert Handoff.objects.get(pk=handoff.pk).state == "preparing"


def test_a_target_that_committed_is_not_rolled_back_by_a_late_deadline(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = activating(hand, target)
    owner("p", target).commit(0)
    assert expire_handoff(handoff) == "early"
    assert hand.run().node_id == target.row.pk


@pytest.mark.parametrize("gone", ["lost", "another incarnation"])
def test_rollback_skips_a_source_that_is_gone(
    hand: OwnerSession, source: FakeNode, target: FakeNode, gone: str
) -> None:
    handoff = activating(hand, target)
    {"lost": lambda: lose(source), "another incarnation": lambda: make_node("node-1")}[gone]()
    assert expire_handoff(handoff) == "rolled_back"
    at = hand.run()
    assert (at.node_id, at.phase, at.attempts) == (None, "pending", 0)
    assert at.reason.endswith("node-2 did not commit in 10 s")


def test_overdue_handoff_of_an_epoch_that_was_replaced_is_superseded(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = activating(hand, target)
    Handoff.objects.filter(pk=handoff.pk).update(to_epoch=1)
    expire_handoff(handoff)
    assert state_of(handoff) == "superseded"
