"""Portfolios that commit but do not trade: they are behind, or all their orders are refused."""

from __future__ import annotations

from uuid import uuid4

import pytest

from portfolios.models import FeedSegment
from scheduling.db.transaction import execute
from scheduling.enact import alerts
from scheduling.enact.stalls import mark_behind, mark_stalls
from scheduling.models import Alert, Gateway, Run
from scheduling.timing import timing
from scheduling.wire.messages import Commit, OrderLine
from tests.support.alerts import compare, open_alerts
from tests.support.api_client import ApiClient
from tests.support.factories import OwnerSession, ago, make_node, make_trader, serving_since

pytestmark = pytest.mark.django_db


@pytest.fixture
def hand() -> OwnerSession:
    """Return a portfolio that has just committed, on a feed that runs since ten seconds ago."""
    hand = make_trader("p", make_node("node-1"))
    serving_since(3600)
    FeedSegment.objects.update(from_time=ago(10), from_seq=0, rate=100.0)
    return hand


def set_age(hand: OwnerSession, age_s: float) -> None:
    """Let the next event of the portfolio be `age_s` old."""
    seq = int((10 - age_s) * 100)
    Run.objects.filter(pk=hand.portfolio.pk).update(last_seq=seq, state_seq=0)


def is_marked(hand: OwnerSession) -> bool:
    execute(mark_behind(timing()))
    return hand.run().behind_since is not None


def test_portfolio_with_a_stale_next_event_is_marked_behind(hand: OwnerSession) -> None:
    set_age(hand, age_s=4.0)
    assert not is_marked(hand)
    set_age(hand, age_s=6.0)
    assert is_marked(hand)
    since = hand.run().behind_since
    assert is_marked(hand)
    assert hand.run().behind_since == since
    set_age(hand, age_s=1.0)
    assert not is_marked(hand)


def test_nothing_is_marked_behind_while_the_gateway_is_unreachable(hand: OwnerSession) -> None:
    set_age(hand, age_s=6.0)
    serving_since(3600, pulsed_ago=5)
    assert not is_marked(hand)


def test_behind_alert_opens_after_a_minute_and_closes_after_catch_up(hand: OwnerSession) -> None:
    set_age(hand, age_s=6.0)
    assert is_marked(hand)
    assert open_alerts() == {}
    Run.objects.update(behind_since=ago(61), last_commit_at=ago(0))
    assert list(open_alerts()) == ["behind"]
    reason = open_alerts()["behind"]
    assert reason.startswith("p on node-1 has lagged by more than 5 s since ")
    assert "decisions on events that old are not placed" in reason
    set_age(hand, age_s=0.5)
    assert not is_marked(hand)
    assert open_alerts() == {}


def test_portfolio_of_a_node_whose_gateway_is_silent_has_no_behind_alert(
    hand: OwnerSession,
) -> None:
    Run.objects.update(behind_since=ago(61))
    serving_since(3600, gateway=uuid4())
    serving_since(3600, pulsed_ago=30)  # its own: nobody knows how far the portfolio has come
    assert compare() == []
    assert list(open_alerts()) == ["behind"]  # which lets the gateway write


def test_portfolios_behind_on_one_node_share_an_alert(hand: OwnerSession) -> None:
    for name in ("q", "r", "s"):
        make_trader(name, hand.daemon, events=0)
    Run.objects.update(behind_since=ago(61))
    reason = open_alerts()["behind"]
    assert reason.startswith("4 portfolios on node-1 have lagged by more than 5 s since ")
    assert ": p, q, r and 1 more" in reason
    assert Alert.objects.count() == 1


def test_behind_opens_no_alert_while_stalled_or_while_no_commit_succeeds(
    hand: OwnerSession,
) -> None:
    Run.objects.update(behind_since=ago(61))
    Gateway.objects.update(commits_stood_at=ago(0), commits_stand_since=ago(61))
    assert list(open_alerts()) == ["commits_stand"]
    Gateway.objects.update(commits_stood_at=None)
    Run.objects.update(last_commit_at=ago(61), last_seq=1, state_seq=0)
    FeedSegment.objects.update(from_time=ago(3600))
    assert execute(mark_stalls(timing())) == 1
    assert list(open_alerts()) == ["stalled"]


def commit_with_orders(hand: OwnerSession, *statuses: str) -> Commit:
    """Return a commit of one event with an order of each status."""
    seq = hand.run().last_seq + 1
    said = enumerate(statuses)
    lines = [OrderLine(seq, n, "IBM", "buy", "1", "1", status, "", 10**15) for n, status in said]
    return hand.next_commit(1, orders=lines)


def commit_orders(hand: OwnerSession, *statuses: str) -> None:
    assert hand.send(commit_with_orders(hand, *statuses)).answer == "ok"


def count_unplaced(hand: OwnerSession) -> tuple[int, int, int]:
    at = hand.run()
    assert (at.unplaced_orders > 0) == (at.unplaced_since is not None)
    return at.orders_refused, at.orders_suppressed, at.unplaced_orders


def test_commit_counts_orders_refused_or_suppressed_since_one_was_placed(
    hand: OwnerSession,
) -> None:
    commit_orders(hand, "open")
    assert count_unplaced(hand) == (0, 0, 0)
    commit_orders(hand, "refused", "refused", "suppressed")
    assert count_unplaced(hand) == (2, 1, 3)
    since = hand.run().unplaced_since
    assert hand.commit(5) == "ok"
    commit_orders(hand, "refused")
    assert count_unplaced(hand) == (3, 1, 4)
    assert hand.run().unplaced_since == since
    commit_orders(hand, "open", "refused")
    assert count_unplaced(hand) == (4, 1, 1)
    assert hand.run().unplaced_since != since
    commit_orders(hand, "refused", "open")
    assert count_unplaced(hand) == (5, 1, 0)


def test_repeated_commit_counts_its_refused_orders_once(hand: OwnerSession) -> None:
    message = commit_with_orders(hand, "refused")
    assert [hand.send(message).answer for _ in range(3)] == ["ok"] * 3
    assert count_unplaced(hand) == (1, 0, 1)


def test_ten_minutes_in_which_every_order_is_refused_open_an_alert(hand: OwnerSession) -> None:
    for _ in range(alerts.UNPLACED_ORDERS):
        commit_orders(hand, "refused")
    assert "orders_refused" not in open_alerts()
    Run.objects.update(unplaced_since=ago(601))
    assert open_alerts()["orders_refused"].startswith("no order was placed since ")
    Run.objects.update(behind_since=ago(30))  # which would be the cause
    assert "orders_refused" not in open_alerts()
    Run.objects.update(behind_since=None)
    commit_orders(hand, "open")
    assert "orders_refused" not in open_alerts()


def test_api_and_metrics_count_unplaced_orders(hand: OwnerSession, viewer: ApiClient) -> None:
    commit_orders(hand, "refused", "suppressed", "suppressed")
    Run.objects.update(behind_since=ago(7))
    document = viewer.get("portfolios/p/").json()["run"]
    assert (document["orders_refused"], document["orders_suppressed"]) == (1, 2)
    assert document["unplaced_orders"] == 3
    assert document["behind_since"] is not None
    text = viewer.get("metrics/").content.decode()
    assert 'ginkgo_portfolio_orders_unplaced{portfolio="p",status="refused"} 1.0' in text
    assert 'ginkgo_portfolio_orders_unplaced{portfolio="p",status="suppressed"} 2.0' in text
    assert 'ginkgo_portfolio_behind{portfolio="p"} 1.0' in text
