"""Alerts, and the channels that they are sent to."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.base import ApiView, ForOperators, TableView, TrueOrFalse, actor_of
from scheduling.api.handoffs_events import PortfolioFilter
from scheduling.api.openapi import described, described_table
from scheduling.api.request_serializers import AlertChannelBody, NoBody, ReasonBody, read_body
from scheduling.models import Alert, AlertChannel
from scheduling.operations.registry import alert_actions
from scheduling.presentation.reason_fields import ReasonField, WhyDocument


class AlertDocument(serializers.Serializer[Any]):
    """An alert is open while `closed_at` is null. `times` counts how often its cause occurred."""

    id = serializers.IntegerField()
    kind = serializers.CharField()
    portfolio = serializers.CharField(source="portfolio.name", default=None, allow_null=True)
    node = serializers.CharField(source="node.name", default=None, allow_null=True)
    reason = ReasonField()
    why = WhyDocument()
    times = serializers.IntegerField()
    opened_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    acknowledged_at = serializers.DateTimeField(allow_null=True)
    acknowledged_by = serializers.CharField(
        help_text="Who acknowledged the alert; empty if nobody has."
    )
    acknowledged_note = serializers.CharField()


class AlertFilters(PortfolioFilter):
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
        return Alert.objects.select_related("portfolio__run", "node")


class AcknowledgeAlert(ApiView):
    """Acknowledge an alert."""

    @described(
        AlertDocument,
        body=ReasonBody,
        summary="Acknowledge an alert; the reason is the note",
        performs=alert_actions.ACKNOWLEDGE_ALERT,
    )
    def post(self, request: Request, pk: int) -> Response:
        """Acknowledge the alert; 409 `not_open` or `already_acknowledged`."""
        note = read_body(request, ReasonBody)["reason"]
        alert_actions.ACKNOWLEDGE_ALERT.call(pk, actor=actor_of(request), reason=note)
        row = Alert.objects.select_related("portfolio__run", "node").get(pk=pk)
        return Response(AlertDocument(row).data)


class AlertChannelDocument(serializers.Serializer[Any]):
    """Where alerts are sent, without its address, which no interface returns."""

    name = serializers.CharField()
    enabled = serializers.BooleanField()
    from_environment = serializers.BooleanField(
        help_text="Whether GINKGO_ALERT_URL gives the channel's address."
    )
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


@described_table("Channels of alerts by name, without their addresses; for operators")
class AlertChannelList(ForOperators, TableView):
    """Channels of alerts."""

    document = AlertChannelDocument
    order = ("name",)

    def rows(self) -> QuerySet[AlertChannel]:
        return AlertChannel.objects.all()

    @described(
        AlertChannelDocument,
        body=AlertChannelBody,
        performs=alert_actions.ADD_ALERT_CHANNEL,
        summary="Send alerts to an address",
    )
    def post(self, request: Request) -> Response:
        """Store a new channel, or replace the address of an existing one."""
        given = read_body(request, AlertChannelBody)
        row = alert_actions.ADD_ALERT_CHANNEL.call(
            given["name"], given["address"], actor=actor_of(request)
        )
        return Response(AlertChannelDocument(row).data)


class AlertChannelDetail(ForOperators):
    """One channel of alerts."""

    @described(
        None,
        status=204,
        body=ReasonBody,
        summary="Send no alerts to a channel",
        performs=alert_actions.REMOVE_ALERT_CHANNEL,
    )
    def delete(self, request: Request, name: str) -> Response:
        """Remove the channel and its address."""
        reason = read_body(request, ReasonBody)["reason"]
        alert_actions.REMOVE_ALERT_CHANNEL.call(name, actor=actor_of(request), reason=reason)
        return Response(status=204)


class TestAlertChannel(ApiView):
    """Send a test message."""

    @described(
        None,
        status=202,
        body=NoBody,
        summary="Send a test message to a channel",
        performs=alert_actions.TEST_ALERT_CHANNEL,
    )
    def post(self, request: Request, name: str) -> Response:
        """Have the queue worker send one message."""
        read_body(request, NoBody)
        alert_actions.TEST_ALERT_CHANNEL.call(name, actor=actor_of(request))
        return Response(status=202)
