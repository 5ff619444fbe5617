"""A registration grants a new incarnation all runs of its node, whatever handoff is active."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.lease import record_dead_daemon, record_goodbye
from scheduling.enact.register import register
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Event, Handoff, Lease
from scheduling.timing import timing
from tests.integration.enact.handoff.conftest import activating, draining, migrated
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    ago,
    expire_lease,
    lose,
    make_node,
    make_trader,
    owner,
    register_message,
    state_of,
)
from tests.support.refusals import refused

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


def test_a_new_incarnation_owns_everything_at_the_next_epoch_and_the_old_one_is_fenced(
    hand: OwnerSession,
) -> None:
    other = make_trader("q", hand.daemon)
    stale = hand.next_commit(1)
    before = hand.run().epoch, other.run().epoch
    again = make_node("node-1")
    assert again.owns() == ["p", "q"]
    assert (hand.run().epoch, other.run().epoch) == (before[0] + 1, before[1] + 1)
    assert hand.send(stale).answer == "fenced"
    assert owner("p", again).commit(1) == "ok"


def test_registering_again_with_the_same_incarnation_changes_nothing_but_the_lease(
    hand: OwnerSession,
) -> None:
    before = hand.run()
    message = register_message(hand.daemon.incarnation)
    assert execute(register(hand.daemon.row.pk, "node-1", message, timing(), GATEWAY_ID)) == 0
    after = hand.run()
    assert (after.epoch, after.incarnation) == (before.epoch, before.incarnation)
    assert hand.commit(1) == "ok"
    assert Event.objects.filter(kind="node_registered").count() == 1


@pytest.mark.parametrize("reach", [migrated, draining])
def test_restarted_source_keeps_unreleased_portfolios(
    hand: OwnerSession, reach: Callable[[OwnerSession, FakeNode], Handoff]
) -> None:
    target = make_node("node-2")
    handoff = reach(hand, target)
    again = make_node("node-1")
    assert state_of(handoff) == "failed"
    assert (again.owns(), target.desired("prepare")) == (["p"], [])
    assert owner("p", again).commit(1) == "ok"
    assert hand.run().phase == "running"


def test_restarted_source_does_not_own_a_released_portfolio(hand: OwnerSession) -> None:
    target = make_node("node-2")
    handoff = activating(hand, target)
    assert make_node("node-1").owns() == []
    assert owner("p", target).commit(1) == "ok"
    assert state_of(handoff) == "done"


def test_daemon_restart_completes_a_stop_handoff(hand: OwnerSession) -> None:
    handoff = operations.stop("p", actor="ann")
    again = make_node("node-1")
    assert (state_of(handoff), again.owns()) == ("done", [])
    assert (hand.run().phase, hand.run().node_id) == ("stopped", None)


def test_takeover_after_a_loss_is_an_attempt(hand: OwnerSession) -> None:
    again = owner("p", make_node("node-1"))
    assert hand.run().attempts == 1
    again.commit(1)
    assert hand.run().attempts == 0


def test_portfolio_that_crashes_its_daemon_is_quarantined(hand: OwnerSession) -> None:
    neighbour = make_trader("q", hand.daemon)
    for _ in range(5):
        expire_lease(hand.daemon)
        again = make_node("node-1")
        owner("q", again).commit(1)
    at = hand.run()
    assert (at.phase, at.node_id) == ("quarantined", None)
    assert "the daemon of node-1 ended and started again" in at.reason
    assert again.owns() == ["q"]
    assert neighbour.run().attempts == 0


def test_third_takeover_of_a_valid_lease_in_a_minute_is_refused() -> None:
    make_node("node-1")
    make_node("node-1")
    third = make_node("node-1")
    refusal = refused(lambda: make_node("node-1"))
    assert refusal.code == "name_in_use"
    assert refusal.extra == {"host": "rack-1", "pid": 4100}
    assert refusal.message == (
        "Node node-1 is in use: the lease of the daemon on rack-1, pid 4100, is valid, and the "
        "node was taken over 2 times in 60 s. Stop that daemon, try again once its lease has ended "
        "if it was killed, or choose another name."
    )
    assert Lease.objects.get().incarnation == third.incarnation


def test_a_daemon_that_registers_too_often_is_throttled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduling.enact.register.MAX_REGISTRATIONS", 3)

    def register_and_leave() -> FakeNode:
        daemon = make_node("node-1")
        assert execute(record_goodbye(daemon.row.pk, "node-1", daemon.incarnation, "")) is True
        return daemon

    *_, last = [register_and_leave() for _ in range(3)]
    refusal = refused(lambda: make_node("node-1"))
    assert (refusal.code, refusal.status) == ("throttled", 429)
    told = "Node node-1 was registered 3 times within 60 s, limit 3; see why its daemon ends."
    assert refusal.message == told
    assert Lease.objects.get().incarnation == last.incarnation
    message = register_message(last.incarnation)
    execute(register(last.row.pk, "node-1", message, timing(), GATEWAY_ID))  # a repeat
    Event.objects.update(at=ago(61))
    register_and_leave()


def test_daemon_known_to_be_dead_may_be_replaced_any_number_of_times() -> None:
    daemon = make_node("node-1")
    for _ in range(6):
        assert execute(record_dead_daemon(daemon.row.pk, daemon.incarnation)) is True
        daemon = make_node("node-1")
    assert Lease.objects.get(node=daemon.row.pk).incarnation == daemon.incarnation
    assert execute(record_dead_daemon(daemon.row.pk, uuid4())) is False  # of another incarnation


def test_takeovers_more_than_a_minute_ago_do_not_count() -> None:
    for _ in range(3):
        make_node("node-1")
    Lease.objects.update(takeovers=[ago(61).timestamp(), ago(62).timestamp()])
    assert make_node("node-1").beat().renewed is True


@pytest.mark.parametrize("gone", [lose, expire_lease])
def test_silent_node_may_be_taken_over_any_number_of_times(
    gone: Callable[[FakeNode], None],
) -> None:
    for _ in range(5):
        gone(make_node("node-1"))
    assert make_node("node-1").beat().renewed is True
