"""What strategies decide and trade: orders, fills, equity and metrics; and what they print."""

from __future__ import annotations

from rest_framework import serializers

from scheduling.presentation.serializers.fields import Document, money_field, price_field


class OrderDocument(Document):
    """A decision of a strategy: number `index` (0, 1 …) of those on event `seq`.

    `status`: open, filled, cancelled, expired, suppressed or refused. `kind`: market, limit or
    stop; a limit order has a `limit_price`, a stop order a `stop_price`.
    """

    id = serializers.CharField()
    seq = serializers.IntegerField()
    index = serializers.IntegerField()
    symbol = serializers.CharField()
    side = serializers.CharField()
    quantity = money_field()
    price = price_field()
    kind = serializers.CharField()
    limit_price = price_field(allow_null=True)
    stop_price = price_field(allow_null=True)
    time_in_force = serializers.CharField()
    tag = serializers.CharField()
    status = serializers.CharField()
    reason = serializers.CharField()
    ended_seq = serializers.IntegerField(
        allow_null=True, help_text="Seq of the event at which the order was cancelled or expired."
    )
    epoch = serializers.IntegerField()
    node = serializers.CharField()
    revision = serializers.IntegerField()
    decided_at = serializers.DateTimeField()
    committed_at = serializers.DateTimeField()


class FleetOrderDocument(OrderDocument):
    """A decision of a strategy, with its portfolio."""

    portfolio = serializers.CharField(source="portfolio.name")


class FillDocument(Document):
    """An execution of an order."""

    order = serializers.CharField(source="order_id")
    fill_seq = serializers.IntegerField()
    index = serializers.IntegerField()
    symbol = serializers.CharField()
    side = serializers.CharField()
    quantity = money_field()
    price = price_field()
    fee = money_field()
    epoch = serializers.IntegerField()
    at = serializers.DateTimeField()


class EquityDocument(Document):
    """One point of the equity curve."""

    seq = serializers.IntegerField()
    at = serializers.DateTimeField()
    equity = money_field()


class LogLineDocument(Document):
    """One line that the processes of a portfolio printed; or a number of lines that were lost."""

    no = serializers.IntegerField()
    at = serializers.DateTimeField()
    node = serializers.CharField()
    revision = serializers.IntegerField()
    text = serializers.CharField()
    lost = serializers.IntegerField()


class PortfolioLogDocument(Document):
    """Lines, oldest first; `last`: number of the newest line; `lost`: how many were ever lost."""

    last = serializers.IntegerField()
    lost = serializers.IntegerField()
    results = LogLineDocument(many=True)


class MetricDocument(Document):
    """The value of a strategy's own metric at an equity point."""

    seq = serializers.IntegerField()
    at = serializers.DateTimeField()
    name = serializers.CharField()
    value = serializers.FloatField()
