"""Models of a feed: the identity and length of its log, and its rates over time."""

from __future__ import annotations

from django.db import models


class FeedRow(models.Model):
    """One market-data log. Its events are stored outside the database; the hash identifies them."""

    name = models.SlugField(max_length=60, unique=True)
    sha256 = models.CharField(max_length=64)
    length = models.BigIntegerField(
        help_text="Events in one lap; a replay starts again after the last."
    )

    class Meta:
        db_table = "portfolios_feed"
        verbose_name = "feed"

    def __str__(self) -> str:
        return self.name


class FeedSegment(models.Model):
    """From `from_seq` on, since `from_time`, the feed runs at `rate` events a second. Append-only.

    The head is from_seq + floor((now - from_time) * rate) of the last segment. A change of rate
    appends a segment at the current head, so that no event changes its release time.
    """

    feed = models.ForeignKey(FeedRow, on_delete=models.CASCADE, related_name="segments")
    from_seq = models.BigIntegerField()
    from_time = models.DateTimeField()
    rate = models.FloatField(help_text="Events a second; 0 pauses the feed.")

    class Meta:
        ordering = ["feed_id", "id"]

    def __str__(self) -> str:
        return f"{self.feed}: {self.rate:g} events/s from seq {self.from_seq}"
