"""Create and clone a portfolio in one typed form, with a dry run before it is saved."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from portfolios.feed_registration import feed_symbols
from portfolios.feeds import UnknownFeed, open_feed
from portfolios.models import FeedRow
from scheduling import operations
from scheduling.dashboard.context import (
    page_context,
    render_page,
    render_problem,
    wants_dialog,
)
from scheduling.dashboard.decorators import operator_with_form
from scheduling.dashboard.pagination import text_parameter
from scheduling.dashboard.portfolio_form import Choices, FormValues, PortfolioForm
from scheduling.dashboard.views.actions import find_portfolio, render_form
from scheduling.errors import Refused, SnapshotUnavailable
from scheduling.observe.fleet_view import FleetView, PortfolioView
from scheduling.operations.backtests import NewBacktest
from scheduling.operations.dry_runs import EVENTS, LIMIT_S, dry_run
from scheduling.operations.registry import CREATE
from scheduling.presentation.dry_runs import dry_run_sentence, figure_rows
from scheduling.presentation.placement import placement_of_new
from scheduling.presentation.strategy_list import strategy_lines

TEMPLATE = "dashboard/parts/portfolio_form.html"
MAX_SYMBOLS = 2_000  #: offered by the picker; others can be typed


@require_http_methods(["GET", "HEAD", "POST"])
@operator_with_form
def create(request: HttpRequest) -> HttpResponse:
    """Show the form of a new portfolio; `?strategy=` and `?artifact=` are filled in."""
    context = page_context(request, "portfolios")
    values = FormValues(
        strategy=text_parameter(request.GET, "strategy"),
        artifact=text_parameter(request.GET, "artifact") or None,
    )
    context["title"] = "New portfolio"
    return _create(request, values, context)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_with_form
def clone(request: HttpRequest, name: str) -> HttpResponse:
    """Show the form of a new portfolio with the values of an existing one."""
    context = page_context(request, "portfolios")
    original = find_portfolio(context["fleet"], name)
    if original is None:
        return render_problem(
            request, 404, "No such portfolio", f"There is no portfolio named {name}."
        )
    context |= {"title": f"Clone {name}", "original": original}
    return _create(request, values_of(original), context)


def values_of(portfolio: PortfolioView) -> FormValues:
    """Return what a clone begins with: all but the name, the pin and the note."""
    return FormValues(
        strategy=portfolio.strategy,
        artifact=portfolio.artifact,
        config=portfolio.config or {},
        symbols=list(portfolio.symbols or []),
        limits=portfolio.limits or {},
        feed=portfolio.feed,
        weight=portfolio.weight,
        priority=portfolio.priority,
        selector=portfolio.selector or {},
        spread_group=portfolio.spread_group or "",
        spread_hard=portfolio.spread_hard,
        catch_up=portfolio.catch_up,
        starting_cash=f"{portfolio.starting_cash:f}",
    )


def choices_for(fleet: FleetView, feed: str) -> Choices:
    """Return what can be chosen now; `feed` is the chosen one."""
    feeds = list(FeedRow.objects.order_by("pk").values_list("name", flat=True))
    feeds = feeds or [open_feed().name]
    try:
        symbols = sorted(feed_symbols(feed if feed in feeds else feeds[0]))
    except UnknownFeed:
        symbols = []
    labels = {f"{k}={v}" for node in fleet.nodes for k, v in (node.labels or {}).items()}
    return Choices(
        strategies=strategy_lines(),
        feeds=feeds,
        symbols=symbols,
        nodes=[node.name for node in fleet.nodes if node.status not in ("lost", "left")],
        labels=sorted(labels),
        spread_groups=sorted({p.spread_group for p in fleet.portfolios if p.spread_group}),
    )


def _create(request: HttpRequest, values: FormValues, context: dict[str, Any]) -> HttpResponse:
    posted = request.method == "POST"
    feed = request.POST.get("feed", "") if posted else values.feed
    choices = choices_for(context["fleet"], feed)
    form = PortfolioForm(request.POST if posted else None, values, choices)
    context |= {
        "form": form,
        "action": CREATE,
        "save_label": "Create",
        "is_new": True,
        "shown_symbols": choices.symbols[:MAX_SYMBOLS],
        "backtest_events": EVENTS,
        "backtest_limit_s": LIMIT_S,
    }
    act = request.POST.get("act", "save")
    if not posted or act == "rebuild":
        form.hide_errors()
        return _shown(request, context)
    try:
        new = _new_portfolio(form)
        if act in ("check", "backtest"):
            new = operations.check_new(new)
            context |= {"checked": True, "placement": [_placement(new)]}
            if act == "backtest":
                return _backtest(request, _backtest_of(new), None, context)
            return _shown(request, context)
        made = operations.create_portfolio(new, actor=request.user.get_username())
    except Refused as refused:
        errors = refused.extra.get("errors")
        if errors is not None:
            form.add_field_errors(errors)
        else:
            context["refused"] = refused.message
        return _shown(request, context, refused.status)
    address = reverse("portfolio", args=[made.name])
    if wants_dialog(request):
        return JsonResponse({"message": f"{made.name} was created.", "redirect": address})
    return redirect(address)


def _new_portfolio(form: PortfolioForm) -> operations.NewPortfolio:
    """Return what the form describes. Raise Refused if a field cannot be read at all.

    The errors of the other fields are found with it, so that they are shown at once.
    """
    if form.is_valid():
        return operations.NewPortfolio(**form.new_portfolio())
    raise Refused("invalid", "", status=400, errors=[])


def _placement(new: operations.NewPortfolio) -> str:
    if new.desired_state == "stopped":
        return f"{new.name} would be created and not run until an operator starts it."
    try:
        return placement_of_new(new)
    except SnapshotUnavailable:
        return "Where it would run cannot be told now: the fleet cannot be read."


def _backtest_of(new: operations.NewPortfolio) -> NewBacktest:
    return NewBacktest(
        strategy=new.strategy,
        config=dict(new.config),
        symbols=list(new.symbols),
        limits=dict(new.limits),
        starting_cash=Decimal(str(new.starting_cash)),
        feed=new.feed or None,
        artifact=new.artifact,
    )


def _backtest(
    request: HttpRequest, wanted: NewBacktest, present: NewBacktest | None, context: dict[str, Any]
) -> HttpResponse:
    """Run the backtest of a checked configuration; show its outcome alone, or in the form."""
    status = 200
    try:
        outcome = dry_run(wanted, present)
        context |= {
            "backtest": outcome,
            "backtest_rows": figure_rows(outcome),
            "backtest_sentence": dry_run_sentence(outcome),
        }
    except Refused as refused:
        status = refused.status
        context |= {
            "backtest_refused": refused.message,
            "backtest_trace": refused.extra.get("trace"),
        }
    if wants_dialog(request):
        return render_page(request, "dashboard/parts/backtest.html", context, status)
    return _shown(request, context, status)


def _shown(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    context["wide_sheet"] = True
    return render_form(request, TEMPLATE, context, status)
