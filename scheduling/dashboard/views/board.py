"""The board: the whole fleet on one page."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from scheduling.dashboard.board import build_board_page
from scheduling.dashboard.context import page_context, render_page
from scheduling.dashboard.decorators import viewer_required


@require_safe
@viewer_required
def board(request: HttpRequest) -> HttpResponse:
    """Show nodes as columns, portfolios as cards, and the handoffs."""
    context = page_context(request, "board", live_view="board")
    context["board_page"] = build_board_page(context["fleet"], settings.GINKGO.good_after_s)
    context["server_address"] = request.build_absolute_uri("/").rstrip("/")
    return render_page(request, "dashboard/board.html", context)
