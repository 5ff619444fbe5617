"""Dialogs that ask, and the posts behind them. The same form is a page where no script runs."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import get_language
from django.views.decorators.http import require_http_methods

from scheduling import operations
from scheduling.dashboard.actions import (
    FLEET_ACTIONS,
    NODE_ACTIONS,
    PORTFOLIO_ACTIONS,
    dialog_lines,
)
from scheduling.dashboard.context import page_context, problem, show, wants_dialog
from scheduling.dashboard.decorators import for_operators
from scheduling.dashboard.forms import EditPortfolio
from scheduling.decide.planner.targets import targets
from scheduling.errors import Refused
from scheduling.observe.fleet_view import FleetView, NodeView, PortfolioView
from scheduling.observe.snapshot import observe
from scheduling.operations.registry import Operation
from scheduling.timing import timing

#: Fields of the edit form that take its whole width.
WIDE_FIELDS = ("config", "symbols", "note")


def find_portfolio(board: FleetView, name: str) -> PortfolioView | None:
    """Return the portfolio of that name, or None."""
    return next((p for p in board.portfolios if p.name == name), None)


def find_node(board: FleetView, name: str) -> NodeView | None:
    """Return the node of that name, or None."""
    return next((n for n in board.nodes if n.name == name), None)


def _missing(request: HttpRequest, what: str, name: str) -> HttpResponse:
    return problem(request, 404, f"No such {what}", f"There is no {what} named {name}.")


def show_form(
    request: HttpRequest, template: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    """Return the form as the inside of a dialog, or as a page of its own."""
    context["form_template"] = template
    context["back"] = _back(request, reverse("board"))
    whole_page = "dashboard/action_page.html"
    return show(request, template if wants_dialog(request) else whole_page, context, status)


def _back(request: HttpRequest, fallback: str) -> str:
    """Return where to go after the act: where the person came from, if that is a page of ours."""
    asked = request.POST.get("next") or request.headers.get("Referer") or ""
    safe = url_has_allowed_host_and_scheme(
        asked, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return asked if safe and request.path not in asked else fallback


def _done(request: HttpRequest, sentence: str) -> HttpResponse:
    if wants_dialog(request):
        return JsonResponse({"say": sentence})
    messages.success(request, sentence)
    return redirect(_back(request, reverse("board")))


def perform_action(
    request: HttpRequest,
    operation: Operation,
    subject: Any,
    name: str | int | None,
    context: dict[str, Any],
) -> HttpResponse:
    """Show the dialog; on POST make the one call and show the outcome."""
    title = operation.summary(name or "")
    reason = request.POST.get("reason", "").strip()
    context |= {
        "act": operation,
        "title": f"{title}?",
        "button": title,
        "command": f"manage.py {operation.command.format(name=name)}",
        "lines": dialog_lines(operation, subject, context["board"]),
        "reason": reason,
        "ticked": [option for option, _ in operation.options if request.POST.get(option)],
    }
    if request.method != "POST":
        return show_form(request, "dashboard/parts/action_form.html", context)
    asked: dict[str, Any] = {option: option in context["ticked"] for option, _ in operation.options}
    if operation.asks_reason:
        asked["reason"] = reason
    try:
        operation.call(*([name] if name else []), actor=request.user.get_username(), **asked)
    except Refused as refused:
        context["refused"] = refused.message
        return show_form(request, "dashboard/parts/action_form.html", context, refused.status)
    return _done(request, operation.outcome(name))


@require_http_methods(["GET", "HEAD", "POST"])
@for_operators
def node_act(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """Drain, cordon, and the undoing of both."""
    context = page_context(request, "nodes")
    node = find_node(context["board"], name)
    if node is None:
        return _missing(request, "node", name)
    operation = NODE_ACTIONS.get(verb)
    if operation is None:
        return _missing(request, "action", verb)
    return perform_action(request, operation, node, name, context)


@require_http_methods(["GET", "HEAD", "POST"])
@for_operators
def fleet_act(request: HttpRequest, verb: str) -> HttpResponse:
    """Freeze and unfreeze; release and prolong a hold on failover."""
    operation = FLEET_ACTIONS.get(verb)
    if operation is None:
        return _missing(request, "action", verb)
    return perform_action(request, operation, None, None, page_context(request, "board"))


@require_http_methods(["GET", "HEAD", "POST"])
@for_operators
def portfolio_act(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """Migrate, edit, start, stop, reload, unpin."""
    context = page_context(request, "portfolios")
    portfolio = find_portfolio(context["board"], name)
    if portfolio is None:
        return _missing(request, "portfolio", name)
    context["portfolio"] = portfolio
    if verb == "migrate":
        return _migrate(request, portfolio, context)
    if verb == "edit":
        return _edit(request, portfolio, context)
    operation = PORTFOLIO_ACTIONS.get(verb)
    if operation is None:
        return _missing(request, "action", verb)
    return perform_action(request, operation, portfolio, name, context)


def _migrate(
    request: HttpRequest, portfolio: PortfolioView, context: dict[str, Any]
) -> HttpResponse:
    answers = targets(observe(timing()).snapshot, portfolio.name, get_language())
    asked = request.POST.get("target_node") or request.GET.get("to") or ""
    chosen = next((a for a in answers if a.node == asked), None)
    if chosen is None and request.method != "POST":
        chosen = _best(answers)
    here = next((a for a in answers if a.node == portfolio.node), None)
    context |= {
        "answers": answers,
        "next_epoch": portfolio.epoch + 1,
        "source_before": here.load_before if here else None,
        "source_after": here.load_before - portfolio.weight if here else None,
        "chosen": chosen.node if chosen else asked,
        "source": find_node(context["board"], portfolio.node) if portfolio.node else None,
        "reason": request.POST.get("reason", "").strip(),
        "any_feasible": any(a.feasible for a in answers),
    }
    template = "dashboard/parts/migrate_form.html"
    if request.method != "POST":
        return show_form(request, template, context)
    try:
        if not asked:
            raise Refused(
                "invalid", f"Choose the node that {portfolio.name} should run on.", status=400
            )
        operations.migrate(
            portfolio.name,
            asked,
            actor=request.user.get_username(),
            reason=context["reason"],
        )
    except Refused as refused:
        context["refused"] = refused.message
        return show_form(request, template, context, refused.status)
    return _done(request, f"{portfolio.name} is moving to {asked}.")


def _best(answers: list[Any]) -> Any:
    """Return the feasible answer without a risk and with the lowest load after, or None."""
    feasible = [a for a in answers if a.feasible]
    return min(
        feasible,
        key=lambda a: (a.risk is not None, a.load_after / (a.capacity or 1), a.node),
        default=None,
    )


def editable(portfolio: PortfolioView) -> dict[str, Any]:
    """Return the values that the edit form starts from."""
    return {
        "config": portfolio.config or {},
        "symbols": list(portfolio.symbols or []),
        "limits": portfolio.limits or {},
        "selector": portfolio.selector or {},
        "weight": portfolio.weight,
        "priority": portfolio.priority,
        "spread_group": portfolio.spread_group or "",
        "catch_up": portfolio.catch_up,
    }


def _edit(request: HttpRequest, portfolio: PortfolioView, context: dict[str, Any]) -> HttpResponse:
    initial = editable(portfolio)
    shown = {**initial, "symbols": " ".join(initial["symbols"])}
    context |= {"next_revision": portfolio.revision + 1, "wide_fields": WIDE_FIELDS}
    template = "dashboard/parts/edit_form.html"
    if request.method != "POST":
        context["form"] = EditPortfolio(initial=shown)
        return show_form(request, template, context)
    form = EditPortfolio(request.POST, initial=shown)
    context["form"] = form
    if not form.is_valid():
        return show_form(request, template, context, 400)
    changes = form.changes_from(initial)
    if not changes:
        return _done(request, f"Nothing of {portfolio.name} was changed.")
    try:
        operations.revise_portfolio(portfolio.name, changes, actor=request.user.get_username())
    except Refused as refused:
        errors = refused.extra.get("errors")
        if errors:
            form.name_errors(errors)
        else:
            context["refused"] = refused.message
        return show_form(request, template, context, refused.status)
    warnings = operations.warnings_after_change(portfolio.name, changes)
    return _done(request, " ".join([f"{portfolio.name} was changed.", *warnings]))
