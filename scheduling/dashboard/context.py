"""What every page of the desk carries: the newest snapshot, the role, the pages there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.cache import patch_cache_control

from scheduling.dashboard.board import build_desk
from scheduling.observe.fleet_view import FleetView, read_fleet_view
from scheduling.observe.halts import halt_in_force
from scheduling.permissions import may_act, role_of
from scheduling.presentation.formatting import percent

#: url name, label, icon: the pages of the navigation
PAGES = (
    ("board", "Board", "i-board"),
    ("portfolios", "Portfolios", "i-list"),
    ("nodes", "Nodes", "i-node"),
    ("handoffs", "Handoffs", "i-swap"),
    ("what-if", "What if", "i-ask"),
    ("audit", "Audit", "i-proof"),
)

Parts = dict[str, str]


def figures_context(board: FleetView) -> dict[str, Any]:
    """Return what the top bar and the banners show of `board`."""
    earned = board.total_equity - board.total_starting
    return {
        "board": board,
        "earned": earned,
        "earned_percent": percent(earned, board.total_starting),
    }


def page_context(request: HttpRequest, page: str, live_view: str = "page") -> dict[str, Any]:
    """Return the context of a page, with a fresh snapshot. Raises SnapshotUnavailable."""
    return {
        **figures_context(read_fleet_view()),
        "page": page,
        "pages": PAGES,
        "role": role_of(request.user),
        "may_act": may_act(request.user),
        "live_view": live_view,
        "halt_in_force": halt_in_force(),
    }


def show(
    request: HttpRequest, template: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    """Return the page. Its figures are of this moment and this person, so nothing may keep it."""
    response = render(request, template, context, status=status)
    patch_cache_control(response, private=True, no_store=True)
    return response


def wants_dialog(request: HttpRequest) -> bool:
    """Return whether the page's script asks, which shows the answer in its dialog."""
    return request.headers.get("X-Dashboard") == "dialog"


def problem(request: HttpRequest, status: int, title: str, sentence: str) -> HttpResponse:
    """Return a page, or the inside of a dialog, that says in one sentence what is wrong."""
    template = "dashboard/parts/problem.html" if wants_dialog(request) else "dashboard/problem.html"
    context = {"title": title, "sentence": sentence, "status": status}
    return show(request, template, context, status)


def board_parts(board: FleetView, operator: bool) -> tuple[Parts, list[str]]:
    """Return the parts of the board page by their element's id, and the columns in their order."""
    desk = build_desk(board, settings.GINKGO.good_after_s)
    context = {
        **figures_context(board),
        "desk": desk,
        "may_act": operator,
    }
    parts = common_parts(context)
    parts |= render_parts(("fleet_summary", "unassigned", "handoff_sidebar"), context)
    if desk.columns and board.portfolios:
        parts["part-first-steps"] = '<div id="part-first-steps"></div>'
    columns = []
    for column in desk.columns:
        key = f"col-{column.line.name}"
        columns.append(key)
        parts[key] = render_to_string("dashboard/parts/column.html", {**context, "col": column})
    return parts, columns


def common_parts(context: dict[str, Any]) -> Parts:
    """Render the parts that every page has."""
    return render_parts(("total_equity", "banners"), context)


def render_parts(names: Iterable[str], context: dict[str, Any], folder: str = "parts") -> Parts:
    """Render templates of `folder`, keyed by element id: `total_equity` is `part-total-equity`."""
    return {
        f"part-{name.replace('_', '-')}": render_to_string(
            f"dashboard/{folder}/{name}.html", context
        )
        for name in names
    }
