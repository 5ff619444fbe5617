"""Records of commits. Only the fenced commit statement writes these tables.

Orders, fills and equity points are partitioned by their seq (docs/retention.md). They have no
foreign keys in the database: the commit takes the portfolio from the fenced run and the order of a
fill from the orders, and a partition can only be detached from a table without foreign keys to it.
The unique constraints in `class Meta` hold over all partitions, since each contains the seq.
"""

from __future__ import annotations

from django.db import models

from portfolios.models.fields import PriceField
from portfolios.models.portfolio import Portfolio


def _portfolio_of(records: str) -> models.ForeignKey[Portfolio, Portfolio]:
    """Return the foreign key from a partitioned record; `records` names the reverse relation."""
    return models.ForeignKey(
        Portfolio, models.CASCADE, related_name=records, db_index=False, db_constraint=False
    )


class Checkpoint(models.Model):
    """The newest state of a portfolio, after event `seq`.

    The state is msgpack compressed by zstd, stored outside the row (STORAGE EXTERNAL), so that the
    narrow part of the row stays on its page. A commit that changes no state does not write the row.
    """

    portfolio = models.OneToOneField(
        Portfolio, on_delete=models.CASCADE, primary_key=True, related_name="checkpoint"
    )
    epoch = models.BigIntegerField()
    revision = models.PositiveIntegerField()
    seq = models.BigIntegerField()
    state = models.BinaryField()
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"checkpoint at seq {self.seq}"


class Order(models.Model):
    """A decision of a strategy. The id consists of portfolio uid, seq and index."""

    id = models.CharField(max_length=80, primary_key=True)
    portfolio = _portfolio_of("orders")
    seq = models.BigIntegerField()
    index = models.PositiveSmallIntegerField()
    symbol = models.CharField(max_length=24)
    side = models.CharField(max_length=4)
    quantity = models.DecimalField(max_digits=24, decimal_places=4)
    price = PriceField(help_text="The price seen at the decision.")
    kind = models.CharField(
        max_length=6, default="market", db_default="market", help_text="market, limit or stop"
    )
    limit_price = PriceField(null=True, blank=True)
    stop_price = PriceField(null=True, blank=True)
    time_in_force = models.CharField(
        max_length=3, default="gtc", db_default="gtc", help_text="gtc or ioc"
    )
    tag = models.CharField(
        max_length=32,
        default="",
        db_default="",
        blank=True,
        help_text="A short text by which the strategy marks the order.",
    )
    # Open, then filled, cancelled or expired; or from the start suppressed or refused.
    status = models.CharField(max_length=10)
    reason = models.TextField(blank=True, default="")
    ended_seq = models.BigIntegerField(
        null=True,
        blank=True,
        help_text="Seq of the event at which the order was cancelled or expired.",
    )
    epoch = models.BigIntegerField()
    node = models.CharField(max_length=80)
    revision = models.PositiveIntegerField()
    decided_at = models.DateTimeField(
        help_text="Release time of the event on which the order was decided."
    )
    committed_at = models.DateTimeField()

    class Meta:
        ordering = ["portfolio_id", "-seq", "-index"]
        constraints = [
            models.UniqueConstraint(fields=["portfolio", "seq", "index"], name="order_once")
        ]
        indexes = [models.Index(fields=["committed_at"], name="order_committed")]

    def __str__(self) -> str:
        return self.id


class Fill(models.Model):
    """One execution of an order by the paper broker, at `fill_seq`."""

    portfolio = _portfolio_of("fills")
    order = models.ForeignKey(
        Order, on_delete=models.CASCADE, related_name="fills", db_index=False, db_constraint=False
    )
    fill_seq = models.BigIntegerField()
    index = models.PositiveSmallIntegerField()
    symbol = models.CharField(max_length=24)
    side = models.CharField(max_length=4)
    quantity = models.DecimalField(max_digits=24, decimal_places=4)
    price = PriceField()
    fee = models.DecimalField(max_digits=24, decimal_places=4, default=0, db_default=0)
    epoch = models.BigIntegerField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["portfolio_id", "-fill_seq", "-index"]
        constraints = [
            models.UniqueConstraint(fields=["portfolio", "fill_seq", "index"], name="fill_once")
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity} {self.symbol} at {self.price}"


class EquityPoint(models.Model):
    """Equity at each 10 s step of feed time."""

    portfolio = _portfolio_of("equity_points")
    seq = models.BigIntegerField()
    at = models.DateTimeField()
    equity = models.DecimalField(max_digits=24, decimal_places=4)

    class Meta:
        ordering = ["portfolio_id", "seq"]
        constraints = [
            models.UniqueConstraint(fields=["portfolio", "seq"], name="equity_point_once")
        ]

    def __str__(self) -> str:
        return f"{self.equity} at seq {self.seq}"


class MetricPoint(models.Model):
    """The value of a strategy's own metric (`ctx.metric`) at an equity point."""

    portfolio = _portfolio_of("metric_points")
    seq = models.BigIntegerField()
    at = models.DateTimeField()
    name = models.CharField(max_length=64)
    value = models.FloatField()

    class Meta:
        ordering = ["portfolio_id", "seq", "name"]
        constraints = [
            models.UniqueConstraint(fields=["portfolio", "seq", "name"], name="metric_point_once")
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.value:g} at seq {self.seq}"


class Suppression(models.Model):
    """A range of events too old to decide on: an input of the run, needed to replay it."""

    portfolio = models.ForeignKey(
        Portfolio, on_delete=models.CASCADE, related_name="suppressions", db_index=False
    )
    from_seq = models.BigIntegerField(help_text="First suppressed event.")
    to_seq = models.BigIntegerField(help_text="Last suppressed event.")
    epoch = models.BigIntegerField()

    class Meta:
        ordering = ["portfolio_id", "from_seq"]
        constraints = [
            models.UniqueConstraint(fields=["portfolio", "from_seq"], name="suppression_once")
        ]

    def __str__(self) -> str:
        return f"{self.from_seq}–{self.to_seq}"


class ArchivedRange(models.Model):
    """Rows of one portfolio that left a table for the archive: those from `from_seq` to `to_seq`.

    The archiving process alone writes it, with the partition that it detaches. A verification does
    not look for these rows; any other one that is missing is a difference.
    """

    pk = models.CompositePrimaryKey("portfolio", "kind", "from_seq")
    portfolio = models.ForeignKey(
        Portfolio, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False
    )
    kind = models.CharField(max_length=40)  # the table
    from_seq = models.BigIntegerField()
    to_seq = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.kind} of portfolio {self.portfolio_id}: {self.from_seq} to {self.to_seq}"
