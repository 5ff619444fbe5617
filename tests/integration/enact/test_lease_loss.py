"""When a node counts as lost and for which reason, and when gaps of gateways excuse its silence."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, timedelta
from uuid import UUID

import pytest

from scheduling.db.transaction import execute
from scheduling.decide.reasons import stored_reason
from scheduling.enact.alerts import update_alerts
from scheduling.enact.lease import (
    next_expiry,
    record_dead_daemon,
    record_gateway_alive,
    record_gateway_left,
)
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Alert, Event, Gateway, Lease, Node
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.timing import timing
from tests.support.factories import (
    FakeNode,
    ago,
    expire_lease,
    lose,
    make_node,
    make_trader,
    serving_since,
)
from tests.support.leases import close, connect, lease, left_s, mark_lost_nodes
from tests.support.translation_check import check_translated

pytestmark = pytest.mark.django_db


def test_expired_lease_marks_the_node_lost_once(node: FakeNode) -> None:
    expire_lease(node, seconds_ago=2)
    assert mark_lost_nodes() == ["node-1"]
    assert mark_lost_nodes() == []
    row = Node.objects.get()
    assert (row.status, len(row.lost_times)) == ("lost", 1)
    assert SILENT.fullmatch(Event.objects.get(kind="node_lost").reason)


#: At least the limit, and what the machine took until the sweep looked.
SILENT = re.compile(r"[3-9]\d(\.\d)? s without a heartbeat, limit 30 s")


def reason_of_the_loss() -> str:
    """Return why the node was lost, which every interface says alike and in both languages."""
    assert mark_lost_nodes() == ["node-1"]
    row, event = Node.objects.get(), Event.objects.get(kind="node_lost")
    assert (event.reason, event.why) == (row.lost_reason, row.lost_why)
    stored = stored_reason(row.lost_reason, row.lost_why)  # the text of SQL is that of Python
    assert stored is not None, (row.lost_reason, row.lost_why)
    check_translated(stored)
    return row.lost_reason


def silent_for(seconds: float) -> None:
    """Let the node have sent its last heartbeat, and its lease have ended, before now."""
    Lease.objects.update(renewed_at=ago(seconds), expires_at=ago(0.1))


def test_loss_after_a_closed_connection_states_the_close_as_its_reason(node: FakeNode) -> None:
    make_trader("p", node)
    serving_since(3600)  # a pulse counts for 3 s, and a busy machine may have taken them
    close(node, connect(node))
    closed = lease().cut_at
    assert closed is not None
    silent_for(9)
    at = closed.astimezone(UTC)
    expected = f"its connection closed {at:%H:%M:%S} UTC and it did not return in 3 s"
    assert reason_of_the_loss() == expected
    assert (Node.objects.get().lost_why or {})["params"]["portfolios"] == 1


@pytest.mark.parametrize("sign", [FakeNode.beat, lambda _: make_node("node-1")])
def test_loss_after_a_closed_connection_and_a_sign_of_life_states_the_silence(
    node: FakeNode, sign: Callable[[FakeNode], object]
) -> None:
    close(node, connect(node))
    sign(node)
    silent_for(30.5)
    assert SILENT.fullmatch(reason_of_the_loss())


def test_connection_closed_as_the_lease_ended_is_not_the_reason_of_the_loss(node: FakeNode) -> None:
    connection = connect(node)
    Lease.objects.update(expires_at=ago(-1))
    close(node, connection)
    silent_for(30)
    assert SILENT.fullmatch(reason_of_the_loss())


def test_loss_of_a_dead_daemon_states_when_its_process_was_found_ended(node: FakeNode) -> None:
    execute(record_dead_daemon(node.row.pk, node.incarnation))
    silent_for(4)
    assert re.fullmatch(r"its process was found ended at \d\d:\d\d:\d\d UTC", reason_of_the_loss())


def test_loss_of_an_unanswered_node_states_time_without_answer_and_without_heartbeat(
    node: FakeNode,
) -> None:
    node.beat(unheard_s=21)
    Lease.objects.update(renewed_at=ago(9), cut_at=ago(30), expires_at=ago(0.1))
    expected = r"\d+(\.\d)? s without a heartbeat after 21 s without an answer, limit 30 s"
    assert re.fullmatch(expected, reason_of_the_loss())


def test_alert_states_the_reason_in_both_languages(node: FakeNode) -> None:
    silent_for(31)
    mark_lost_nodes()
    Node.objects.update(status_since=ago(60))
    execute(update_alerts(timing()))
    alert = Alert.objects.get(kind="node_lost")
    assert SILENT.fullmatch(alert.reason.partition("UTC: ")[2])
    stored = stored_reason(alert.reason, alert.why)
    assert stored is not None
    check_translated(stored)
    (shown,) = read_fleet_view().alerts
    assert shown.why == alert.why


@pytest.mark.parametrize(
    ("serving", "last_beat", "lost"),
    [(20.0, 0.0, []), (3600.0, 3.1, []), (31.0, 0.0, ["node-1"])],
    ids=["we came back 20 s ago", "nobody can reach us", "a TTL after the end"],
)
def test_no_node_is_lost_until_one_ttl_after_a_gateway_gap(
    node: FakeNode, serving: float, last_beat: float, lost: list[str]
) -> None:
    expire_lease(node, seconds_ago=60)
    serving_since(serving, pulsed_ago=last_beat)
    assert mark_lost_nodes() == lost


def test_no_node_is_lost_without_a_gateway_row(node: FakeNode) -> None:
    expire_lease(node)
    Gateway.objects.all().delete()
    assert mark_lost_nodes() == []


def test_node_that_stopped_after_a_gateway_gap_is_lost_at_once(node: FakeNode) -> None:
    expire_lease(node)
    Lease.objects.update(renewed_at=ago(4))
    serving_since(5.0)
    assert mark_lost_nodes() == ["node-1"]


def test_gateway_serving_since_is_reset_only_after_a_gap_in_its_pulses() -> None:
    serving_since(3600, pulsed_ago=2)
    execute(record_gateway_alive(timing(), GATEWAY_ID))
    assert Gateway.objects.get().serving_since < ago(3000)
    serving_since(3600, pulsed_ago=3.1)
    execute(record_gateway_alive(timing(), GATEWAY_ID))
    assert Gateway.objects.get().serving_since > ago(5)


def test_no_silence_counts_while_the_gateway_is_overloaded(node: FakeNode) -> None:
    serving_since(3600)
    expire_lease(node, seconds_ago=60)
    execute(record_gateway_alive(timing(), GATEWAY_ID, overloaded=True))
    assert mark_lost_nodes() == []
    serving_since(31.0)
    assert mark_lost_nodes() == ["node-1"]


OTHER = UUID(int=2)


def test_a_frozen_gateway_loses_no_node_within_one_ttl(node: FakeNode) -> None:
    """Another gateway is fit all the while, but the node may reach this one only."""
    serving_since(3600, gateway=OTHER)
    expire_lease(node)
    serving_since(3600, pulsed_ago=29)
    assert mark_lost_nodes() == []
    serving_since(3600, pulsed_ago=32)  # one TTL after it was seen to be frozen
    assert mark_lost_nodes() == []
    serving_since(3600, pulsed_ago=33.1)
    assert mark_lost_nodes() == ["node-1"]


def test_node_is_not_lost_before_its_restarted_gateway_could_hear_from_it(node: FakeNode) -> None:
    serving_since(3600, gateway=OTHER)
    expire_lease(node)
    serving_since(0.5)
    assert mark_lost_nodes() == []
    Lease.objects.update(renewed_at=ago(0.2))
    assert mark_lost_nodes() == ["node-1"]  # it has, and the lease ended all the same


def test_a_flapping_gateway_delays_the_loss_of_its_nodes_by_one_ttl_at_most(node: FakeNode) -> None:
    expire_lease(node, seconds_ago=29)
    serving_since(0.5)
    serving_since(61, gateway=OTHER)
    assert mark_lost_nodes() == []
    expire_lease(node, seconds_ago=31)
    serving_since(59, gateway=OTHER)
    assert mark_lost_nodes() == []  # no gateway has served for long
    serving_since(61, gateway=OTHER)
    assert mark_lost_nodes() == ["node-1"]


def test_a_gateway_that_left_in_order_does_not_delay_the_loss_of_a_node(node: FakeNode) -> None:
    serving_since(3600, gateway=OTHER)
    expire_lease(node)
    serving_since(3600, pulsed_ago=5)
    execute(record_gateway_left(GATEWAY_ID))
    assert mark_lost_nodes() == ["node-1"]


def test_a_pulse_updates_only_the_row_of_its_gateway(node: FakeNode) -> None:
    serving_since(3600, pulsed_ago=10)
    execute(record_gateway_alive(timing(), OTHER, host="b", pid=7))
    assert Gateway.objects.get(pk=GATEWAY_ID).pulsed_at < ago(9)
    row = Gateway.objects.get(pk=OTHER)
    assert (row.host, row.pid, row.serving_since > ago(5)) == ("b", 7, True)


def test_node_from_a_frozen_gateway_gets_a_whole_lease_from_another(node: FakeNode) -> None:
    serving_since(3600, pulsed_ago=25)
    serving_since(3600, gateway=OTHER)
    Lease.objects.update(expires_at=ago(-5))
    assert node.beat(gateway=OTHER, unheard_s=25.0).renewed
    assert left_s() > 29
    assert lease().gateway_id == OTHER


def test_gateway_pulse_in_the_future_counts_as_a_gap(node: FakeNode) -> None:
    expire_lease(node, seconds_ago=60)
    serving_since(3600, pulsed_ago=-60)
    assert mark_lost_nodes() == []
    assert Gateway.objects.get().pulsed_at < ago(3)


def test_next_expiry_considers_living_nodes_only(node: FakeNode) -> None:
    lose(node)
    assert execute(next_expiry()) is None
    make_node("node-2")
    in_s = execute(next_expiry())
    assert in_s is not None
    assert timedelta(seconds=29) < timedelta(seconds=in_s) <= timedelta(seconds=30)


def test_a_lease_that_is_overdue_does_not_hide_the_next_expiry(node: FakeNode) -> None:
    make_node("node-2")
    Lease.objects.filter(node=node.row).update(expires_at=ago(5))  # spared: its gateway failed
    in_s = execute(next_expiry())
    assert in_s is not None
    assert 29 < in_s <= 30
