"""Register the feed in the database, and set the rate at which it releases events."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection, transaction

from portfolios.feeds import UnknownFeed, feed_names, open_feed
from portfolios.feeds.clock import Segment, head_at
from portfolios.models import FeedKind, FeedRow, FeedSegment, Instrument

#: Delay of a rate change. A node that does not know of it continues with the old rate, and the
#: release times that it stamps and commits would differ from the log permanently. Without pushes a
#: node learns of it in the response to its next commit, after half a second at most.
RATE_CHANGE_DELAY = timedelta(seconds=1)


class FeedDiffers(Exception):
    """The installed data is not the log that was traded on. The text names the remedy."""


def ensure_feed(rate: float, name: str | None = None) -> FeedRow:
    """Let the feed run at `rate` events a second, and return its row. Idempotent.

    A new feed begins at seq 1 now. A change of the rate appends a segment. It begins after
    RATE_CHANGE_DELAY, so that no released event changes its time; after a pause it begins at once.
    Raise FeedDiffers if the hash of the installed data is not that of the row: every seq would mean
    another event.
    """
    feed = open_feed(name)
    with transaction.atomic():
        FeedRow.objects.get_or_create(
            name=feed.name, defaults={"sha256": feed.sha256, "length": feed.length}
        )
        # The row is the lock: two concurrent starts must not append two segments.
        row = FeedRow.objects.select_for_update().get(name=feed.name)
        if row.sha256 != feed.sha256:
            raise FeedDiffers(
                f"The installed data of the feed {row.name} has the hash {feed.sha256[:12]}…, but "
                f"the feed was created from data with the hash {row.sha256[:12]}…: install that "
                "data again."
            )
        now = database_now()
        segments = read_segments(row)
        if not segments:
            FeedSegment.objects.create(feed=row, from_seq=1, from_time=now, rate=rate)
        elif segments[-1].rate != rate:
            at = rate_change_time(segments, now)
            head = head_at(segments, microseconds(at))
            FeedSegment.objects.create(feed=row, from_seq=head, from_time=at, rate=rate)
    return row


def feed_symbols(name: str | None) -> frozenset[str]:
    """Return the symbols of a feed, by default of the packaged one. Raise UnknownFeed."""
    if name is None or name in feed_names():
        return frozenset(open_feed(name).symbols)
    if not FeedRow.objects.filter(name=name, kind=FeedKind.RECORDED).exists():
        raise UnknownFeed(name)
    return frozenset(Instrument.objects.filter(feed__name=name).values_list("symbol", flat=True))


def rate_change_time(segments: list[Segment], now: datetime) -> datetime:
    """Return when another rate may begin: after every node can know of it. Pure."""
    newest = segments[-1]
    begins = datetime.fromtimestamp(0, now.tzinfo) + timedelta(microseconds=newest.from_time_us)
    is_paused = newest.rate == 0 and begins <= now  # nothing is released at its old rate
    return now if is_paused else max(now + RATE_CHANGE_DELAY, begins)


def current_head(name: str) -> int:
    """Return the newest released seq of a feed; 0 if there is no such feed or it has not begun."""
    row = FeedRow.objects.filter(name=name).select_related("writer").first()
    if row is not None and row.kind == FeedKind.RECORDED:
        return row.writer.head
    segments = read_segments(row) if row else []
    return max(head_at(segments, microseconds(database_now())), 0) if segments else 0


def read_segments(row: FeedRow) -> list[Segment]:
    """Return the feed's segments, oldest first. One statement.

    From each segment's first seq on, events are released at its rate.
    """
    return [
        Segment(segment.from_seq, microseconds(segment.from_time), segment.rate)
        for segment in row.segments.order_by("id")
    ]


def database_now() -> datetime:
    """Return the time of the database, the only clock of the fleet."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


def microseconds(at: datetime) -> int:
    """Return µs since the epoch, exactly: a float of seconds would round the last digit."""
    return int(at.replace(microsecond=0).timestamp()) * 1_000_000 + at.microsecond
