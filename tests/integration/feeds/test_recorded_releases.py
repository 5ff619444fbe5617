"""Binary searches in a feed for when records were released."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from portfolios.models import FeedRecord, FeedWriter
from portfolios.recorded_releases import released_at, released_to
from scheduling.operations.feeds import create_feed

pytestmark = pytest.mark.django_db


def make_feed(times: list[int], first_seq: int = 1) -> int:
    feed = create_feed("fx", [], actor="test")
    seqs = range(first_seq, first_seq + len(times))
    FeedRecord.objects.bulk_create(
        FeedRecord(feed=feed, seq=seq, symbol="", time_us=0, released_us=us, event=b"")
        for seq, us in zip(seqs, times, strict=True)
    )
    FeedWriter.objects.update(head=first_seq + len(times) - 1, first_seq=first_seq)
    return feed.pk


@pytest.mark.parametrize("first_seq", [1, 5_000])
@pytest.mark.parametrize("times", [[], [10], [10, 10], [10, 20, 20, 20, 30], list(range(100))])
def test_released_to_returns_the_newest_seq_released_by_a_time(
    times: list[int], first_seq: int
) -> None:
    feed = make_feed(times, first_seq)
    for at in (0, 9, 10, 11, 20, 29, 30, 31, 98, 99, 100):
        wanted = first_seq - 1 + sum(time <= at for time in times)
        assert released_to(feed, at) == wanted


def test_seqs_without_a_stored_record_count_as_released_with_the_record_before_them() -> None:
    feed = make_feed([10, 20, 30])  # seqs 1, 2, 3
    FeedRecord.objects.filter(seq=3).update(seq=50)
    FeedRecord.objects.filter(seq=2).update(seq=20)
    FeedWriter.objects.update(head=70)
    found = [released_to(feed, at) for at in (0, 9, 10, 19, 20, 29, 30, 99)]
    assert found == [0, 0, 19, 19, 49, 49, 70, 70]


def test_released_to_uses_a_binary_search() -> None:
    feed = make_feed(list(range(4_000)))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE portfolios_feedrecord")
    with CaptureQueriesContext(connection) as asked:
        assert released_to(feed, 3_000) == 3_001
    (query,) = asked.captured_queries
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + query["sql"])
        lines = [line for (line,) in cursor.fetchall() if "portfolios_feedrecord" in line]
    assert len(lines) == 2  # the second for what follows the record that was found
    for line in lines:
        loops = re.search(r"Index (?:Only )?Scan .*rows=1(?:\.00)? loops=(\d+)\)", line)
        assert loops is not None and int(loops[1]) <= 12


def test_release_time_of_a_dropped_record_is_that_of_the_oldest_kept_one() -> None:
    feed = make_feed([10_000_000, 20_000_000], first_seq=7)
    assert released_at(feed, 3) == released_at(feed, 7) == datetime.fromtimestamp(10, UTC)
    assert released_at(feed, 8) == datetime.fromtimestamp(20, UTC)
    assert released_at(feed, 9) is None
