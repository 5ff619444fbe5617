"""Create, clone and edit a portfolio in one typed form, with a dry run before it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from portfolios.feed_registration import feed_symbols
from portfolios.feeds import UnknownFeed, open_feed
from portfolios.models import FeedRow
from scheduling import operations
from scheduling.dashboard.conflicts import localized_refusal, three_way
from scheduling.dashboard.context import page_context, render_page, wants_dialog
from scheduling.dashboard.decorators import operator_with_form
from scheduling.dashboard.pagination import text_parameter
from scheduling.dashboard.portfolio_form import Choices, FormValues, PortfolioForm
from scheduling.dashboard.views.actions import find_portfolio, render_form, succeed
from scheduling.errors import NotFound, Refused, SnapshotUnavailable
from scheduling.observe.fleet_view.read import read_portfolio
from scheduling.observe.fleet_view.types import FleetView, PortfolioView
from scheduling.operations import EditBase
from scheduling.operations.backtests import NewBacktest
from scheduling.operations.dry_runs import EVENTS, LIMIT_S, dry_run
from scheduling.operations.edits import CONFIGURATION
from scheduling.operations.registry.portfolio_actions import CREATE, EDIT
from scheduling.presentation.configuration_diff import differences
from scheduling.presentation.dry_runs import dry_run_sentence, figure_rows
from scheduling.presentation.placement import placement_after_change, placement_of_new
from scheduling.presentation.strategy_list import StrategyLine, strategy_lines

TEMPLATE = "dashboard/parts/portfolio_form.html"
MAX_SYMBOLS = 2_000  #: offered by the picker; others can be typed


@operator_with_form
def create(request: HttpRequest) -> HttpResponse:
    """Show the form of a new portfolio; `?strategy=` and `?artifact=` are filled in."""
    context = page_context(request, "portfolios")
    values = FormValues(
        strategy=text_parameter(request.GET, "strategy"),
        artifact=text_parameter(request.GET, "artifact") or None,
    )
    context["title"] = _("New portfolio")
    return _create(request, values, context)


@operator_with_form
def clone(request: HttpRequest, name: str) -> HttpResponse:
    """Show the form of a new portfolio with the values of an existing one."""
    context = page_context(request, "portfolios")
    original = find_portfolio(context["fleet"], name)
    context["title"] = _("Clone {}").format(name)
    values = FormValues.of(
        editable_values(original), feed=original.feed, starting_cash=f"{original.starting_cash:f}"
    )
    return _create(request, values, context)


@operator_with_form
def edit(request: HttpRequest, name: str) -> HttpResponse:
    """Show the form of an existing portfolio; on POST check, backtest or save the changes."""
    context = page_context(request, "portfolios")
    portfolio = find_portfolio(context["fleet"], name)
    context |= {
        "title": _("Edit {}").format(name),
        "action": EDIT,
        "portfolio": portfolio,
        "save_label": _("Save"),
        "base": EditBase.of(portfolio).token,
    }
    current = editable_values(portfolio)
    if request.method != "POST":
        return _show_edit(request, current, context)
    try:
        base = EditBase.from_token(request.POST.get("base", ""))
    except Refused:
        context["refused"] = _(UNKNOWN_BASE)
        return _show_edit(request, current, context, 400)
    context["base"] = base.token
    # Changes are relative to the values that the form showed, which others may have changed since.
    is_current = base == EditBase.of(portfolio)
    original = current if is_current else operations.values_at(base) or current
    form = _edit_form(request, original, context)
    act = request.POST.get("act", "save")
    if act == "rebuild":
        form.hide_errors()
        return _render(request, context)
    if not form.is_valid():
        return _render(request, context, 400)
    changes = _changes(form, original)
    try:
        if act in ("check", "backtest"):
            return _dry_edit(request, form, original, changes, context)
        return _save(request, changes, base, context)
    except Refused as refused:
        if refused.code == "changed_meanwhile":
            return _show_conflict(request, refused, original, form, context)
        return _show_refusal(request, refused, context)


def _edit_form(
    request: HttpRequest, values: Mapping[str, Any], context: dict[str, Any]
) -> PortfolioForm:
    """Return the form with what was posted, or with `values`; the context gets it too."""
    portfolio: PortfolioView = context["portfolio"]
    shown = FormValues.of(values, note=values.get("note", ""))
    choices = choices_for(context["fleet"], portfolio.feed, shown)
    # After a conflict the form shows the merged `values` instead of what was posted.
    shows_posted = request.method == "POST" and "three_way" not in context
    form = PortfolioForm(request.POST if shows_posted else None, shown, choices, is_new=False)
    context |= _form_context(form)
    return form


def _show_edit(
    request: HttpRequest, values: Mapping[str, Any], context: dict[str, Any], status: int = 200
) -> HttpResponse:
    """Show the form of the existing portfolio with `values`."""
    _edit_form(request, values, context)
    return _render(request, context, status)


def _changes(form: PortfolioForm, original: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changed fields with their new values; a note counts only beside a change."""
    wanted = {**form.configuration(), **form.placement()}
    changes = {name: value for name, value in wanted.items() if value != original[name]}
    note = form.cleaned_data["note"]
    return {**changes, "note": note} if changes and note else changes


