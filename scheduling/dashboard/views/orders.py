"""The order blotter: the orders of the whole fleet, as a table with filters, and as a file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_safe

from portfolios.models import Order
from scheduling.dashboard.context import page_context, render_page
from scheduling.dashboard.decorators import viewer_required
from scheduling.dashboard.history import (
    FORMATS,
    batches_of,
    export,
    filters_of,
    iso,
    offered_names,
    span_of,
)
from scheduling.dashboard.pagination import PAGE_ROWS, Page, text_parameter
from scheduling.observe.orders import (
    STATUSES,
    Key,
    count_by_status,
    filter_orders,
    list_key,
    orders_after,
    orders_between,
)

COLUMNS = (
    *("id", "committed_at", "decided_at", "portfolio", "node", "symbol", "side", "quantity"),
    *("price", "kind", "limit_price", "stop_price", "time_in_force", "status", "reason", "tag"),
    *("seq", "epoch", "revision"),
)


@require_safe
@viewer_required
def orders(request: HttpRequest) -> HttpResponseBase:
    """List orders, newest first, of the last 24 hours unless `?since=` or `?until=` say otherwise.

    Filters: `?portfolio=`, `?node=`, `?symbol=`, `?side=`, `?status=` (`unplaced`: refused or
    suppressed); `?format=csv` or `json` answers with a file.
    """
    context = page_context(request, "orders")
    filters = filters_of(request, "portfolio", "node", "symbol", "side", "status")
    span = span_of(request, context)  # None: a time cannot be read, and `context` says so
    begin, end = (span.begin, span.end) if span else (None, None)
    ranged = orders_between(begin, end, datetime.now(UTC))
    rows = ranged.none() if span is None else filter_orders(ranged, filters)
    if request.GET.get("format") in FORMATS and span is not None:
        batches = batches_of(rows, lambda last: orders_after(rows, list_key(last)))
        return export(request, "orders", COLUMNS, _file_row, batches)
    page = _page(rows, request)
    context |= offered_names(context) | {
        "table_page": page,
        "counts": count_by_status(filter_orders(ranged, {**filters, "status": ""})),
        "filters": filters,
        # If there are no rows: do filters or the page hide them, or is there no order yet?
        "is_filtered": any(filters.values()) or not page.is_first,
        "statuses": ("unplaced", *STATUSES),
        "sides": ("buy", "sell"),
    }
    return render_page(request, "dashboard/orders.html", context, 400 if span is None else 200)


def _page(rows: QuerySet[Order], request: HttpRequest) -> Page:
    """Return the page of orders older than that of the key `?before=`; without it, the newest."""
    start = _read_key(text_parameter(request.GET, "before"))
    found = list((rows if start is None else orders_after(rows, start))[: PAGE_ROWS + 1])
    more = len(found) > PAGE_ROWS
    found = found[:PAGE_ROWS]
    return Page(found, _key_text(list_key(found[-1])) if more else None, is_first=start is None)


def _key_text(key: Key) -> str:
    """Return the key of an order as links to pages hold it; `_read_key` reads it."""
    committed_at, order = key
    return f"{committed_at.astimezone(UTC).isoformat()} {order}"


def _read_key(text: str) -> Key | None:
    """Return the key that a link to a page holds as `text`; None if it is empty or malformed."""
    at_text, _, last = text.partition(" ")
    try:
        at = parse_datetime(at_text)
    except ValueError:
        return None
    return None if at is None or at.tzinfo is None or not last else (at, last)


def _file_row(row: Order) -> dict[str, Any]:
    """Return the values of COLUMNS; numbers of _EXACT as texts."""
    plain = {name: getattr(row, name) for name in COLUMNS}
    return {
        **plain,
        **{name: None if plain[name] is None else str(plain[name]) for name in _EXACT},
        "portfolio": row.portfolio.name,
        "committed_at": iso(row.committed_at),
        "decided_at": iso(row.decided_at),
    }


_EXACT = ("quantity", "price", "limit_price", "stop_price")  #: numbers that a float would round
