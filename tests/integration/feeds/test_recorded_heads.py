"""The head of a recorded feed: no commit goes beyond it, and its records say who is late."""

from __future__ import annotations

import pytest

from portfolios.models import FeedRecord, FeedWriter
from scheduling.db.transaction import execute
from scheduling.enact.stalls import mark_behind, mark_stalls
from scheduling.models import Run
from scheduling.observe.desired_set import desired_set
from scheduling.observe.fleet_view.read import read_portfolio
from scheduling.operations.feeds import NewInstrument, append_rows, create_feed
from scheduling.timing import timing
from tests.support.factories import OwnerSession, ago, make_node, make_trader, serving_since

pytestmark = pytest.mark.django_db


@pytest.fixture
def hand() -> OwnerSession:
    """Return a portfolio at seq 0 of a feed with five records of now."""
    create_feed("live", [NewInstrument("KO")], actor="test")
    hand = make_trader("p", make_node("node-1"), events=0, feed="live")
    serving_since(3600)
    append_trades(range(5))
    return hand


def append_trades(minutes: range, price: int = 60) -> None:
    rows = [
        {"symbol": "KO", "time": f"2026-11-02T10:{minute:02}:00Z", "price": price, "quantity": 1}
        for minute in minutes
    ]
    append_rows("live", rows)


def make_older(seconds: float) -> None:
    us = int(ago(seconds).timestamp() * 1e6)
    FeedRecord.objects.update(released_us=us)
    FeedWriter.objects.update(released_us=us, released_at=ago(seconds))
    serving_since(3600)  # on a busy machine the pulse of the fixture is too old by now


def test_a_commit_up_to_the_head_is_accepted_and_one_beyond_it_is_refused(
    hand: OwnerSession,
) -> None:
    assert hand.run().last_seq == 0
    answer = hand.send(hand.next_commit(6))
    assert (answer.answer, hand.run().last_seq) == ("conflict", 0)
    assert "were not released" in answer.detail
    assert hand.commit(5) == "ok"


def test_a_commit_computed_from_records_that_the_database_lost_is_refused(
    hand: OwnerSession,
) -> None:
    of_the_lost = hand.next_commit(3)
    FeedRecord.objects.filter(seq__gt=1).delete()  # as a database promoted without them
    FeedWriter.objects.update(head=1)
    assert hand.send(of_the_lost).answer == "conflict"
    append_trades(range(10, 12), price=61)  # under the numbers of the lost ones
    answer = hand.send(of_the_lost)
    assert (answer.answer, hand.run().last_seq) == ("conflict", 0)
    assert "were not released" in answer.detail
    assert hand.commit(1) == "ok"  # the record that was kept
    assert hand.commit(2) == "ok"


def test_commit_of_events_without_the_hash_of_the_last_record_is_refused(
    hand: OwnerSession,
) -> None:
    assert hand.commit(2, record=b"") == "conflict"
    assert hand.commit(0, record=b"") == "ok"  # it has no event
    FeedWriter.objects.update(released_at=ago(-3600))  # by the clock of the primary that is gone
    assert hand.commit(2, record=b"") == "conflict"


def test_lag_counts_the_records_of_its_own_feed(hand: OwnerSession) -> None:
    shown = read_portfolio("p")
    assert shown is not None
    assert (shown.feed, shown.lag_events) == ("live", 5)
    hand.commit(2)
    shown = read_portfolio("p")
    assert shown is not None
    assert shown.lag_events == 3


def test_a_portfolio_whose_next_record_is_stale_is_behind_until_it_commits_it(
    hand: OwnerSession,
) -> None:
    execute(mark_behind(timing()))
    assert hand.run().behind_since is None
    make_older(10)
    execute(mark_behind(timing()))
    assert hand.run().behind_since is not None
    hand.commit(5)
    execute(mark_behind(timing()))
    assert hand.run().behind_since is None


def test_a_portfolio_with_an_unhandled_old_record_is_stalled_and_one_of_a_quiet_feed_is_not(
    hand: OwnerSession,
) -> None:
    Run.objects.update(last_commit_at=ago(600))
    execute(mark_stalls(timing()))
    assert hand.run().stalled_at is None  # its records are of now
    make_older(300)
    execute(mark_stalls(timing()))
    assert hand.run().stalled_at is not None
    hand.commit(5)
    Run.objects.update(last_commit_at=ago(600))
    execute(mark_stalls(timing()))
    assert hand.run().stalled_at is None  # no event waits


def test_the_desired_set_says_that_the_feed_is_recorded(hand: OwnerSession) -> None:
    found = execute(desired_set(hand.daemon.row.pk))
    assert found is not None
    kinds = {feed.name: (feed.kind, len(feed.segments)) for feed in found.feeds}
    assert kinds == {"replay": ("replay", 1), "live": ("recorded", 0)}
    assert [entry.feed for entry in found.entries] == ["live"]
