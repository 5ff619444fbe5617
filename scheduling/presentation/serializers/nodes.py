"""Nodes, and which of them could run a portfolio."""

from __future__ import annotations

from rest_framework import serializers

from scheduling.presentation.reason_fields import ReasonField, WhyDocument
from scheduling.presentation.serializers.fields import Document, IncarnationField, ObjectDocument


class NodeDocument(Document):
    """An execution node. `load`: weight of its portfolios; `held`: that of handoffs to it."""

    name = serializers.CharField()
    status = serializers.CharField()
    schedulable = serializers.BooleanField()
    cordoned = serializers.BooleanField()
    draining = serializers.BooleanField()
    drain_reason = serializers.CharField()
    drain_actor = serializers.CharField()
    leaving = serializers.BooleanField()
    capacity = serializers.IntegerField()
    labels = ObjectDocument()
    portfolios = serializers.ListField(child=serializers.CharField())
    load = serializers.FloatField()
    held = serializers.FloatField()
    metrics = ObjectDocument()
    last_heartbeat_at = serializers.DateTimeField(allow_null=True)
    lease_expires_at = serializers.DateTimeField(allow_null=True)
    lease_left_s = serializers.FloatField(allow_null=True)
    status_since = serializers.DateTimeField(allow_null=True)
    reason = ReasonField()
    why = WhyDocument()
    incarnation = IncarnationField(allow_null=True)
    host = serializers.CharField()
    pid = serializers.IntegerField(allow_null=True)
    version = serializers.CharField()
    python = serializers.CharField(
        help_text="Minor version of the node's Python; empty if its daemon does not report it."
    )


class TargetDocument(Document):
    """Whether one node could run the portfolio (else `code`), and its load without and with it."""

    node = serializers.CharField()
    feasible = serializers.BooleanField()
    code = serializers.CharField(allow_null=True)
    sentence = serializers.CharField()
    risk = serializers.CharField(allow_null=True)
    load_before = serializers.FloatField()
    load_after = serializers.FloatField()
    capacity = serializers.FloatField()


class ExpectedPauseDocument(Document):
    """Percentiles of the pauses in the last 50 successful migrations and reloads, in ms."""

    p50 = serializers.FloatField(allow_null=True)
    p99 = serializers.FloatField(allow_null=True)


class TargetsDocument(Document):
    """Whether each node could run the portfolio."""

    portfolio = serializers.CharField()
    pause_ms = ExpectedPauseDocument()
    results = TargetDocument(many=True)
