"""What happened: handoffs and the audit log."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import F, Q, QuerySet, Subquery
from rest_framework.request import Request
from rest_framework.response import Response

from portfolios.models import Portfolio
from scheduling.api.base import ApiView, TableView, TrueOrFalse
from scheduling.api.openapi import described, described_table
from scheduling.errors import Refused
from scheduling.models import ACTIVE_STATES, Event, Handoff, HandoffKind, HandoffState, Interface
from scheduling.presentation.serializers.history import EventDocument, HandoffDocument


class PortfolioFilter(django_filters.FilterSet):
    """Selects rows of the portfolio that has the name now, or else of the last one that had it."""

    portfolio = django_filters.CharFilter(method="of_portfolio")

    def of_portfolio(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        """Return the rows of the portfolio `value`, without those of earlier ones of this name."""
        named = Portfolio.objects.filter(name=value)
        newest = named.order_by(F("archived_at").desc(nulls_first=True)).values("pk")[:1]
        return rows.filter(portfolio=Subquery(newest))


class HandoffFilters(PortfolioFilter):
    """Filters of handoffs. `node` is source or target; `active=true` are those not ended."""

    node = django_filters.CharFilter(method="at_either_end")
    source_node = django_filters.CharFilter("source_node__name")
    target_node = django_filters.CharFilter("target_node__name")
    state = django_filters.ChoiceFilter(choices=HandoffState.choices)
    kind = django_filters.ChoiceFilter(choices=HandoffKind.choices)
    active = TrueOrFalse(method="under_way")
    since = django_filters.IsoDateTimeFilter("requested_at", "gte")

    def at_either_end(self, rows: QuerySet[Handoff], name: str, value: str) -> QuerySet[Handoff]:
        """Return the handoffs from or to the node `value`."""
        return rows.filter(Q(source_node__name=value) | Q(target_node__name=value))

    def under_way(self, rows: QuerySet[Handoff], name: str, value: bool) -> QuerySet[Handoff]:
        """Return the handoffs that have not ended, or for False those that have."""
        active = Q(state__in=ACTIVE_STATES)
        return rows.filter(active if value else ~active)


class EventFilters(PortfolioFilter):
    node = django_filters.CharFilter("node__name")
    kind = django_filters.CharFilter()
    actor = django_filters.CharFilter()
    interface = django_filters.ChoiceFilter(choices=Interface.choices)
    address = django_filters.CharFilter()
    since = django_filters.IsoDateTimeFilter("at", "gte")
    until = django_filters.IsoDateTimeFilter("at", "lte")


@described_table("Handoffs, newest first")
class HandoffList(TableView):
    """Handoffs, newest first."""

    document = HandoffDocument
    filters = HandoffFilters

    def rows(self) -> QuerySet[Handoff]:
        return Handoff.objects.select_related("portfolio", "source_node", "target_node")


class HandoffDetail(ApiView):
    """One handoff."""

    @described(HandoffDocument, summary="A handoff and how far it is")
    def get(self, request: Request, pk: int) -> Response:
        """Return the handoff."""
        rows = Handoff.objects.select_related("portfolio", "source_node", "target_node")
        handoff = rows.filter(pk=pk).first()
        if handoff is None:
            raise Refused("not_found", f"There is no handoff {pk}.", status=404)
        return Response(HandoffDocument(handoff).data)


@described_table("The audit log, newest first")
class EventList(TableView):
    """The audit log, newest first."""

    document = EventDocument
    filters = EventFilters

    def rows(self) -> QuerySet[Event]:
        return Event.objects.select_related("portfolio", "node")
