"""The records of a portfolio: revisions, orders, fills, equity, tenures."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from portfolios.models import EquityPoint, Fill, MetricPoint, Order, Revision, RevisionStatus
from scheduling.api.base import ApiView, TableView
from scheduling.api.handoffs_events import PortfolioFilter
from scheduling.api.openapi import POSITIVE, described, described_table, query
from scheduling.api.pagination import read_int, read_limit
from scheduling.models import Tenure
from scheduling.observe.orders import STATUSES, filter_orders, orders_between
from scheduling.observe.portfolio_log import MOST_LINES, read_log
from scheduling.operations.lookup import existing_portfolio
from scheduling.presentation.serializers.history import TenureDocument
from scheduling.presentation.serializers.portfolios import RevisionDocument
from scheduling.presentation.serializers.trades import (
    EquityDocument,
    FillDocument,
    FleetOrderDocument,
    MetricDocument,
    OrderDocument,
    PortfolioLogDocument,
)

_SIDES = [("buy", "buy"), ("sell", "sell")]
_ORDER_STATUS = [(word, word) for word in STATUSES]


class OrderFilters(django_filters.FilterSet):
    status = django_filters.ChoiceFilter(choices=_ORDER_STATUS)
    side = django_filters.ChoiceFilter(choices=_SIDES)
    symbol = django_filters.CharFilter()
    node = django_filters.CharFilter()
    from_seq = django_filters.NumberFilter("seq", "gte")
    to_seq = django_filters.NumberFilter("seq", "lte")


class FillFilters(django_filters.FilterSet):
    side = django_filters.ChoiceFilter(choices=_SIDES)
    symbol = django_filters.CharFilter()
    from_seq = django_filters.NumberFilter("fill_seq", "gte")
    to_seq = django_filters.NumberFilter("fill_seq", "lte")


class EquityFilters(django_filters.FilterSet):
    from_seq = django_filters.NumberFilter("seq", "gte")
    to_seq = django_filters.NumberFilter("seq", "lte")
    since = django_filters.IsoDateTimeFilter("at", "gte")
    until = django_filters.IsoDateTimeFilter("at", "lte")


class MetricFilters(EquityFilters):
    name = django_filters.CharFilter()


class TenureFilters(django_filters.FilterSet):
    node = django_filters.CharFilter("node__name")
    cause = django_filters.CharFilter()


class RevisionFilters(django_filters.FilterSet):
    status = django_filters.ChoiceFilter(choices=RevisionStatus.choices)


def records_of_a_portfolio(
    summary: str,
    records: QuerySet[Any],
    serializer: type[BaseSerializer[Any]],
    filter_set: type[django_filters.FilterSet],
    *sorted_by: str,
) -> type[TableView]:
    """Return the view that lists those of `records` that belong to the portfolio of the path."""

    @described_table(summary)
    class PortfolioRecords(TableView):
        document = serializer
        filters = filter_set
        order = sorted_by

        def rows(self, name: str) -> QuerySet[Any]:
            return records.filter(portfolio=existing_portfolio(name))

    return PortfolioRecords


class FleetOrderFilters(PortfolioFilter):
    """Filters of the orders of all portfolios. Without `since`, the last 24 hours."""

    node = django_filters.CharFilter()
    symbol = django_filters.CharFilter()
    side = django_filters.ChoiceFilter(choices=_SIDES)
    status = django_filters.ChoiceFilter(
        choices=[*_ORDER_STATUS, ("unplaced", "unplaced")], method="of_status"
    )
    since = django_filters.IsoDateTimeFilter("committed_at", "gte")
    until = django_filters.IsoDateTimeFilter("committed_at", "lt")

    def of_status(self, rows: QuerySet[Order], name: str, value: str) -> QuerySet[Order]:
        """Return the orders of one status; `unplaced` are refused or suppressed."""
        return filter_orders(rows, {"status": value})

    def filter_queryset(self, queryset: QuerySet[Order]) -> QuerySet[Order]:
        """Return the filtered orders, without `since` only those of the last 24 hours."""
        given = self.form.cleaned_data
        rows = orders_between(given["since"], given["until"], datetime.now(UTC))
        return super().filter_queryset(rows)


@described_table("Orders of all portfolios, newest first")
class OrderList(TableView):
    """Orders of all portfolios, newest first."""

    document = FleetOrderDocument
    filters = FleetOrderFilters
    order = ("-committed_at", "-id")

    def rows(self) -> QuerySet[Order]:
        return Order.objects.select_related("portfolio")


_TENURES = Tenure.objects.select_related("node", "handoff")

PortfolioOrders = records_of_a_portfolio(
    "Orders, newest first", Order.objects.all(), OrderDocument, OrderFilters, "-seq", "-index"
)
PortfolioFills = records_of_a_portfolio(
    "Fills, newest first", Fill.objects.all(), FillDocument, FillFilters, "-fill_seq", "-index"
)
PortfolioEquity = records_of_a_portfolio(
    "Equity, oldest first", EquityPoint.objects.all(), EquityDocument, EquityFilters, "seq"
)
PortfolioMetrics = records_of_a_portfolio(
    "Metrics of the strategy, newest first",
    MetricPoint.objects.all(), MetricDocument, MetricFilters, "-seq", "name",
)  # fmt: skip
PortfolioTenures = records_of_a_portfolio(
    "Tenures, newest first", _TENURES, TenureDocument, TenureFilters, "-epoch"
)
PortfolioRevisions = records_of_a_portfolio(
    "Revisions, newest first", Revision.objects.all(), RevisionDocument, RevisionFilters, "-number"
)


class PortfolioLogLines(ApiView):
    """What the processes of a portfolio printed."""

    @described(
        PortfolioLogDocument,
        parameters=[
            query("after", int, "Lines after this number; by default the newest lines."),
            query("limit", POSITIVE, "At most 2,000; by default 100."),
        ],
        summary="Log of a portfolio, oldest line first",
    )
    def get(self, request: Request, name: str) -> Response:
        """Return the lines after a number, or the newest ones. Three statements."""
        limit = read_limit(request, highest=MOST_LINES)
        after = read_int(request, "after", -1, lowest=0)  # -1: not given
        log = read_log(existing_portfolio(name).pk, None if after < 0 else after, limit)
        return Response(PortfolioLogDocument(log).data)
