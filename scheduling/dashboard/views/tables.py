"""Portfolios and nodes as tables with filters in the query string."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from scheduling.dashboard.board.columns import Column, display_status
from scheduling.dashboard.board.page import PHASES, build_board_page
from scheduling.dashboard.context import page_context, render_page
from scheduling.dashboard.decorators import viewer_required
from scheduling.dashboard.pagination import page_by_offset
from scheduling.observe.fleet_view.types import NodeView, PortfolioView
from scheduling.presentation.formatting import percent

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
        for p in sorted(context["fleet"].portfolios, key=attrgetter("name"))
        if (not filters["phase"] or p.phase == filters["phase"])
        and (not filters["node"] or p.node == filters["node"])
        and (filters["where"] != "nowhere" or p.node is None)
        and (not wanted or wanted in f"{p.name} {p.strategy} {' '.join(p.symbols)}".casefold())
    ]
    context |= {
        "table_page": page_by_offset(rows, request.GET, "from", 100, _portfolio_row),
        "filters": filters,
        "phases": PHASES,
        "nodes": [node.name for node in context["fleet"].nodes],
    }
    return render_page(request, "dashboard/portfolios.html", context)


def _portfolio_row(portfolio: PortfolioView) -> dict[str, Any]:
    pnl = portfolio.account.get("pnl")
    return {"portfolio": portfolio, "pnl": pnl, "percent": percent(pnl, portfolio.starting_cash)}


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
    """Return a row of the table. `column`: None for a node that left, which the board hides."""
    return {
        "node": node,
        "status": display_status(node),
        "load": column.load if column else node.load,
        "running": len(column.cards) if column else 0,
        "cpu": column.cpu if column else None,
        "memory": column.memory if column else None,
    }
