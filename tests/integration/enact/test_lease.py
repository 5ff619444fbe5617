"""The lease: renewal, goodbye and closed sockets."""

from __future__ import annotations

from uuid import uuid4

import pytest

from scheduling.db.transaction import execute
from scheduling.enact.handoff.catch_up import store_catch_up_times
from scheduling.enact.lease import (
    judge_socket_losses,
    next_expiry,
    record_goodbye,
    record_socket,
    record_socket_loss,
    renew_leases,
)
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Event, Handoff, Lease, Node, NodeReport
from scheduling.timing import timing
from scheduling.wire.messages import Heartbeat
from tests.support.factories import FakeNode, ago, lose, make_node, make_trader, serving_since
from tests.support.leases import close, connect, lease, left_s, mark_lost_nodes

pytestmark = pytest.mark.django_db


def test_heartbeat_renews_the_lease_for_one_ttl(node: FakeNode) -> None:
    Lease.objects.update(expires_at=ago(-5))
    assert node.beat().renewed is True
    assert 29 < left_s() <= 30
    assert lease().renewals == 1


def test_heartbeat_replaces_the_metrics_and_drops_those_that_are_not_finite(node: FakeNode) -> None:
    node.beat(metrics={"cpu_pct": 12.5})
    node.beat(metrics={"cpu_pct": 14.0, "bad": float("nan"), "worse": float("inf")})
    assert NodeReport.objects.get().metrics == {"cpu_pct": 14.0}


def test_heartbeat_of_another_incarnation_renews_nothing(node: FakeNode) -> None:
    before = lease().expires_at
    row = FakeNode(node.row, uuid4()).beat()
    assert (row.renewed, row.held_by) == (False, node.incarnation)
    assert lease().expires_at == before


def test_heartbeat_of_an_unregistered_node_is_unknown() -> None:
    row = FakeNode(Node.objects.create(name="node-9"), uuid4()).beat()
    assert (row.renewed, row.held_by) == (False, None)


def test_lost_node_is_alive_with_its_next_heartbeat(node: FakeNode) -> None:
    lose(node)
    assert node.beat().renewed is True
    assert Node.objects.get().status == "alive"
    assert Event.objects.filter(kind="node_alive").count() == 1
    assert node.beat().renewed is True
    assert Event.objects.filter(kind="node_alive").count() == 1


def test_leaving_is_recorded_once_and_not_cleared_by_a_delayed_heartbeat(node: FakeNode) -> None:
    node.beat(leaving=True)
    node.beat(leaving=True)
    assert Node.objects.get().leaving is True
    assert Event.objects.filter(kind="node_leaving").count() == 1
    node.beat(leaving=False)  # sent before, and delayed
    assert Node.objects.get().leaving is True
    assert not Event.objects.filter(kind="node_alive").exists()


def test_node_without_answers_is_renewed_to_one_ttl_after_the_last_one(node: FakeNode) -> None:
    Lease.objects.update(expires_at=ago(-5))
    node.beat(unheard_s=14.0)
    assert 15 < left_s() <= 16
    node.beat(unheard_s=24.0)
    assert left_s() > 15  # a heartbeat never shortens a lease
    Lease.objects.update(expires_at=ago(-5))
    node.beat(unheard_s=31.0)
    assert left_s() <= 5
    node.beat()
    assert left_s() > 29


def test_missing_answers_during_a_gateway_gap_do_not_shorten_leases(node: FakeNode) -> None:
    """A heartbeat may wait in the socket of a frozen web process, which then gave no answers."""
    serving_since(3600, pulsed_ago=25)
    Lease.objects.update(expires_at=ago(10))
    node.beat(unheard_s=25.0)
    assert left_s() > 29
    Lease.objects.update(expires_at=ago(10))
    node.beat(unheard_s=27.0)  # the next one of those that waited, in a statement of its own
    assert left_s() > 29
    assert mark_lost_nodes() == []


def test_lost_node_without_answers_stays_lost(node: FakeNode) -> None:
    lose(node)
    assert node.beat(unheard_s=40.0).renewed is True
    assert Node.objects.get().status == "lost"
    node.beat()
    assert Node.objects.get().status == "alive"


def test_goodbye_ends_the_lease_and_a_later_heartbeat_is_unknown(node: FakeNode) -> None:
    for _ in range(2):  # the answer was lost
        assert execute(record_goodbye(node.row.pk, "node-1", node.incarnation, "asked")) is True
    assert Event.objects.filter(kind="node_left").count() == 1
    assert Node.objects.get().status == "left"
    assert left_s() <= 0
    row = node.beat()
    assert (row.renewed, row.held_by) == (False, node.incarnation)
    assert Node.objects.get().status == "left"
    assert mark_lost_nodes() == []


def test_a_goodbye_of_another_incarnation_ends_nothing(node: FakeNode) -> None:
    assert execute(record_goodbye(node.row.pk, "node-1", uuid4(), "")) is False
    assert Node.objects.get().status == "alive"
    assert left_s() > 29


