"""A node that learned late of a pause or a new rate commits no event that was not released."""

from __future__ import annotations

from datetime import datetime

import pytest

from portfolios.feed_registration import microseconds
from portfolios.models import FeedRow, FeedSegment, Order
from scheduling import operations
from scheduling.models import Node
from scheduling.wire.messages import OrderLine
from tests.support.factories import OwnerSession, ago, make_node, make_trader, newest_handoff

pytestmark = pytest.mark.django_db


@pytest.fixture
def hand() -> OwnerSession:
    """Return the session of node-1 as owner of a portfolio at seq 20 of a running feed."""
    hand = make_trader("p", make_node("node-1"), events=0)
    FeedSegment.objects.update(from_time=ago(60), rate=100.0)
    assert hand.commit(20 - hand.run().last_seq) == "ok"
    return hand


def changed(rate: float, from_seq: int, at: datetime | None = None) -> int:
    """Let the feed have changed its rate at `from_seq`; return when, in µs."""
    segment = FeedSegment.objects.create(
        feed=FeedRow.objects.get(), from_seq=from_seq, from_time=at or ago(1), rate=rate
    )
    return microseconds(segment.from_time)


def test_commit_beyond_the_seq_at_which_the_feed_was_paused_is_refused(hand: OwnerSession) -> None:
    changed(0.0, from_seq=23)
    Node.objects.update(desired_version=77)
    line = OrderLine(24, 0, "IBM", "buy", "1", "1", "open", "", 10**15)
    answer = hand.send(hand.next_commit(4, orders=[line]))
    assert (answer.answer, answer.version) == ("conflict", 77)
    assert "the feed has changed" in answer.detail
    assert (hand.run().last_seq, Order.objects.count()) == (20, 0)
    assert hand.commit(3) == "ok"
    assert hand.commit(1) == "conflict"
    assert hand.commit(0) == "ok"


def test_announced_pause_refuses_no_commit_before_it_begins(hand: OwnerSession) -> None:
    changed(0.0, from_seq=23, at=ago(-5))
    assert hand.commit(10) == "ok"


def test_release_with_events_after_a_pause_is_refused(hand: OwnerSession) -> None:
    target = make_node("node-2")
    handoff = operations.migrate("p", "node-2", actor="ann")
    target.ready(handoff)
    changed(0.0, from_seq=20)
    epoch = hand.run().epoch
    assert hand.release(handoff, events=2).answer == "conflict"
    assert (hand.run().epoch, newest_handoff(hand.portfolio).state) == (epoch, "draining")
    assert hand.release(handoff).answer == "handed_over"


@pytest.mark.parametrize("rate", [10.0, 1000.0])
def test_commit_of_events_by_an_earlier_rate_is_refused(hand: OwnerSession, rate: float) -> None:
    (first,) = FeedSegment.objects.all()
    before, now = microseconds(first.from_time), changed(rate, from_seq=23)
    assert hand.commit(4, feed_us=before) == "conflict"
    assert hand.commit(3, feed_us=before) == "ok"  # up to where both say the same
    assert hand.commit(4, feed_us=now) == "ok"
    assert hand.commit(4, feed_us=before) == "conflict"
    assert hand.commit(4) == "ok"  # an older daemon does not say
