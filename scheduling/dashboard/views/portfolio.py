"""Page of one portfolio, and the points of its equity curve as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from portfolios.artifacts.catalog import find_strategy
from portfolios.models import EquityPoint, Order, Revision
from portfolios.strategies import registry as strategies
from portfolios.strategies.registry import UnknownStrategy
from scheduling.dashboard.context import page_context, render_page
from scheduling.dashboard.decorators import viewer_required
from scheduling.dashboard.pagination import int_parameter, page_by_offset
from scheduling.dashboard.portfolio_page import (
    equity_polyline,
    portfolio_context,
    revision_row,
    shown_limits,
    shown_parameters,
    stopped_message,
)
from scheduling.dashboard.revisions import Comparison, compare
from scheduling.dashboard.value_tree import value_tree
from scheduling.dashboard.views.actions import find_portfolio
from scheduling.models import Event, Handoff, Tenure
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.observe.fleet_view.types import PortfolioView
from scheduling.observe.localized_reason import localized_text
from scheduling.observe.portfolio_log import read_log
from scheduling.presentation.formatting import price, quantity
from scheduling.verification.latest import newest_verification

RANGES = {"1h": timedelta(hours=1), "6h": timedelta(hours=6), "24h": timedelta(days=1), "all": None}
ORDER_STATUSES = ("open", "filled", "cancelled", "expired", "suppressed", "refused")
MAX_POINTS = 2000  #: of a curve; more than a screen has pixels
MAX_MARKS = 500  #: orders, handoffs or tenures on a curve
MAX_REVISION = 2_147_483_647  #: the largest number that its column can hold


def _since(request: HttpRequest) -> tuple[str, datetime | None]:
    """Return the name of the requested range and its start; the start of `all` is None."""
    name = request.GET.get("range", "")
    name = name if name in RANGES else "24h"
    span = RANGES[name]
    return name, (timezone.now() - span if span else None)


def _equity(portfolio_id: int, since: datetime | None) -> list[tuple[float, Any]]:
    """Return (epoch seconds, equity) pairs, thinned evenly so that the shape is kept."""
    points = EquityPoint.objects.filter(portfolio_id=portfolio_id).order_by("seq")
    if since is not None:
        points = points.filter(at__gte=since)
    rows = list(points.values_list("at", "equity"))
    step = max(math.ceil(len(rows) / MAX_POINTS), 1)
    kept = rows[::step]
    if rows and kept[-1] != rows[-1]:
        kept.append(rows[-1])
    return [(at.timestamp(), equity) for at, equity in kept]


@require_safe
@viewer_required
def portfolio(request: HttpRequest, name: str) -> HttpResponse:
    """Show one portfolio: state, equity curve, orders, tenures and revisions."""
    context = page_context(request, "portfolios", live_view=f"portfolio:{name}")
    shown = find_portfolio(context["fleet"], name)
    range_name, since = _since(request)
    status = request.GET.get("status", "")
    orders = Order.objects.filter(portfolio_id=shown.id).order_by("-seq", "-index")
    if status in ORDER_STATUSES:
        orders = orders.filter(status=status)
    tenures = Tenure.objects.filter(portfolio_id=shown.id).select_related("node", "handoff")
    curve, between = equity_polyline(_equity(shown.id, since))
    revisions = Revision.objects.filter(portfolio_id=shown.id).order_by("-number")
    revision_page = page_by_offset(
        revisions, request.GET, "revisions", 12, lambda row: revision_row(row, shown)
    )
    context |= portfolio_context(context["fleet"], shown)
    if shown.phase == "stopped":
        stops = Event.objects.filter(portfolio_id=shown.id, kind="portfolio_stopped")
        newest_stop = stops.order_by("-pk").first()
        context["message"] = stopped_message(shown, newest_stop) or context["message"]
    context |= {
        "ranges": tuple(RANGES),
        "range": range_name,
        "curve": curve,
        "between": between,
        "orders": page_by_offset(orders, request.GET, "orders", 20),
        "order_statuses": ORDER_STATUSES,
        "status": status,
        "tenures": page_by_offset(
            tenures.order_by("-epoch"), request.GET, "tenures", 12, _tenure_row
        ),
        "revisions": revision_page,
        "newest_revision": revisions.values_list("number", flat=True).first(),
        # `older` of the page is the offset of the next one: so many rows come before it.
        "revisions_older": _("%(number)s older")
        % {"number": max(revisions.count() - int(revision_page.older or 0), 0)},
        "verification": newest_verification(shown.id, name),
        "log": read_log(shown.id),
        "limits": shown_limits(shown.limits),
        "parameters": shown_parameters(shown.config, schema_of(shown)),
        "state_tree": value_tree(dict(shown.state)),
        "now": context["fleet"].at,
    }
    older, newer = (int_parameter(request.GET, name) for name in ("older", "newer"))
    if older is not None and newer is not None:
        context |= {"compared": True, "comparison": _comparison(shown, older, newer)}
    return render_page(request, "dashboard/portfolio/page.html", context)


def _comparison(shown: PortfolioView, older: int, newer: int) -> Comparison | None:
    """Return what differs between two revisions; None if one does not exist."""
    if not all(0 < number <= MAX_REVISION for number in (older, newer)):
        return None
    return compare(shown.id, older, newer)


def schema_of(shown: PortfolioView) -> Mapping[str, Any] | None:
    """Return the JSON schema of the strategy's parameters, if it is built in or of an artifact.

    None if the artifact lacks it, or if it is installed on nodes: this process does not import it.
    """
    if shown.artifact is not None:
        try:
            return find_strategy(shown.artifact, shown.strategy).schema
        except UnknownStrategy:
            return None
    found = strategies.BUILT_IN.get(shown.strategy)
    return found.schema() if found else None


def _tenure_row(tenure: Tenure) -> dict[str, Any]:
    end = tenure.ended_at or timezone.now()
    return {
        "row": tenure,
        "first_seq": tenure.from_seq + 1,  # `from_seq` is the last one of the previous owner
        "lasted_s": (end - tenure.started_at).total_seconds(),
    }


@require_safe
@viewer_required
def equity(request: HttpRequest, name: str) -> HttpResponse:
    """Return the curve of `?range=`, its orders, handoffs and tenures; times are Unix seconds."""
    fleet = read_fleet_view()
    shown = find_portfolio(fleet, name)
    __, since = _since(request)
    points = _equity(shown.id, since)
    handoffs = Handoff.objects.filter(portfolio_id=shown.id, finished_at__isnull=False)
    tenures = Tenure.objects.filter(portfolio_id=shown.id, node__isnull=False)
    orders = Order.objects.filter(portfolio_id=shown.id)
    if since is not None:
        handoffs = handoffs.filter(finished_at__gte=since)
        tenures = tenures.exclude(ended_at__lt=since)
        orders = orders.filter(decided_at__gte=since)
    handoffs = handoffs.select_related("source_node", "target_node").order_by("-pk")
    answer = {
        "since": since.timestamp() if since else None,
        "until": fleet.at.timestamp(),
        "time": [at for at, __ in points],
        "equity": [float(value) for __, value in points],
        "handoffs": [
            {
                "id": row.pk,
                "kind": row.kind,
                "state": row.state,
                "at": (row.activated_at or row.finished_at or row.requested_at).timestamp(),
                "pause_ms": row.pause_ms,
                "source": row.source_node.name if row.source_node else None,
                "target": row.target_node.name if row.target_node else None,
            }
            for row in handoffs[:MAX_MARKS]
        ],
        "orders": [
            {
                "at": order.decided_at.timestamp(),
                "symbol": order.symbol,
                "side": order.side,
                "quantity": quantity(order.quantity),
                "price": price(order.price),
                "status": order.status,
                "reason": localized_text(order.reason),
                "seq": order.seq,
            }
            for order in orders.order_by("-seq", "-index")[:MAX_MARKS]
        ],
        "tenures": [
            {
                "node": tenure.node.name if tenure.node else "",
                "revision": tenure.revision,
                "epoch": tenure.epoch,
                "from": tenure.started_at.timestamp(),
                "to": tenure.ended_at.timestamp() if tenure.ended_at else None,
            }
            for tenure in tenures.select_related("node").order_by("-epoch")[:MAX_MARKS]
        ],
    }
    return JsonResponse(answer, headers={"Cache-Control": "private, no-store"})
