"""Models of a feed: the identity and length of its log, and its rates over time."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from portfolios.models.fields import PriceField
from portfolios.runtime.events import MAX_SCALE


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


class Instrument(models.Model):
    """A symbol of a feed: in which steps its prices move, and with how many places they are kept.

    The scale never changes: recorded prices are integers of it.
    """

    feed = models.ForeignKey(FeedRow, on_delete=models.CASCADE, related_name="instruments")
    symbol = models.CharField(max_length=24)
    scale = models.PositiveSmallIntegerField(
        help_text="Decimal places of its prices: they are kept as integers."
    )
    tick_size = PriceField(
        help_text="The step between two prices; every price is a multiple of it."
    )
    lot = PriceField(default=1, help_text="The unit in which volumes are counted.")
    currency = models.CharField(max_length=12, blank=True, default="")

    class Meta:
        ordering = ["feed_id", "symbol"]
        constraints = [
            models.UniqueConstraint(fields=["feed", "symbol"], name="instrument_once"),
            models.CheckConstraint(
                condition=Q(scale__lte=MAX_SCALE, tick_size__gt=0, lot__gt=0),
                name="instrument_in_range",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} of {self.feed}"