def _save(
    request: HttpRequest, changes: dict[str, Any], base: EditBase, context: dict[str, Any]
) -> HttpResponse:
    """Store the changes and go back, with a sentence for each demand the node no longer meets."""
    name = context["portfolio"].name
    if not changes:
        return succeed(request, _("{} was not changed.").format(name))
    operations.revise_portfolio(name, changes, actor=request.user.get_username(), base=base)
    warnings = operations.warnings_after_change(name, changes)
    return succeed(request, " ".join([_("{} was changed.").format(name), *warnings]))


def _dry_edit(
    request: HttpRequest,
    form: PortfolioForm,
    original: Mapping[str, Any],
    changes: dict[str, Any],
    context: dict[str, Any],
) -> HttpResponse:
    """Show the changes and whether the portfolio still fits its node.

    If asked, also backtest the configuration before and after the changes.
    """
    portfolio: PortfolioView = context["portfolio"]
    wanted = {**original, **{name: value for name, value in changes.items() if name != "note"}}
    operations.check_change(portfolio.name, wanted)
    reloads = any(wanted[name] != original[name] for name in CONFIGURATION)
    context |= {
        "checked": True,
        "differences": differences(original, wanted),
        "no_backtest": not reloads,
        "placement": _consequences(portfolio, form.placement(), reloads=reloads),
    }
    if request.POST["act"] == "check":
        return _render(request, context)
    cash, feed = portfolio.starting_cash, portfolio.feed
    return _backtest(
        request, _backtest_of(wanted, cash, feed), _backtest_of(original, cash, feed), context
    )


def _consequences(
    portfolio: PortfolioView, placement: Mapping[str, Any], *, reloads: bool
) -> list[str]:
    """Return sentences on the new revision and its reload, and on what the node no longer meets."""
    sentences = []
    if reloads:
        text = (
            _("Revision {} would be made, and {} reloads it.")
            if portfolio.node
            else _("Revision {} would be made, and it starts when it is placed.")
        )
        sentences.append(text.format(portfolio.revision + 1, portfolio.node))
    if portfolio.node is not None:
        try:
            found = placement_after_change(portfolio.id, placement)
        except SnapshotUnavailable:
            found = [_("Whether it still fits its node cannot be told now.")]
        sentences += found or [_("It stays on {}.").format(portfolio.node)]
    return sentences


def _show_conflict(
    request: HttpRequest,
    refused: Refused,
    original: Mapping[str, Any],
    form: PortfolioForm,
    context: dict[str, Any],
) -> HttpResponse:
    """Show who else changed the portfolio, what, and a form with the changes of both.

    Where both changed a field, the form has the user's value. Its base is the present state, so
    that saving it again is not refused for the same changes.
    """
    view = read_portfolio(context["portfolio"].name)
    if view is None:
        raise NotFound("portfolio", context["portfolio"].name)
    now = editable_values(view)
    yours = {**form.configuration(), **form.placement()}
    merged = operations.rebase(original, now, yours)
    context |= {
        "portfolio": view,
        "base": EditBase.of(view).token,
        "conflict": localized_refusal(refused),
        "three_way": three_way(original, now, yours),
    }
    values = {**now, **merged, "note": form.cleaned_data["note"]}
    return _show_edit(request, values, context, refused.status)


def _show_refusal(request: HttpRequest, refused: Refused, context: dict[str, Any]) -> HttpResponse:
    """Show the refused form: with errors beside its fields, or with the refusal's sentence."""
    errors = refused.extra.get("errors")
    if errors is None:
        context["refused"] = refused.message
    else:
        context["form"].add_field_errors(errors)
    return _render(request, context, refused.status)


#: Shown if a form of an older release, or a request without a form, posts no base of the edit.
UNKNOWN_BASE = gettext_noop(
    "The form does not say which values it was opened with, so it cannot be told whether somebody "
    "else has changed them since. Your input is kept: check every field and save again."
)


