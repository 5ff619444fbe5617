"""Handoffs and the audit log: tables with filters in the query string, and as files."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

from scheduling.dashboard.context import page_context, render_page
from scheduling.dashboard.decorators import viewer_required
from scheduling.dashboard.handoff_steps import build_steps, kind_text, reason_text
from scheduling.dashboard.history import (
    FORMATS,
    MAX_NAMES,
    OLDEST,
    batches_by_id,
    export,
    filters_of,
    iso,
    offered_names,
    span_of,
    within,
)
from scheduling.dashboard.pagination import PAGE_ROWS, page_by_id, page_by_offset, text_parameter
from scheduling.errors import NotFound
from scheduling.models import Event, Handoff, HandoffKind, HandoffState, Interface, Tenure
from scheduling.models.handoff import ACTIVE_STATES
from scheduling.observe.localized_reason import localized_reason
from scheduling.permissions import may_act
from scheduling.presentation.audit_lines import SENTENCES, audit_links, audit_sentence, shown_data
from scheduling.presentation.formatting import UNKNOWN

SLOWEST = "slowest"  #: longest pause first

HANDOFF_COLUMNS = (
    *("id", "requested_at", "finished_at", "portfolio", "kind", "state", "source", "target"),
    *("from_revision", "to_revision", "from_epoch", "to_epoch", "pause_ms", "catchup_ms"),
    *("requested_by", "reason", "error"),
)
EVENT_COLUMNS = (
    *("id", "at", "kind", "portfolio", "node", "actor", "interface", "address", "sentence"),
    *("reason", "data"),
)


@require_safe
@viewer_required
def handoffs(request: HttpRequest) -> HttpResponseBase:
    """List handoffs; filters: `?portfolio=`, `?node=`, `?kind=`, `?state=`, `?since=`, `?until=`.

    `?order=oldest` or `slowest` (by pause); `?format=csv` or `json` answers with a file.
    """
    context = page_context(request, "handoffs")
    rows = Handoff.objects.select_related("portfolio", "source_node", "target_node")
    filters = filters_of(request, "portfolio", "node", "kind", "state")
    span = span_of(request, context)
    if filters["portfolio"]:
        rows = rows.filter(portfolio__name=filters["portfolio"])
    if filters["node"]:
        rows = rows.filter(
            Q(source_node__name=filters["node"]) | Q(target_node__name=filters["node"])
        )
    if filters["kind"]:
        rows = rows.filter(kind=filters["kind"])
    if filters["state"] == "active":
        rows = rows.filter(state__in=ACTIVE_STATES)
    elif filters["state"]:
        rows = rows.filter(state=filters["state"])
    rows = rows.none() if span is None else within(rows, "requested_at", span)
    order = text_parameter(request.GET, "order")
    if request.GET.get("format") in FORMATS and span is not None:
        batches = batches_by_id(rows, oldest_first=order == OLDEST)
        return export(request, "handoffs", HANDOFF_COLUMNS, _handoff_row, batches)
    if order == SLOWEST:
        slowest = rows.order_by(F("pause_ms").desc(nulls_last=True), "-pk")
        page = page_by_offset(slowest, request.GET, "before", PAGE_ROWS)
    else:
        page = page_by_id(rows, request.GET, size=PAGE_ROWS, oldest_first=order == OLDEST)
    context |= offered_names(context) | {
        "table_page": page,
        "filters": filters,
        "order": order,
        "kinds": HandoffKind.values,
        "states": ["active", *HandoffState.values],
        # If there are no rows: do filters or the page hide them, or is there no handoff yet?
        "is_filtered": any(filters.values()) or not page.is_first,
    }
    return render_page(request, "dashboard/handoffs.html", context, 400 if span is None else 200)


def _handoff_row(row: Handoff) -> dict[str, Any]:
    """Return the values of HANDOFF_COLUMNS."""
    return {
        **{name: getattr(row, name, None) for name in HANDOFF_COLUMNS},
        "requested_at": iso(row.requested_at),
        "finished_at": iso(row.finished_at),
        "portfolio": row.portfolio.name,
        "source": row.source_node.name if row.source_node else None,
        "target": row.target_node.name if row.target_node else None,
        "reason": localized_reason(row),
    }


@require_safe
@viewer_required
def handoff(request: HttpRequest, handoff_id: int) -> HttpResponse:
    """Show one handoff: steps, times, the resulting tenure and its audit events."""
    row = (
        Handoff.objects.select_related("portfolio", "source_node", "target_node")
        .filter(pk=handoff_id)
        .first()
    )
    if row is None:
        raise NotFound("handoff", str(handoff_id))
    context = page_context(request, "handoffs")
    context |= {
        "handoff": row,
        "kind_text": kind_text(row),  # type: ignore[arg-type]
        "epochs": f"{row.from_epoch} → {UNKNOWN if row.to_epoch is None else row.to_epoch}",
        "revisions": f"r{row.from_revision} → r{row.to_revision}",
        "reason_text": reason_text(row),  # type: ignore[arg-type]
        "steps": build_steps(row, context["fleet"].at),  # type: ignore[arg-type]
        "tenures": Tenure.objects.filter(handoff=row).select_related("node"),
        "lines": _lines(
            Event.objects.filter(data__handoff=row.pk)
            .select_related("portfolio", "node")
            .order_by("-pk")[:50]
        ),
    }
    return render_page(request, "dashboard/handoff.html", context)


def _lines(events: Any) -> list[dict[str, Any]]:
    """Return the events with their sentences."""
    return [
        {"event": event, "sentence": audit_sentence(event), "links": audit_links(event)}
        for event in events
    ]


@require_safe
@viewer_required
def audit(request: HttpRequest) -> HttpResponseBase:
    """List lines of the audit log, newest first unless `?order=oldest`.

    Filters: `?kind=`, `?portfolio=`, `?node=`, `?actor=`, `?interface=`, `?since=`, `?until=`;
    `?format=csv` or `json` answers with a file.
    """
    context = page_context(request, "audit")
    rows: QuerySet[Event] = Event.objects.select_related("portfolio", "node")
    filters = filters_of(request, "kind", "portfolio", "node", "actor", "interface")
    span = span_of(request, context)
    paths = {
        "kind": "kind",
        "portfolio": "portfolio__name",
        "node": "node__name",
        "actor": "actor",
        "interface": "interface",
    }
    rows = rows.filter(**{paths[name]: filters[name] for name in paths if filters[name]})
    rows = rows.none() if span is None else within(rows, "at", span)
    order = text_parameter(request.GET, "order")
    oldest_first = order == OLDEST
    if request.GET.get("format") in FORMATS and span is not None:
        document = partial(_event_row, operator=may_act(request.user))
        batches = batches_by_id(rows, oldest_first=oldest_first)
        return export(request, "audit", EVENT_COLUMNS, document, batches)
    page = page_by_id(rows, request.GET, size=PAGE_ROWS, oldest_first=oldest_first)
    users = get_user_model().objects.order_by("username")
    context |= offered_names(context) | {
        "table_page": page,
        "lines": _lines(page.rows),
        "filters": filters,
        "order": order,
        "kinds": sorted(SENTENCES),
        "interfaces": Interface.values,
        "actors": list(users.values_list("username", flat=True)[:MAX_NAMES]),
    }
    return render_page(request, "dashboard/audit.html", context, 400 if span is None else 200)


def _event_row(event: Event, *, operator: bool) -> dict[str, Any]:
    """Return the values of EVENT_COLUMNS."""
    return {
        **{name: getattr(event, name, None) for name in EVENT_COLUMNS},
        "at": iso(event.at),
        "portfolio": event.portfolio.name if event.portfolio else None,
        "node": event.node.name if event.node else None,
        "sentence": audit_sentence(event),
        "data": shown_data(event.data, operator=operator),
    }
