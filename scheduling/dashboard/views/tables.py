"""Portfolios, nodes, handoffs and the audit log as tables with filters in the query string."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from scheduling.dashboard.board import PHASES, Column, build_board_page, display_status
from scheduling.dashboard.context import page_context, render_page, render_problem
from scheduling.dashboard.decorators import viewer_required
from scheduling.dashboard.handoff_steps import build_steps, kind_text, reason_text
from scheduling.dashboard.pagination import page_by_id, page_by_offset, text_parameter
from scheduling.models import Event, Handoff, HandoffKind, HandoffState, Tenure
from scheduling.models.handoff import ACTIVE_STATES
from scheduling.observe.fleet_view import NodeView, PortfolioView
from scheduling.presentation.formatting import UNKNOWN, percent

NODE_STATUSES = ("alive", "draining", "suspect", "lost", "left")


@require_safe
@viewer_required
def portfolios(request: HttpRequest) -> HttpResponse:
    """List portfolios by name; filters: `?phase=`, `?node=`, `?q=`, `?where=nowhere` (no owner)."""
    context = page_context(request, "portfolios")
    filters = {key: request.GET.get(key, "") for key in ("phase", "node", "q", "where")}
    wanted = filters["q"].casefold()
    rows = [
        p
        for p in sorted(context["fleet"].portfolios, key=lambda p: p.name)
        if (not filters["phase"] or p.phase == filters["phase"])
        and (not filters["node"] or p.node == filters["node"])
        and (filters["where"] != "nowhere" or p.node is None)
        and (
            not wanted or wanted in f"{p.name} {p.strategy} {' '.join(p.symbols or [])}".casefold()
        )
    ]
    context |= {
        "table_page": page_by_offset(rows, request.GET, "from", 100, _portfolio_row),
        "filters": filters,
        "phases": PHASES,
        "nodes": [node.name for node in context["fleet"].nodes],
    }
    return render_page(request, "dashboard/portfolios.html", context)


def _portfolio_row(portfolio: PortfolioView) -> dict[str, Any]:
    pnl = (portfolio.account or {}).get("pnl")
    return {
        "portfolio": portfolio,
        "pnl": pnl,
        "percent": percent(pnl, portfolio.starting_cash),
    }


@require_safe
@viewer_required
def nodes(request: HttpRequest) -> HttpResponse:
    """List all nodes, including those that left; filter: `?status=`."""
    context = page_context(request, "nodes")
    status = request.GET.get("status", "")
    columns = {column.node.name: column for column in build_board_page(context["fleet"]).columns}
    rows = [
        _node_row(node, columns.get(node.name))
        for node in context["fleet"].nodes
        if not status or display_status(node) == status
    ]
    context |= {
        "table_page": page_by_offset(rows, request.GET, "from", 100),
        "statuses": NODE_STATUSES,
        "status": status,
    }
    return render_page(request, "dashboard/nodes.html", context)


def _node_row(node: NodeView, column: Column | None) -> dict[str, Any]:
    return {
        "node": node,
        "status": display_status(node),
        "load": column.load if column else node.load,
        "running": len(column.cards) if column else 0,
        "cpu": column.cpu if column else None,
        "memory": column.memory if column else None,
    }


@require_safe
@viewer_required
def handoffs(request: HttpRequest) -> HttpResponse:
    """List handoffs, newest first; filters: `?portfolio=`, `?node=`, `?kind=`, `?state=`."""
    context = page_context(request, "handoffs")
    rows = Handoff.objects.select_related("portfolio", "source_node", "target_node")
    filters = {
        key: text_parameter(request.GET, key) for key in ("portfolio", "node", "kind", "state")
    }
    if filters["portfolio"]:
        rows = rows.filter(portfolio__name=filters["portfolio"])
    if filters["node"]:
        rows = rows.filter(source_node__name=filters["node"]) | rows.filter(
            target_node__name=filters["node"]
        )
    if filters["kind"]:
        rows = rows.filter(kind=filters["kind"])
    if filters["state"] == "active":
        rows = rows.filter(state__in=ACTIVE_STATES)
    elif filters["state"]:
        rows = rows.filter(state=filters["state"])
    context |= {
        "table_page": page_by_id(rows, request.GET),
        "filters": filters,
        "kinds": HandoffKind.values,
        "states": ["active", *HandoffState.values],
    }
    return render_page(request, "dashboard/handoffs.html", context)


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
        return render_problem(request, 404, "No such handoff", f"There is no handoff {handoff_id}.")
    context = page_context(request, "handoffs")
    context |= {
        "handoff": row,
        "kind_text": kind_text(row),  # type: ignore[arg-type]
        "epochs": f"{row.from_epoch} → {UNKNOWN if row.to_epoch is None else row.to_epoch}",
        "revisions": f"r{row.from_revision} → r{row.to_revision}",
        "reason_text": reason_text(row),  # type: ignore[arg-type]
        "steps": build_steps(row, context["fleet"].at),  # type: ignore[arg-type]
        "tenures": Tenure.objects.filter(handoff=row).select_related("node"),
        "events": Event.objects.filter(data__handoff=row.pk)
        .select_related("portfolio", "node")
        .order_by("-pk")[:50],
    }
    return render_page(request, "dashboard/handoff.html", context)


@require_safe
@viewer_required
def audit(request: HttpRequest) -> HttpResponse:
    """List audit events, newest first; filters: `?kind=`, `?portfolio=`, `?node=`, `?actor=`."""
    context = page_context(request, "audit")
    rows = Event.objects.select_related("portfolio", "node")
    filters = {
        key: text_parameter(request.GET, key) for key in ("kind", "portfolio", "node", "actor")
    }
    if filters["kind"]:
        rows = rows.filter(kind=filters["kind"])
    if filters["portfolio"]:
        rows = rows.filter(portfolio__name=filters["portfolio"])
    if filters["node"]:
        rows = rows.filter(node__name=filters["node"])
    if filters["actor"]:
        rows = rows.filter(actor=filters["actor"])
    context |= {"table_page": page_by_id(rows, request.GET), "filters": filters}
    return render_page(request, "dashboard/audit.html", context)
