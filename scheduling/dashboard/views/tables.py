"""Portfolios, nodes, handoffs and the audit trail as plain tables, their filters in the address."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from scheduling.dashboard.board import PHASES, build_desk, shown_status
from scheduling.dashboard.context import page_context, problem, show
from scheduling.dashboard.decorators import for_readers
from scheduling.dashboard.handoff_steps import because, kind_words, steps_of
from scheduling.dashboard.pagination import by_offset, newest_first, text
from scheduling.models import Event, Handoff, HandoffKind, HandoffState, Tenure
from scheduling.models.handoff import ACTIVE_STATES
from scheduling.presentation.formatting import percent

NODE_STATUSES = ("alive", "draining", "suspect", "lost", "left")


@require_safe
@for_readers
def portfolios(request: HttpRequest) -> HttpResponse:
    """Show every portfolio, by name; `?phase=`, `?node=`, `?q=` and `?where=nowhere` filter."""
    context = page_context(request, "portfolios")
    asked = {key: request.GET.get(key, "") for key in ("phase", "node", "q", "where")}
    wanted = asked["q"].casefold()
    rows = [
        p
        for p in sorted(context["board"].portfolios, key=lambda p: p.name)
        if (not asked["phase"] or p.phase == asked["phase"])
        and (not asked["node"] or p.node == asked["node"])
        and (asked["where"] != "nowhere" or p.node is None)
        and (
            not wanted or wanted in f"{p.name} {p.strategy} {' '.join(p.symbols or [])}".casefold()
        )
    ]
    context |= {
        "turned": by_offset(rows, request.GET, "from", 100, _portfolio_row),
        "asked": asked,
        "phases": PHASES,
        "nodes": [node.name for node in context["board"].nodes],
    }
    return show(request, "dashboard/portfolios.html", context)


def _portfolio_row(line: Any) -> dict[str, Any]:
    pnl = (line.account or {}).get("pnl")
    return {"p": line, "pnl": pnl, "percent": percent(pnl, line.starting_cash)}


@require_safe
@for_readers
def nodes(request: HttpRequest) -> HttpResponse:
    """Show every node, those that left too; `?status=` filters."""
    context = page_context(request, "nodes")
    status = request.GET.get("status", "")
    desk = build_desk(context["board"])
    columns = {column.line.name: column for column in desk.columns}
    rows = [
        {
            "node": node,
            "status": shown_status(node),
            "load": columns[node.name].load if node.name in columns else node.load,
            "running": len(columns[node.name].cards) if node.name in columns else 0,
        }
        for node in context["board"].nodes
        if not status or shown_status(node) == status
    ]
    context |= {
        "turned": by_offset(rows, request.GET, "from", 100),
        "statuses": NODE_STATUSES,
        "status": status,
    }
    return show(request, "dashboard/nodes.html", context)


@require_safe
@for_readers
def handoffs(request: HttpRequest) -> HttpResponse:
    """Show handoffs, newest first; `?portfolio=`, `?node=`, `?kind=` and `?state=` filter."""
    context = page_context(request, "handoffs")
    rows = Handoff.objects.select_related("portfolio", "source_node", "target_node")
    asked = {key: text(request.GET, key) for key in ("portfolio", "node", "kind", "state")}
    if asked["portfolio"]:
        rows = rows.filter(portfolio__name=asked["portfolio"])
    if asked["node"]:
        rows = rows.filter(source_node__name=asked["node"]) | rows.filter(
            target_node__name=asked["node"]
        )
    if asked["kind"]:
        rows = rows.filter(kind=asked["kind"])
    if asked["state"] == "active":
        rows = rows.filter(state__in=ACTIVE_STATES)
    elif asked["state"]:
        rows = rows.filter(state=asked["state"])
    context |= {
        "turned": newest_first(rows, request.GET),
        "asked": asked,
        "kinds": HandoffKind.values,
        "states": ["active", *HandoffState.values],
    }
    return show(request, "dashboard/handoffs.html", context)


@require_safe
@for_readers
def handoff(request: HttpRequest, handoff_id: int) -> HttpResponse:
    """Show one handoff: its steps, its times, the tenure it made and what the trail says of it."""
    row = (
        Handoff.objects.select_related("portfolio", "source_node", "target_node")
        .filter(pk=handoff_id)
        .first()
    )
    if row is None:
        return problem(request, 404, "No such handoff", f"There is no handoff {handoff_id}.")
    context = page_context(request, "handoffs")
    context |= {
        "h": row,
        "kind": kind_words(row),  # type: ignore[arg-type]
        "because": because(row),  # type: ignore[arg-type]
        "steps": steps_of(row, context["board"].at),  # type: ignore[arg-type]
        "tenures": Tenure.objects.filter(handoff=row).select_related("node"),
        "events": Event.objects.filter(data__handoff=row.pk)
        .select_related("portfolio", "node")
        .order_by("-pk")[:50],
    }
    return show(request, "dashboard/handoff.html", context)


@require_safe
@for_readers
def audit(request: HttpRequest) -> HttpResponse:
    """Show the trail, newest first; `?kind=`, `?portfolio=`, `?node=` and `?actor=` filter."""
    context = page_context(request, "audit")
    rows = Event.objects.select_related("portfolio", "node")
    asked = {key: text(request.GET, key) for key in ("kind", "portfolio", "node", "actor")}
    if asked["kind"]:
        rows = rows.filter(kind=asked["kind"])
    if asked["portfolio"]:
        rows = rows.filter(portfolio__name=asked["portfolio"])
    if asked["node"]:
        rows = rows.filter(node__name=asked["node"])
    if asked["actor"]:
        rows = rows.filter(actor=asked["actor"])
    context |= {"turned": newest_first(rows, request.GET), "asked": asked}
    return show(request, "dashboard/audit.html", context)
