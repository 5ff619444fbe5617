"""What the command palette finds."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from scheduling.dashboard.decorators import viewer_required
from scheduling.dashboard.palette import palette
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.permissions import may_act


@require_safe
@viewer_required
def entries(request: HttpRequest) -> JsonResponse:
    """Return the names of pages, nodes, portfolios and actions, with their addresses."""
    found = palette(read_fleet_view(), may_act(request.user))
    return JsonResponse(found, headers={"Cache-Control": "private, no-store"})
