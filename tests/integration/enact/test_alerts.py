"""Each cause opens one alert, which closes when the cause is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from portfolios.models import FeedRow, FeedSegment, Revision
from scheduling import operations
from scheduling.enact.alerts import update_alerts
from scheduling.models import Alert, Lease, Node, Run
from scheduling.scheduler import Scheduler
from scheduling.timing import timing
from tests.support.alerts import compare, count_audit_lines, is_open, tick
from tests.support.concurrency import Held, behind
from tests.support.factories import (
    FakeNode,
    ago,
    expire_lease,
    make_node,
    make_portfolio,
    make_settled_nodes,
    make_trader,
    prove_revision,
    serving_since,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def nodes() -> list[FakeNode]:
    return make_settled_nodes(5)


def age_losses() -> None:
    """Let every lost node have been lost for two seconds."""
    Node.objects.filter(status="lost").update(status_since=ago(2))


@pytest.mark.parametrize("way", ["beats", "leaves", "is forgotten"])
def test_lost_node_has_one_alert_until_it_returns_or_is_forgotten(
    nodes: list[FakeNode], way: str
) -> None:
    expire_lease(nodes[0])
    tick()
    age_losses()
    for _ in range(3):
        tick()
    assert is_open("node_lost")
    alert = Alert.objects.get()
    assert (alert.node, alert.times, count_audit_lines()) == (nodes[0].row, 1, 1)
    if way == "beats":
        nodes[0].beat()
    elif way == "leaves":
        Node.objects.filter(name="node-1").update(status="left")
    else:
        operations.forget_node("node-1", actor="ann")
    assert is_open(after=tick)
    assert (count_audit_lines(), count_audit_lines("alert_closed")) == (1, 1)


def test_storm_is_one_alert_not_one_per_node(nodes: list[FakeNode]) -> None:
    for node in nodes[:3]:
        expire_lease(node)
    tick()
    age_losses()
    assert is_open("storm_hold", after=tick)
    assert Alert.objects.get().reason == ("3 of 5 nodes were lost within 30 s, so failover is held")
    operations.release_storm(actor="ann")
    nodes[0].beat()
    assert is_open("node_lost", "node_lost", after=tick)


def test_quarantine_has_an_alert_until_it_is_lifted(nodes: list[FakeNode]) -> None:
    hand = make_trader("p", nodes[0])
    prove_revision(hand.portfolio)
    for _ in range(5):
        hand.die()
    assert is_open("quarantined", after=tick)
    assert "boom" in Alert.objects.get().reason
    operations.start("p", actor="ann")
    assert is_open(after=tick)


def test_halted_portfolio_has_an_alert_until_it_is_started(nodes: list[FakeNode]) -> None:
    hand = make_trader("p", nodes[0])
    Run.objects.filter(pk=hand.portfolio.pk).update(
        phase="halted", node=None, incarnation=None, reason="stopped before seq 3"
    )
    assert compare() == [("alert_opened", "halted")]
    operations.start("p", actor="ann")
    assert compare() == [("alert_closed", "halted")]


def test_stalled_portfolio_has_an_alert_until_it_progresses(nodes: list[FakeNode]) -> None:
    hand = make_trader("p", nodes[0])
    FeedSegment.objects.update(from_time=ago(3600))
    Run.objects.update(last_commit_at=ago(31))
    assert is_open("stalled", after=tick)
    assert "while events wait, limit 30 s" in Alert.objects.get().reason
    hand.commit(1)
    assert is_open(after=tick)


def test_no_portfolio_is_stalled_while_the_gateway_is_unreachable(nodes: list[FakeNode]) -> None:
    make_trader("p", nodes[0])
    FeedSegment.objects.update(from_time=ago(3600))
    Run.objects.update(last_commit_at=ago(31))
    serving_since(10)
    assert is_open(after=tick)
    serving_since(3600)
    tick()
    serving_since(10)
    assert is_open("stalled", after=tick)  # it has not moved, and we do not know better


def segment(rate: float, began_s_ago: float, *, ahead: int = 0) -> None:
    """Change the feed's rate so long ago, `ahead` events behind the newest commit."""
    last = Run.objects.get().last_seq
    FeedSegment.objects.create(
        feed=FeedRow.objects.get(), from_seq=last + ahead, rate=rate, from_time=ago(began_s_ago)
    )


