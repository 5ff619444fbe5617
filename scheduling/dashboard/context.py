"""Context and rendering that all pages share: the newest snapshot, the role, the navigation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from scheduling.dashboard.actions import offline_help
from scheduling.dashboard.board.page import BoardPage
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.observe.fleet_view.types import FleetView
from scheduling.observe.localized_reason import localized_reason
from scheduling.permissions import may_act, role_of
from scheduling.presentation.formatting import because, percent
from scheduling.presentation.state_words import alert_word

#: The pages of the navigation: (url name, label, icon).
PAGES = (
    ("board", gettext_lazy("Board"), "i-board"),
    ("portfolios", gettext_lazy("Portfolios"), "i-list"),
    ("orders", gettext_lazy("Orders"), "i-order"),
    ("nodes", gettext_lazy("Nodes"), "i-node"),
    ("handoffs", gettext_lazy("Handoffs"), "i-swap"),
    ("artifacts", gettext_lazy("Strategies"), "i-copy"),
    ("what-if", gettext_lazy("What if"), "i-ask"),
    ("audit", gettext_lazy("Audit"), "i-proof"),
)

Parts = dict[str, str]  #: element id → HTML; see `render_parts`
BOARD_PARTS = ("fleet_summary", "feed_head", "unassigned", "handoff_sidebar", "first_steps")


def summary_context(fleet: FleetView) -> dict[str, Any]:
    """Return what the top bar and the banners show."""
    earned = fleet.total_equity - fleet.total_starting
    return {
        "fleet": fleet,
        "bell": _bell(fleet),
        "earned": earned,
        "earned_percent": percent(earned, fleet.total_starting),
    }


def _bell(fleet: FleetView) -> dict[str, Any]:
    """Return what the bell shows: how many alerts wait for an operator, and the newest of them."""
    waiting = [alert for alert in fleet.alerts if not alert.acknowledged_by]
    newest = max(waiting, key=lambda alert: alert.opened_at, default=None)
    label = ngettext(
        "%(number)s open alert that nobody has acknowledged",
        "%(number)s open alerts that nobody has acknowledged",
        len(waiting),
    ) % {"number": len(waiting)}
    return {
        "count": len(waiting),
        # When it was opened, in ms, and not its id: an alert that is opened again keeps its id.
        "newest": int(newest.opened_at.timestamp() * 1000) if newest else 0,
        "text": because(alert_word(newest.kind), localized_reason(newest)) if newest else "",
        "label": label if waiting else _("Alerts"),
    }


def page_context(request: HttpRequest, page: str, live_view: str = "page") -> dict[str, Any]:
    """Return the context that every page needs, with a fresh snapshot of the fleet.

    `page`: the page of the navigation to which it belongs. `live_view`: what the page's websocket
    asks for, as `parse_view` reads it. Raise SnapshotUnavailable if the fleet cannot be read.
    """
    return {
        **summary_context(read_fleet_view()),
        "current_page": page,
        "pages": PAGES,
        "role": role_of(request.user),
        "may_act": may_act(request.user),
        "live_view": live_view,
        "offline": offline_help() if may_act(request.user) else {},
    }


def render_page(
    request: HttpRequest, template: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    """Render the page. Caches must not keep it: it depends on the time and the user."""
    response = render(request, template, context, status=status)
    patch_cache_control(response, private=True, no_store=True)
    return response


def wants_dialog(request: HttpRequest) -> bool:
    """Return whether the page's script sent the request and shows the response in its dialog."""
    return request.headers.get("X-Dashboard") == "dialog"


def render_problem(request: HttpRequest, status: int, title: str, sentence: str) -> HttpResponse:
    """Render an error as a page or as the content of a dialog."""
    template = "dashboard/parts/problem.html" if wants_dialog(request) else "dashboard/problem.html"
    context = {"title": title, "sentence": sentence, "status": status}
    return render_page(request, template, context, status)


def board_parts(page: BoardPage, operator: bool) -> Parts:
    """Render the parts of the board page by element id: all but its columns and cards."""
    context = {**summary_context(page.fleet), "board_page": page, "may_act": operator}
    return common_parts(context) | render_parts(BOARD_PARTS, context)


def common_parts(context: dict[str, Any]) -> Parts:
    """Render the parts that every page has, by element id."""
    return render_parts(("total_equity", "halt_banner", "banners", "alert_bell"), context)


def render_parts(names: Iterable[str], context: dict[str, Any], folder: str = "parts") -> Parts:
    """Render templates of `folder`, keyed by element id: `total_equity` is `part-total-equity`."""
    return {
        f"part-{name.replace('_', '-')}": render_to_string(
            f"dashboard/{folder}/{name}.html", context
        )
        for name in names
    }
