"""A migrate from request to end; reports that come twice, late or from another node."""

from __future__ import annotations

from itertools import pairwise

import pytest

from scheduling import operations
from scheduling.models import Node
from tests.integration.enact.handoff.conftest import activating, draining, migrated
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    expire_handoff,
    expire_lease,
    make_node,
    make_trader,
    newest_handoff,
    owner,
    state_of,
)
from tests.support.refusals import refused

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


def test_a_migrate_goes_prepare_drain_grant_activate_and_is_done(
    hand: OwnerSession, source: FakeNode, target: FakeNode
) -> None:
    before = hand.run()
    handoff = migrated(hand, target)
    assert state_of(handoff) == "preparing"
    assert (source.owns(), target.owns()) == (["p"], [])
    assert target.ready(handoff) == "draining"
    assert hand.run().phase == "draining"
    assert [e.handoff for e in source.desired("drain")] == [handoff.pk]
    assert hand.release(handoff, events=3).answer == "handed_over"
    assert [e.handoff for e in source.desired("warm")] == [handoff.pk]
    assert target.owns() == ["p"]
    assert owner("p", target).commit(0) == "ok"
    done, at = newest_handoff(hand.portfolio), hand.run()
    assert done.state == "done"
    assert (at.epoch, at.node_id, at.phase) == (before.epoch + 1, target.row.pk, "running")
    assert (done.from_epoch, done.to_epoch) == (before.epoch, before.epoch + 1)
    assert done.released_seq == before.last_seq + 3
    assert done.pause_ms is not None
    assert source.desired("warm") == []
    stamps = [done.requested_at, done.prepared_at, done.released_at, done.granted_at]
    stamps += [done.activated_at, done.finished_at]
    assert stamps == sorted(at for at in stamps if at is not None)


def test_repeated_reports_of_a_handoff_step_get_the_answer_late_and_change_nothing(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = migrated(hand, target)
    assert target.ready(handoff) == "draining"
    assert target.ready(handoff) == "late"
    hand.release(handoff)
    assert target.ready(handoff) == "late"
    assert target.fails(handoff) == "late"
    assert state_of(handoff) == "activating"


def test_repeated_release_gets_its_first_answer(hand: OwnerSession, target: FakeNode) -> None:
    message = hand.release_message(draining(hand, target), events=2)
    assert hand.daemon.release(message).answer == "handed_over"
    assert hand.daemon.release(message).answer == "handed_over"
    owner("p", target).commit(4)
    assert hand.daemon.release(message).answer == "handed_over"
    assert hand.run().epoch == message.epoch + 1


@pytest.mark.parametrize("events", [0, 3])
def test_release_after_its_handoff_failed_is_answered_keep_and_the_source_goes_on(
    hand: OwnerSession, target: FakeNode, events: int
) -> None:
    handoff = draining(hand, target)
    message = hand.release_message(handoff, events)
    target.fails(handoff)
    assert hand.daemon.release(message).answer == "keep"
    assert hand.daemon.release(message).answer == "keep"
    at = hand.run()
    assert (at.epoch, at.node_id, at.phase) == (message.epoch, hand.daemon.row.pk, "running")
    assert at.last_seq == message.to_seq
    assert hand.commit(1) == "ok"


@pytest.mark.parametrize("events", [0, 3])
def test_release_for_a_handoff_of_another_portfolio_is_answered_keep(
    hand: OwnerSession, target: FakeNode, events: int
) -> None:
    target.fails(draining(hand, target))
    foreign = migrated(make_trader("q", hand.daemon), target)
    message = hand.next_commit(events, release=foreign.pk)
    assert hand.daemon.release(message).answer == "keep"
    assert hand.daemon.release(message).answer == "keep"
    assert state_of(foreign) == "preparing"


def test_a_release_to_a_target_whose_lease_has_expired_is_answered_keep(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = draining(hand, target)
    expire_lease(target)
    assert hand.release(handoff).answer == "keep"
    assert (state_of(handoff), hand.run().phase) == ("failed", "running")


def test_a_stale_release_is_refused_and_grants_nothing(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = draining(hand, target)
    message = hand.release_message(handoff, from_seq=0, to_seq=1)
    assert hand.daemon.release(message).answer == "conflict"
    assert state_of(handoff) == "draining"


def test_a_portfolio_that_is_asked_to_drain_before_its_first_commit_stays_draining(
    hand: OwnerSession, target: FakeNode
) -> None:
    activating(hand, target)
    third = make_node("node-3")
    owner("p", target).commit(0)
    expire_handoff(operations.migrate("p", third.name, actor="ann"))
    make_node("node-2")  # takes its run over: it is starting again
    newest = owner("p", make_node("node-2"))
    stop = operations.stop("p", actor="ann")
    assert newest.commit(0) == "ok"
    assert (newest.run().phase, state_of(stop)) == ("draining", "draining")


def test_batch_takes_the_last_capacity_of_a_node_once(source: FakeNode) -> None:
    small = make_node("node-2", capacity=1)
    first, second = make_trader("a", source), make_trader("b", source)
    migrated(first, small)
    refusal = refused(lambda: second.move_to(small))
    assert refusal.code == "node_full"
    told = "Node node-2 has no room for b (weight 1): 1 of 1 are taken; choose another."
    assert refusal.message == told


def test_every_change_of_a_desired_set_raises_its_version(
    hand: OwnerSession, source: FakeNode, target: FakeNode
) -> None:
    def versions() -> tuple[int, ...]:
        return tuple(Node.objects.order_by("id").values_list("desired_version", flat=True))

    seen = [versions()]
    handoff = migrated(hand, target)
    seen.append(versions())
    target.ready(handoff)
    seen.append(versions())
    hand.release(handoff)
    seen.append(versions())
    owner("p", target).commit(0)
    seen.append(versions())
    assert all(after[i] > before[i] for before, after in pairwise(seen) for i in (0, 1))
