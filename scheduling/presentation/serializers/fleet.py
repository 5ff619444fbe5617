"""The fleet as a whole: the board, freezes, holds, halts and the balancer's policy."""

from __future__ import annotations

from rest_framework import serializers

from scheduling.models.fleet_control import EvenBy
from scheduling.presentation.reason_fields import ReasonField, WhyDocument
from scheduling.presentation.serializers.fields import Document, money_field
from scheduling.presentation.serializers.history import HandoffDocument
from scheduling.presentation.serializers.nodes import NodeDocument
from scheduling.presentation.serializers.portfolios import PortfolioDocument


class FrozenDocument(Document):
    """The freeze in force."""

    at = serializers.DateTimeField()
    by = serializers.CharField()
    reason = serializers.CharField()
    failover = serializers.BooleanField()


class HoldDocument(Document):
    """A hold on failover; `until` is null if an operator has to release it."""

    at = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField()
    reason = serializers.CharField()
    nodes = serializers.ListField(child=serializers.CharField())
    of_nodes = serializers.IntegerField(help_text="Number of nodes alive one lease before.")


class OpenAlertDocument(Document):
    """An open alert. `times`: how often it was opened, since a cause may return."""

    id = serializers.IntegerField()
    kind = serializers.CharField()
    portfolio = serializers.CharField(allow_null=True)
    node = serializers.CharField(allow_null=True)
    reason = ReasonField()
    why = WhyDocument()
    times = serializers.IntegerField()
    opened_at = serializers.DateTimeField()


class BoardDocument(Document):
    """The whole fleet at one moment; `head`, `rate` (events per second): of the packaged feed."""

    at = serializers.DateTimeField()
    head = serializers.IntegerField()
    rate = serializers.FloatField()
    nodes = NodeDocument(many=True)
    portfolios = PortfolioDocument(many=True)
    handoffs_active = HandoffDocument(many=True)
    handoffs_recent = HandoffDocument(many=True)
    pause_p50_ms = serializers.FloatField(allow_null=True)
    pause_p99_ms = serializers.FloatField(allow_null=True)
    frozen = FrozenDocument(allow_null=True)
    total_equity = money_field()
    total_starting = money_field()
    storm = HoldDocument(allow_null=True)
    alerts = OpenAlertDocument(many=True)


class FreezeDocument(Document):
    """Whether automatic moves are frozen."""

    frozen = serializers.BooleanField()
    at = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField()
    reason = serializers.CharField()
    failover = serializers.BooleanField()


class StormDocument(Document):
    """Whether failover is held, since when, until when, by whom, and which nodes were lost.

    `until` is null if an operator has to release it.
    """

    held = serializers.BooleanField()
    at = serializers.DateTimeField(allow_null=True)
    until = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField()
    reason = serializers.CharField()
    nodes = serializers.ListField(child=serializers.CharField())
    of_nodes = serializers.IntegerField(help_text="Number of nodes alive one lease before.")


class PolicyDocument(Document):
    """The balancer's policy."""

    even_by = serializers.ChoiceField(
        EvenBy.choices, help_text="Measure by which the balancer evens the load of nodes."
    )


class StoppedDocument(Document):
    """One portfolio that a halt stopped. `phase`, `node`, kind of `handoff`: those before."""

    portfolio = serializers.CharField()
    phase = serializers.CharField()
    node = serializers.CharField(allow_null=True)
    handoff = serializers.CharField(allow_null=True)
    epoch_before = serializers.IntegerField()
    epoch = serializers.IntegerField()
    last_seq = serializers.IntegerField()


class HaltedDocument(Document):
    """One halt; `halt` is null if there was nothing to stop."""

    halt = serializers.IntegerField(allow_null=True)
    at = serializers.DateTimeField()
    actor = serializers.CharField()
    reason = serializers.CharField()
    running = serializers.IntegerField()
    results = StoppedDocument(many=True)
