"""The board: the whole fleet on one page."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from scheduling.dashboard.board import build_desk
from scheduling.dashboard.context import page_context, show
from scheduling.dashboard.decorators import for_readers


@require_safe
@for_readers
def board(request: HttpRequest) -> HttpResponse:
    """Show nodes as columns, portfolios as cards, and what moves."""
    context = page_context(request, "board", live_view="board")
    context["desk"] = build_desk(context["board"], settings.GINKGO.good_after_s)
    context["server_address"] = request.build_absolute_uri("/").rstrip("/")
    return show(request, "dashboard/board.html", context)