@pytest.mark.parametrize(("began_s_ago", "stands"), [(20.0, False), (31.0, True)])
def test_stall_counts_from_the_first_event_after_a_quiet_hour(
    nodes: list[FakeNode], began_s_ago: float, stands: bool
) -> None:
    make_trader("p", nodes[0])
    segment(0, 3600)
    segment(100, began_s_ago)
    Run.objects.update(last_commit_at=ago(3600))
    assert is_open(*["stalled"] * stands, after=tick)


@pytest.mark.parametrize("rate", [0, 300])
def test_announced_rate_change_does_not_stall_a_waiting_portfolio(
    nodes: list[FakeNode], rate: float
) -> None:
    make_trader("p", nodes[0])
    segment(0.001, 100)  # an event in a quarter of an hour
    segment(rate, -1, ahead=1)
    Run.objects.update(last_commit_at=ago(100))
    assert is_open(after=tick)


@pytest.mark.parametrize(("rate", "began_s_ago"), [(0, 5), (300, -1)])
def test_stalled_portfolio_stays_stalled_when_the_rate_changes(
    nodes: list[FakeNode], rate: float, began_s_ago: float
) -> None:
    hand = make_trader("p", nodes[0])
    segment(1, 100)
    Run.objects.update(last_commit_at=ago(100))
    assert is_open("stalled", after=tick)
    since = hand.run().stalled_at
    segment(rate, began_s_ago, ahead=101 - int(began_s_ago))
    assert is_open("stalled", after=tick)
    assert (hand.run().stalled_at, count_audit_lines("alert_closed")) == (since, 0)


def test_pending_alert_opens_after_two_passes(nodes: list[FakeNode]) -> None:
    portfolio = make_portfolio("p", selector={"gpu": "yes"})
    assert is_open(after=tick)
    Run.objects.filter(pk=portfolio.pk).update(phase_since=ago(21))
    assert is_open("pending", after=tick)
    assert "needs gpu=yes" in Alert.objects.get().reason
    operations.stop("p", actor="ann")
    assert is_open(after=tick)


def test_portfolio_that_cannot_fail_over_has_a_pending_alert(nodes: list[FakeNode]) -> None:
    for node in nodes[1:]:
        operations.cordon(node.name, actor="ann")
    make_trader("p", nodes[0])
    make_trader("q", make_node("node-6", capacity=1))
    expire_lease(nodes[0])
    tick()
    Node.objects.filter(status="lost").update(status_since=ago(21))
    assert is_open("node_lost", "pending", after=tick)


def test_rejected_revision_has_an_alert_until_it_is_replaced(nodes: list[FakeNode]) -> None:
    prove_revision(make_trader("p", nodes[0]).portfolio)
    operations.revise_portfolio("p", {"limits": {"largest_order": "5"}}, actor="ann")
    Revision.objects.filter(number=2).update(status="rejected", status_reason="KeyError: VIX")
    assert is_open("revision_rejected", after=compare)
    assert Alert.objects.get().reason == "r2 was rejected: KeyError: VIX"
    operations.revise_portfolio("p", {"limits": {"largest_order": "6"}}, actor="ann")
    assert is_open(after=compare)


