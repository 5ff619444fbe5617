"""Models of a feed: the identity and length of its log, and its rates over time."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from portfolios.models.fields import PriceField
from portfolios.runtime.events import MAX_SCALE


class FeedKind(models.TextChoices):
    """Where the events of a feed come from."""

    REPLAY = "replay"  #: packaged bars, released at a rate; the hash identifies them
    RECORDED = "recorded"  #: a log that grows, released as it is recorded


class FeedRow(models.Model):
    """One market-data log: its events are packaged (replay), or in FeedRecord or a stream."""

    name = models.SlugField(max_length=60, unique=True)
    kind = models.CharField(
        max_length=8,
        choices=FeedKind.choices,
        default=FeedKind.REPLAY,
        db_default=FeedKind.REPLAY.value,
    )
    silent_after_s = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="An alert opens after so many seconds without a record; empty: never.",
    )
    keep_days = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Days after which records are dropped, once not needed; empty: never.",
    )
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
    appends a segment that begins shortly ahead, so that no released event changes its time.
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
        help_text="Decimal places of the prices, which are stored as integers."
    )
    tick_size = PriceField(
        help_text="The step between two prices; every price is a multiple of it."
    )
    lot = PriceField(default=1, help_text="The unit in which volumes are counted.")
    currency = models.CharField(max_length=12, blank=True, default="")
    last_us = models.BigIntegerField(null=True)  # time of its newest record; by the append

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


class FeedWriter(models.Model):
    """The writer and the head of a recorded feed. Only `enact/feed_records/` writes it.

    Every append is conditional on the epoch and the head, so this row is the fence of the log.
    """

    feed = models.OneToOneField(
        FeedRow, on_delete=models.CASCADE, primary_key=True, related_name="writer"
    )
    epoch = models.BigIntegerField(default=0)
    writer = models.CharField(max_length=150, blank=True, default="")  # empty: anyone may append
    head = models.BigIntegerField(default=0)
    released_us = models.BigIntegerField(default=0)  # release time of the head
    released_at = models.DateTimeField()  # when this row got its head, by the database's clock
    first_seq = models.BigIntegerField(default=1)  # older records are dropped
    chain = models.BinaryField()  # the hash chain after the head
    cursor = models.TextField(blank=True, default="")
    #: Its records are in a stream of JetStream. Then this row follows the newest message of the
    #: stream, rows of `FeedRecord` have no event, and mark about one record a second.
    in_stream = models.BooleanField(default=False, db_default=False)

    def __str__(self) -> str:
        return f"{self.feed} at seq {self.head}"


class FeedRecord(models.Model):
    """One event of a recorded feed, encoded with its seq and release time. Never changes."""

    pk = models.CompositePrimaryKey("feed", "seq")
    # No constraint in the database: a feed is removed at once, and its millions of records are
    # dropped afterwards.
    feed = models.ForeignKey(
        FeedRow, on_delete=models.DO_NOTHING, related_name="+", db_index=False, db_constraint=False
    )
    seq = models.BigIntegerField()
    symbol = models.CharField(max_length=24, blank=True)
    time_us = models.BigIntegerField()
    released_us = models.BigIntegerField()
    event = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.feed_id} seq {self.seq} {self.symbol}".rstrip()


class FeedDigest(models.Model):
    """The hash chain of a recorded feed after a whole segment (`feeds/log.py`)."""

    pk = models.CompositePrimaryKey("feed", "segment")
    feed = models.ForeignKey(FeedRow, on_delete=models.CASCADE, related_name="+", db_index=False)
    segment = models.BigIntegerField()
    digest = models.BinaryField()

    def __str__(self) -> str:
        return f"hash chain of {self.feed} after segment {self.segment}"


class FeedAppend(models.Model):
    """An append with its source id, so that a repeat gets the same answer and writes nothing."""

    pk = models.CompositePrimaryKey("feed", "source", "number")
    feed = models.ForeignKey(FeedRow, on_delete=models.CASCADE, related_name="+", db_index=False)
    source = models.CharField(max_length=80)
    number = models.BigIntegerField()
    sha256 = models.CharField(max_length=64, blank=True, default="")
    from_seq = models.BigIntegerField()
    to_seq = models.BigIntegerField()
    at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.number} of {self.source}"