def editable_values(portfolio: PortfolioView) -> dict[str, Any]:
    """Return the values that an edit can change, and a clone begins with."""
    return {
        "strategy": portfolio.strategy,
        "artifact": portfolio.artifact,
        "config": portfolio.config,
        "symbols": list(portfolio.symbols),
        "limits": portfolio.limits,
        "weight": portfolio.weight,
        "priority": portfolio.priority,
        "selector": portfolio.selector,
        "spread_group": portfolio.spread_group,
        "spread_hard": portfolio.spread_hard,
        "catch_up": portfolio.catch_up,
    }


def choices_for(fleet: FleetView, feed: str, values: FormValues) -> Choices:
    """Return what can be chosen now. `feed`: the chosen one. `values`: what the form shows."""
    lines = strategy_lines()
    shown = values.strategy, values.artifact
    if values.strategy and shown not in ((line.name, line.artifact) for line in lines):
        # The form shows a strategy that no node has at the moment.
        lines.append(StrategyLine(values.strategy, None, "installed", values.artifact))
    feeds = list(FeedRow.objects.order_by("pk").values_list("name", flat=True))
    feeds = feeds or [open_feed().name]
    try:
        symbols = sorted(feed_symbols(feed if feed in feeds else feeds[0]))
    except UnknownFeed:
        symbols = []
    labels = {f"{key}={value}" for node in fleet.nodes for key, value in node.labels.items()}
    return Choices(
        strategies=lines,
        feeds=feeds,
        symbols=symbols,
        nodes=[node.name for node in fleet.nodes if node.status not in ("lost", "left")],
        labels=sorted(labels),
        spread_groups=sorted({p.spread_group for p in fleet.portfolios if p.spread_group}),
    )


def _create(request: HttpRequest, values: FormValues, context: dict[str, Any]) -> HttpResponse:
    """Show the form with `values`; on POST check, backtest or create the portfolio."""
    posted = request.method == "POST"
    feed = request.POST.get("feed", "") if posted else values.feed
    choices = choices_for(context["fleet"], feed, values)
    form = PortfolioForm(request.POST if posted else None, values, choices)
    context |= {"action": CREATE, "save_label": _("Create"), "is_new": True, **_form_context(form)}
    act = request.POST.get("act", "save")
    if not posted or act == "rebuild":
        form.hide_errors()
        return _render(request, context)
    try:
        new = _new_portfolio(form)
        if act in ("check", "backtest"):
            new = operations.check_new(new)
            context |= {"checked": True, "placement": [_placement_sentence(new)]}
            if act == "backtest":
                wanted = _backtest_of(asdict(new), new.starting_cash, new.feed)
                return _backtest(request, wanted, present=None, context=context)
            return _render(request, context)
        made = operations.create_portfolio(new, actor=request.user.get_username())
    except Refused as refused:
        return _show_refusal(request, refused, context)
    address = reverse("portfolio", args=[made.name])
    return succeed(request, _("{} was created.").format(made.name), address)


def _new_portfolio(form: PortfolioForm) -> operations.NewPortfolio:
    """Return what the form describes. Raise Refused if a field is invalid.

    The refusal names no field: the form itself shows the errors of its fields.
    """
    if form.is_valid():
        return operations.NewPortfolio(**form.new_portfolio())
    raise Refused("invalid", "", status=400, errors=[])


def _placement_sentence(new: operations.NewPortfolio) -> str:
    """Return where the new portfolio would run, or why that is not known."""
    if new.desired_state == "stopped":
        text = _("{} would be created and not run until an operator starts it.")
        return text.format(new.name)
    try:
        return placement_of_new(new)
    except SnapshotUnavailable:
        return _("Where it would run cannot be told now: the fleet cannot be read.")


def _form_context(form: PortfolioForm) -> dict[str, Any]:
    return {
        "form": form,
        "shown_symbols": form.choices.symbols[:MAX_SYMBOLS],
        "backtest_events": EVENTS,
        "backtest_limit_s": LIMIT_S,
    }


def _backtest_of(values: Mapping[str, Any], cash: Any, feed: str) -> NewBacktest:
    """Return the backtest of a form's configuration; `feed`: "" for that of the installation."""
    return NewBacktest(
        strategy=values["strategy"],
        config=dict(values["config"]),
        symbols=list(values["symbols"]),
        limits=dict(values["limits"]),
        starting_cash=Decimal(str(cash)),
        feed=feed or None,
        artifact=values["artifact"],
    )


def _backtest(
    request: HttpRequest, wanted: NewBacktest, present: NewBacktest | None, context: dict[str, Any]
) -> HttpResponse:
    """Backtest the checked configuration `wanted`, and the `present` one if there is one.

    A dialog gets the outcome alone, a page the form with the outcome.
    """
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
    return _render(request, context, status)


def _render(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    context["wide_sheet"] = True
    return render_form(request, TEMPLATE, context, status)