def test_a_closed_socket_shortens_the_lease_to_3_s_after_the_close(node: FakeNode) -> None:
    assert close(node, connect(node)) is True
    assert 1.5 < left_s() <= 1.9  # of 3 s after the close


def test_a_closed_socket_shortens_no_lease_before_the_judgement_delay_has_passed(
    node: FakeNode,
) -> None:
    close(node, connect(node), seconds_ago=0.5)
    assert left_s() > 29
    in_s = execute(next_expiry())
    assert in_s is not None
    assert in_s < 1  # the watcher looks again then


def test_a_closed_socket_never_lengthens_a_lease(node: FakeNode) -> None:
    connection = connect(node)
    Lease.objects.update(expires_at=ago(-1))
    close(node, connection)
    assert left_s() <= 1


def test_only_the_newest_socket_shortens_the_lease(node: FakeNode) -> None:
    old, new = connect(node), connect(node)
    assert close(node, old) is False
    assert left_s() > 29
    assert close(node, new) is True
    assert left_s() < 2


def test_a_new_socket_cancels_the_judgement_of_a_closed_one(node: FakeNode) -> None:
    execute(record_socket_loss(node.row.pk, connect(node)))
    connect(node)
    Lease.objects.update(socket_lost_at=ago(2))
    execute(judge_socket_losses(timing()))
    assert left_s() > 29


def test_a_closed_socket_of_an_earlier_incarnation_shortens_no_lease(node: FakeNode) -> None:
    connection = connect(node)
    make_node("node-1")
    assert close(node, connection) is False
    assert execute(record_socket(node.row.pk, node.incarnation, uuid4(), GATEWAY_ID)) is False
    assert left_s() > 29


def test_a_socket_loss_dated_in_the_future_is_judged_at_once(node: FakeNode) -> None:
    close(node, connect(node), seconds_ago=-60)  # the clock was set back
    assert left_s() <= 3


@pytest.mark.parametrize(
    ("closed", "of", "shortened"),
    [(1, 1, True), (1, 2, True), (2, 2, False), (2, 3, False), (2, 4, False), (2, 5, True)],
)
def test_leases_are_shortened_unless_two_or_more_and_half_of_all_sockets_close_at_once(
    closed: int, of: int, shortened: bool
) -> None:
    """A proxy that dies closes the sockets of every web process, one or two in each."""
    serving_since(3600)
    nodes = [make_node(f"node-{n}") for n in range(of)]
    sockets = [connect(node) for node in nodes]
    for node, socket in list(zip(nodes, sockets, strict=True))[:closed]:
        execute(record_socket_loss(node.row.pk, socket))
    Lease.objects.filter(socket_loss_pending=True).update(socket_lost_at=ago(1.1))
    execute(judge_socket_losses(timing()))
    assert Lease.objects.filter(expires_at__lt=ago(-5)).count() == (closed if shortened else 0)


def test_leases_are_not_shortened_after_a_mass_close_from_which_others_returned() -> None:
    serving_since(3600)
    nodes = [make_node(f"node-{n}") for n in range(3)]
    for node in nodes:
        execute(record_socket_loss(node.row.pk, connect(node)))
    Lease.objects.update(socket_lost_at=ago(1.1))
    for node in nodes[:2]:
        connect(node)
    execute(judge_socket_losses(timing()))
    assert not Lease.objects.filter(expires_at__lt=ago(-5)).exists()


def test_a_gateway_that_is_not_fit_shortens_no_lease(node: FakeNode) -> None:
    connection = connect(node)
    serving_since(3600, pulsed_ago=3.1)
    close(node, connection)
    assert left_s() > 28


def test_invalid_metrics_of_one_node_do_not_affect_others() -> None:
    bad, good = make_node("node-1"), make_node("node-2")
    before = Lease.objects.get(node=good.row).renewals
    messages = [
        Heartbeat(incarnation=str(bad.incarnation), have_version=0, unheard_s=1e308),
        Heartbeat(incarnation=str(good.incarnation), have_version=0),
    ]
    execute(renew_leases([bad.row.pk, good.row.pk], messages, timing(), GATEWAY_ID))
    assert Lease.objects.get(node=good.row).renewals == before + 1


def test_first_valid_catch_up_time_of_the_owner_is_stored_on_its_handoff() -> None:
    node, other = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", node)
    placed = Handoff.objects.get()

    def say(who: FakeNode, ms: float) -> float | None:
        execute(store_catch_up_times(who.row.pk, [(hand.portfolio.pk, hand.run().epoch, ms)]))
        placed.refresh_from_db()
        return placed.catchup_ms

    assert say(other, 7.0) is None
    # The page of an incident adds it to a time.
    for odd in (float("nan"), float("inf"), 1e300, -1.0):
        assert say(node, odd) is None
    assert say(node, 250.0) == 250.0
    assert say(node, 9000.0) == 250.0
