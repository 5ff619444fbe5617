"""Alerts, and the hold on failover."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling import operations
from scheduling.api.base import ApiView, TableView, TrueOrFalse, actor_of
from scheduling.api.handoffs_events import OfPortfolio
from scheduling.api.openapi import described, described_table
from scheduling.api.request_serializers import ReasonBody, read_body
from scheduling.models import Alert
from scheduling.operations import registry
from scheduling.presentation.documents import storm_document
from scheduling.presentation.reason_fields import ReasonField, WhyDocument
from scheduling.presentation.serializers import StormDocument


class AlertDocument(serializers.Serializer[Any]):
    """One cause, open while `closed_at` is null. `times` counts how often it occurred."""

    id = serializers.IntegerField()
    kind = serializers.CharField()
    portfolio = serializers.CharField(source="portfolio.name", default=None, allow_null=True)
    node = serializers.CharField(source="node.name", default=None, allow_null=True)
    reason = ReasonField()
    why = WhyDocument()
    times = serializers.IntegerField()
    opened_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)


class AlertFilters(OfPortfolio):
    """Filters of alerts. `open=true` selects those whose cause persists."""

    open = TrueOrFalse("closed_at", "isnull")
    kind = django_filters.CharFilter()
    node = django_filters.CharFilter("node__name")
    since = django_filters.IsoDateTimeFilter("opened_at", "gte")


@described_table("Alerts, newest first")
class AlertList(TableView):
    """Alerts, newest first."""

    document = AlertDocument
    filters = AlertFilters

    def rows(self) -> QuerySet[Alert]:
        """Return all alerts with their portfolios and nodes."""
        return Alert.objects.select_related("portfolio", "node")


class StormRelease(ApiView):
    """Release the hold on failover."""

    @described(
        StormDocument,
        body=ReasonBody,
        summary=registry.RELEASE_STORM.summary(),
        performs=registry.RELEASE_STORM,
    )
    def post(self, request: Request) -> Response:
        """Release the hold, and return the state."""
        body = read_body(request, ReasonBody)
        operations.release_storm(actor=actor_of(request), reason=body["reason"])
        return Response(storm_document())


class StormHold(ApiView):
    """Hold failover until an operator releases it."""

    @described(
        StormDocument,
        body=ReasonBody,
        summary=registry.HOLD_STORM.summary(),
        performs=registry.HOLD_STORM,
    )
    def post(self, request: Request) -> Response:
        """Hold failover, and return the state."""
        body = read_body(request, ReasonBody)
        operations.hold_storm(actor=actor_of(request), reason=body["reason"])
        return Response(storm_document())
