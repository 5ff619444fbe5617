"""What somebody should look at, and the hold on failover."""

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
from scheduling.models import Alert, Storm


class AlertDocument(serializers.Serializer[Any]):
    """One cause: open while `closed_at` is null. `times` counts how often it came back."""

    id = serializers.IntegerField()
    kind = serializers.CharField()
    portfolio = serializers.CharField(source="portfolio.name", default=None, allow_null=True)
    node = serializers.CharField(source="node.name", default=None, allow_null=True)
    reason = serializers.CharField()
    times = serializers.IntegerField()
    opened_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)


class StormDocument(serializers.Serializer[Any]):
    """Whether failover is held: since when, until when, by whom, and for the loss of which nodes.

    `until` null while held: until a person releases it.
    """

    held = serializers.BooleanField()
    at = serializers.DateTimeField(allow_null=True)
    until = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField()
    reason = serializers.CharField()
    nodes = serializers.ListField(child=serializers.CharField())
    of_nodes = serializers.IntegerField()


class AlertFilters(OfPortfolio):
    """Which alerts. `open=true` are those whose cause is there."""

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
        """Return all alerts with the names they show."""
        return Alert.objects.select_related("portfolio", "node")


def storm_document() -> dict[str, Any]:
    """Return whether failover is held, and by whom. One statement."""
    storm = Storm.objects.filter(pk=1, held_at__isnull=False).first() or Storm()
    document = {
        "held": storm.held_at is not None,
        "at": storm.held_at,
        "until": storm.until,
        "by": storm.held_by,
        "reason": storm.reason,
        "nodes": storm.nodes,
        "of_nodes": storm.of_nodes,
    }
    return dict(StormDocument(document).data)


class StormRelease(ApiView):
    """Let failover go on."""

    @described(StormDocument, body=ReasonBody, summary="Release a hold on failover")
    def post(self, request: Request) -> Response:
        """Answer that nothing is held."""
        body = read_body(request, ReasonBody)
        operations.release_storm(actor=actor_of(request), reason=body["reason"])
        return Response(storm_document())


class StormHold(ApiView):
    """Hold failover until a person releases it."""

    @described(StormDocument, body=ReasonBody, summary="Hold failover, or hold it longer")
    def post(self, request: Request) -> Response:
        """Answer the hold."""
        body = read_body(request, ReasonBody)
        operations.hold_storm(actor=actor_of(request), reason=body["reason"])
        return Response(storm_document())