@pytest.mark.parametrize("close", [operations.cordon, operations.drain])
def test_fleet_without_open_nodes_has_one_alert(
    nodes: list[FakeNode], close: Callable[..., Any]
) -> None:
    portfolio = make_portfolio("p")
    for node in nodes:
        assert is_open()
        close(node.name, actor="ann")
        tick()
    assert is_open("no_open_node")
    Run.objects.filter(pk=portfolio.pk).update(phase="pending", phase_since=ago(60))
    assert is_open("no_open_node", after=tick)  # the pending ones have the same cause
    operations.uncordon("node-3", actor="ann")
    operations.undrain("node-3", actor="ann")
    assert is_open(after=tick)


def back_and_gone(daemon: FakeNode, away_s: float) -> None:
    """Let the node beat for `away_s`, as the alert counts it, and be lost again."""
    daemon.beat()
    compare()
    Alert.objects.filter(gone_at__isnull=False).update(gone_at=ago(away_s))
    compare()
    Lease.objects.filter(node=daemon.row).update(expires_at=ago(1))
    Node.objects.filter(pk=daemon.row.pk).update(status="lost", status_since=ago(2))
    compare()


def test_recurring_cause_reopens_one_alert(nodes: list[FakeNode]) -> None:
    Node.objects.filter(name="node-1").update(status="lost", status_since=ago(2))
    Lease.objects.filter(node=nodes[0].row).update(expires_at=ago(1))
    compare()
    for _ in range(6):
        back_and_gone(nodes[0], 40)
    # Open, closed at once; again, closed after 30 s; again, and from now on 40 s are too short.
    assert (Alert.objects.count(), Alert.objects.get().times, count_audit_lines()) == (1, 3, 3)
    nodes[0].beat()
    assert is_open("node_lost", after=compare)
    Alert.objects.update(gone_at=ago(61))
    assert is_open(after=compare)


def test_same_cause_after_ten_minutes_is_a_new_alert(nodes: list[FakeNode]) -> None:
    Node.objects.filter(name="node-1").update(status="lost", status_since=ago(2))
    compare()
    nodes[0].beat()
    Node.objects.filter(name="node-1").update(status="alive")
    compare()
    Alert.objects.update(closed_at=ago(601))
    Node.objects.filter(name="node-1").update(status="lost", status_since=ago(2))
    compare()
    assert sorted(Alert.objects.values_list("times", flat=True)) == [1, 1]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["opening", "reopening", "closing"])
def test_two_concurrent_watchers_open_one_alert(what: str) -> None:
    for number in range(10):
        make_node(f"node-{number}")
    if what != "opening":
        Node.objects.update(status="lost", status_since=ago(2))
        compare()
    if what == "reopening":
        Node.objects.update(status="alive")
        compare()
    before = count_audit_lines(), count_audit_lines("alert_closed")
    Node.objects.update(status="alive" if what == "closing" else "lost", status_since=ago(2))

    second = behind(Held(update_alerts(timing())), Scheduler("w").raise_alerts)
    assert not isinstance(second, Exception), second
    compare()
    opened, closed = count_audit_lines() - before[0], count_audit_lines("alert_closed") - before[1]
    assert (opened, closed) == ((0, 10) if what == "closing" else (10, 0))
    assert Alert.objects.count() == 10


def test_portfolios_pending_for_one_cause_share_an_alert(nodes: list[FakeNode]) -> None:
    for number in range(12):
        make_portfolio(f"p-{number:02}", selector={"gpu": "yes"})
    make_portfolio("q", selector={"zone": "nowhere"}, priority=5)
    tick()
    Run.objects.update(phase_since=ago(21))
    assert is_open("pending", after=tick)
    alert = Alert.objects.get()
    assert "13 portfolios are pending: q, p-00, p-01 and 10 more; " in alert.reason
    assert "zone=nowhere" in alert.reason
    assert alert.portfolio is None
    for number in range(12):
        operations.stop(f"p-{number:02}", actor="ann")
    assert is_open("pending", after=tick)
    assert Alert.objects.filter(pk=alert.pk, portfolio__name="q").exists()
    assert count_audit_lines("alert_opened") == 1
