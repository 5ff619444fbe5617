"""The lease: renewal, shortening and expiry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from scheduling.db.transaction import execute
from scheduling.enact.lease import (
    caught_up,
    connected,
    goodbye,
    mark_lost,
    next_expiry,
    record_gateway_alive,
    renew_leases,
    shorten,
)
from scheduling.models import Event, GatewayPulse, Handoff, Lease, Node, NodeReport
from scheduling.timing import timing
from scheduling.wire.messages import Heartbeat
from tests.support.factories import (
    FakeNode,
    ago,
    expire_lease,
    lose,
    make_node,
    make_trader,
    serving_since,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def node() -> FakeNode:
    serving_since(3600)
    return make_node("node-1")


def lease() -> Lease:
    return Lease.objects.get()


def left_s() -> float:
    """Return how long the one lease still holds."""
    return (lease().expires_at - datetime.now(UTC)).total_seconds()


def lost() -> list[str]:
    return [row.name for row in execute(mark_lost(timing()))]


def connect(node: FakeNode) -> UUID:
    connection = uuid4()
    assert execute(connected(node.row.pk, node.incarnation, connection)) is True
    return connection


# --- beats ---------------------------------------------------------------------------------------


def test_heartbeat_renews_the_lease_for_one_ttl(node: FakeNode) -> None:
    Lease.objects.update(expires_at=ago(-5))
    assert node.beat().beaten is True
    assert 29 < left_s() <= 30
    assert lease().renewals == 1


def test_heartbeat_stores_the_newest_report(node: FakeNode) -> None:
    node.beat(metrics={"cpu_pct": 12.5})
    node.beat(metrics={"cpu_pct": 14.0, "bad": float("nan"), "worse": float("inf")})
    assert NodeReport.objects.get().metrics == {"cpu_pct": 14.0}


def test_heartbeat_of_another_incarnation_renews_nothing(node: FakeNode) -> None:
    before = lease().expires_at
    row = FakeNode(node.row, uuid4()).beat()
    assert (row.beaten, row.held_by) == (False, node.incarnation)
    assert lease().expires_at == before


def test_heartbeat_of_an_unregistered_node_is_unknown() -> None:
    row = FakeNode(Node.objects.create(name="node-9"), uuid4()).beat()
    assert (row.beaten, row.held_by) == (False, None)


def test_lost_node_is_alive_with_its_next_heartbeat(node: FakeNode) -> None:
    lose(node)
    assert node.beat().beaten is True
    assert Node.objects.get().status == "alive"
    assert Event.objects.filter(kind="node_alive").count() == 1
    assert node.beat().beaten is True
    assert Event.objects.filter(kind="node_alive").count() == 1


def test_leaving_is_written_once(node: FakeNode) -> None:
    node.beat(leaving=True)
    node.beat(leaving=True)
    assert Node.objects.get().leaving is True
    assert Event.objects.filter(kind="node_leaving").count() == 1


def test_the_answer_says_whether_a_handoff_waits_for_the_node(node: FakeNode) -> None:
    assert node.beat().pending is False


def test_node_without_answers_is_renewed_to_one_ttl_after_the_last_one(
    node: FakeNode,
) -> None:
    Lease.objects.update(expires_at=ago(-5))
    node.beat(unheard_s=14.0)
    assert 15 < left_s() <= 16
    node.beat(unheard_s=24.0)
    assert left_s() > 15  # a beat never takes anything away
    Lease.objects.update(expires_at=ago(-5))
    node.beat(unheard_s=31.0)
    assert left_s() <= 5
    node.beat()
    assert left_s() > 29


def test_missing_answers_during_a_gateway_gap_do_not_shorten_leases(node: FakeNode) -> None:
    """A beat may wait in the socket of a frozen web process, and say what was our own silence."""
    serving_since(3600, last_beat_ago=25)
    Lease.objects.update(expires_at=ago(10))
    node.beat(unheard_s=25.0)
    assert left_s() > 29
    Lease.objects.update(expires_at=ago(10))
    node.beat(unheard_s=27.0)  # the next one of those that waited, in a statement of its own
    assert left_s() > 29
    assert lost() == []


def test_lost_node_without_answers_stays_lost(node: FakeNode) -> None:
    lose(node)
    assert node.beat(unheard_s=40.0).beaten is True
    assert Node.objects.get().status == "lost"
    node.beat()
    assert Node.objects.get().status == "alive"


# --- goodbye -------------------------------------------------------------------------------------


def test_goodbye_ends_the_lease_and_a_later_heartbeat_is_unknown(node: FakeNode) -> None:
    assert execute(goodbye(node.row.pk, "node-1", node.incarnation, "asked to stop")) is True
    assert Node.objects.get().status == "left"
    assert left_s() <= 0
    row = node.beat()
    assert (row.beaten, row.held_by) == (False, node.incarnation)
    assert Node.objects.get().status == "left"
    assert lost() == []


def test_a_goodbye_of_another_incarnation_ends_nothing(node: FakeNode) -> None:
    assert execute(goodbye(node.row.pk, "node-1", uuid4(), "")) is False
    assert Node.objects.get().status == "alive"
    assert left_s() > 29


# --- suspicion -----------------------------------------------------------------------------------


def test_a_closed_socket_shortens_the_lease_to_the_grace(node: FakeNode) -> None:
    connection = connect(node)
    assert execute(shorten(node.row.pk, connection, timing(), 0.25)) is True
    assert 2.5 < left_s() <= 2.75


def test_a_closed_socket_never_lengthens_a_lease(node: FakeNode) -> None:
    connection = connect(node)
    Lease.objects.update(expires_at=ago(-1))
    execute(shorten(node.row.pk, connection, timing()))
    assert left_s() <= 1


def test_only_the_newest_socket_shortens_the_lease(node: FakeNode) -> None:
    old, new = connect(node), connect(node)
    assert execute(shorten(node.row.pk, old, timing())) is False
    assert left_s() > 29
    assert execute(shorten(node.row.pk, new, timing())) is True


def test_a_socket_of_an_earlier_incarnation_may_not_shorten(node: FakeNode) -> None:
    connection = connect(node)
    make_node("node-1")
    assert execute(shorten(node.row.pk, connection, timing())) is False
    assert execute(connected(node.row.pk, node.incarnation, uuid4())) is False
    assert left_s() > 29


def test_next_heartbeat_restores_a_shortened_lease(node: FakeNode) -> None:
    execute(shorten(node.row.pk, connect(node), timing()))
    node.beat()
    assert left_s() > 29


# --- judging -------------------------------------------------------------------------------------


def test_expired_lease_marks_the_node_lost_once(node: FakeNode) -> None:
    expire_lease(node, seconds_ago=2)
    assert lost() == ["node-1"]
    assert lost() == []
    row = Node.objects.get()
    assert (row.status, len(row.lost_times)) == ("lost", 1)
    assert Event.objects.get(kind="node_lost").reason == "32.0 s without a heartbeat, limit 30 s"


def test_valid_lease_is_not_marked_lost(node: FakeNode) -> None:
    Lease.objects.update(expires_at=ago(-0.5))
    assert lost() == []


@pytest.mark.parametrize(
    ("serving", "last_beat"),
    [(20.0, 0.0), (3600.0, 3.1)],
    ids=["we came back 20 s ago", "nobody can reach us"],
)
def test_no_node_is_lost_during_a_gateway_gap(
    node: FakeNode, serving: float, last_beat: float
) -> None:
    expire_lease(node, seconds_ago=60)
    serving_since(serving, last_beat_ago=last_beat)
    assert lost() == []


def test_no_node_is_lost_without_a_gateway_row(node: FakeNode) -> None:
    expire_lease(node)
    GatewayPulse.objects.all().delete()
    assert lost() == []


def test_silence_counts_one_ttl_after_a_gateway_gap(node: FakeNode) -> None:
    expire_lease(node, seconds_ago=60)
    serving_since(31.0)
    assert lost() == ["node-1"]


def test_node_that_stopped_after_a_gateway_gap_is_lost_at_once(node: FakeNode) -> None:
    expire_lease(node)
    Lease.objects.update(renewed_at=ago(4))
    serving_since(5.0)
    assert lost() == ["node-1"]


def test_only_a_gap_resets_serving_since() -> None:
    serving_since(3600, last_beat_ago=2)
    execute(record_gateway_alive(timing()))
    assert GatewayPulse.objects.get().serving_since < ago(3000)
    serving_since(3600, last_beat_ago=3.1)
    execute(record_gateway_alive(timing()))
    assert GatewayPulse.objects.get().serving_since > ago(5)


def test_no_silence_counts_while_the_gateway_is_overloaded(node: FakeNode) -> None:
    serving_since(3600)
    expire_lease(node, seconds_ago=60)
    execute(record_gateway_alive(timing(), overloaded=True))
    assert lost() == []
    serving_since(31.0)
    assert lost() == ["node-1"]


def test_gap_in_all_heartbeats_resets_serving_since(node: FakeNode) -> None:
    serving_since(3600, last_beat_ago=3.1)
    node.beat()
    assert GatewayPulse.objects.get().serving_since > ago(5)


def test_gateway_row_ahead_of_the_clock_becomes_a_gap(
    node: FakeNode,
) -> None:
    expire_lease(node, seconds_ago=60)
    serving_since(3600, last_beat_ago=-60)
    assert lost() == []
    assert GatewayPulse.objects.get().last_beat_at < ago(3)


def test_next_expiry_considers_living_nodes_only(node: FakeNode) -> None:
    lose(node)
    assert execute(next_expiry()) is None
    make_node("node-2")
    in_s = execute(next_expiry())
    assert in_s is not None
    assert timedelta(seconds=29) < timedelta(seconds=in_s) <= timedelta(seconds=30)


def test_node_is_revived_after_an_interrupted_heartbeat() -> None:
    node = make_node("node-1")
    # As the crash of a server between the two statements of a beat leaves it.
    Node.objects.update(status="lost")
    assert node.beat().beaten
    assert Node.objects.get().status == "alive"


def test_invalid_metrics_of_one_node_do_not_affect_others() -> None:
    bad, good = make_node("node-1"), make_node("node-2")
    before = Lease.objects.get(node=good.row).renewals
    words = [
        Heartbeat(incarnation=str(bad.incarnation), have_version=0, unheard_s=1e308),
        Heartbeat(incarnation=str(good.incarnation), have_version=0),
    ]
    execute(renew_leases([bad.row.pk, good.row.pk], words, timing()))
    assert Lease.objects.get(node=good.row).renewals == before + 1


def test_catch_up_time_is_stored_once_and_from_the_owner_only() -> None:
    node, other = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", node)
    placed = Handoff.objects.get()

    def say(who: FakeNode, ms: float) -> float | None:
        execute(caught_up(who.row.pk, [(hand.portfolio.pk, hand.run().epoch, ms)]))
        placed.refresh_from_db()
        return placed.catchup_ms

    assert say(other, 7.0) is None
    assert say(node, 250.0) == 250.0
    assert say(node, 9000.0) == 250.0
