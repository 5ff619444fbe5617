"""Registration of a replay feed: its first event, and changes of its rate."""

from __future__ import annotations

from datetime import timedelta

import pytest

from portfolios.feed_registration import (
    FeedDiffers,
    current_head,
    database_now,
    ensure_feed,
    microseconds,
    read_segments,
)
from portfolios.feeds.clock import head_at, release_us
from portfolios.models import FeedRow, FeedSegment

pytestmark = pytest.mark.django_db


def test_a_feed_begins_at_its_first_event_and_a_second_registration_changes_nothing() -> None:
    assert current_head("replay") == 0
    row = ensure_feed(100)
    assert (row.name, row.length) == ("replay", 92_120)
    (segment,) = read_segments(row)
    assert (segment.from_seq, segment.rate) == (1, 100)
    assert current_head("replay") >= 1
    ensure_feed(100)
    assert read_segments(row) == [segment]


def test_new_rate_of_a_feed_begins_at_its_head_and_changes_no_earlier_release_time() -> None:
    row = ensure_feed(100)
    FeedSegment.objects.update(from_time="2026-01-01T00:00:00Z")
    before = read_segments(row)
    ensure_feed(250)
    after = read_segments(row)
    assert [segment.rate for segment in after] == [100, 250]
    head = after[1].from_seq
    assert head > 1_000_000
    assert release_us(before, 777) == release_us(after, 777)
    assert release_us(before, head) == release_us(after, head)


def test_other_data_under_the_name_of_a_registered_feed_is_refused() -> None:
    ensure_feed(100)
    FeedRow.objects.update(sha256="0" * 64)
    with pytest.raises(FeedDiffers, match="install that data"):
        ensure_feed(100)


def test_change_of_a_feed_rate_is_announced_before_it_begins() -> None:
    # What a node stamps by the old rate, before it heard, must not become wrong afterwards.
    row = ensure_feed(100)
    FeedSegment.objects.update(from_time=database_now() - timedelta(seconds=100))
    before = read_segments(row)
    now_us = microseconds(database_now())
    ensure_feed(0)
    after = read_segments(row)
    assert 900_000 < after[1].from_time_us - now_us < 2_000_000
    heard_late = head_at(before, now_us + 900_000)
    assert release_us(after, heard_late) == release_us(before, heard_late)


def test_new_rate_of_a_paused_feed_begins_at_once() -> None:
    row = ensure_feed(0)
    FeedSegment.objects.update(from_time=database_now() - timedelta(seconds=100))
    ensure_feed(100)
    assert read_segments(row)[1].from_time_us <= microseconds(database_now())


def test_second_rate_change_of_a_feed_never_begins_before_the_first() -> None:
    row = ensure_feed(100)
    ensure_feed(0)
    ensure_feed(50)
    begins = [segment.from_time_us for segment in read_segments(row)]
    assert begins == sorted(begins)
