"""The feed's rows: begun once, and a change of speed that changes no event's time."""

from __future__ import annotations

import pytest

from portfolios.feeds.clock import release_us
from portfolios.feeds_setup import FeedDiffers, current_head, ensure_feed, segments_of
from portfolios.models import FeedRow, FeedSegment

pytestmark = pytest.mark.django_db


def test_a_feed_begins_at_its_first_event() -> None:
    row = ensure_feed(100)
    assert (row.name, row.length) == ("replay", 92_120)
    (segment,) = segments_of(row)
    assert (segment.from_seq, segment.rate) == (1, 100)
    assert current_head("replay") >= 1


def test_a_feed_that_was_begun_goes_on() -> None:
    ensure_feed(100)
    before = FeedSegment.objects.values().get()
    ensure_feed(100)
    assert FeedSegment.objects.values().get() == before


def test_another_rate_begins_at_the_present_head_and_moves_no_event() -> None:
    row = ensure_feed(100)
    FeedSegment.objects.update(from_time="2026-01-01T00:00:00Z")
    before = segments_of(row)
    ensure_feed(250)
    after = segments_of(row)
    assert [segment.rate for segment in after] == [100, 250]
    head = after[1].from_seq
    assert head > 1_000_000
    assert release_us(before, 777) == release_us(after, 777)
    assert release_us(before, head) == release_us(after, head)


def test_without_a_feed_the_head_is_zero() -> None:
    assert current_head("replay") == 0


def test_other_data_under_the_same_name_is_refused() -> None:
    ensure_feed(100)
    FeedRow.objects.update(sha256="0" * 64)
    with pytest.raises(FeedDiffers, match="install that data"):
        ensure_feed(100)
