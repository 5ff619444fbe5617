"""Action forms and their POST requests: a dialog, or a page of its own without scripts."""

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
from scheduling.dashboard.conflicts import localized_refusal, three_way
from scheduling.dashboard.context import page_context, render_page, render_problem, wants_dialog
from scheduling.dashboard.decorators import operator_required
from scheduling.dashboard.forms import EditPortfolioForm
from scheduling.dashboard.pagination import int_parameter
from scheduling.dashboard.revisions import revision_choices
from scheduling.decide.planner.targets import targets
from scheduling.errors import Refused
from scheduling.observe.fleet_view import FleetView, NodeView, PortfolioView, read_portfolio
from scheduling.observe.snapshot import observe
from scheduling.operations import EditBase
from scheduling.operations.registry import DELETE, FORGET_NODE, RELOAD, Operation
from scheduling.presentation.documents import unregistered_node
from scheduling.timing import timing

SHOWN_DIGITS = 16  #: of the hash of an artifact, in the form
#: Fields of the edit form that span its whole width.
WIDE_FIELDS = ("config", "symbols", "note")


def find_portfolio(fleet: FleetView, name: str) -> PortfolioView | None:
    """Return the portfolio of that name, or None."""
    return next((p for p in fleet.portfolios if p.name == name), None)


def find_node(fleet: FleetView, name: str) -> NodeView | None:
    """Return the node of that name, or None."""
    return next((n for n in fleet.nodes if n.name == name), None)


def _not_found(request: HttpRequest, what: str, name: str) -> HttpResponse:
    return render_problem(request, 404, f"No such {what}", f"There is no {what} named {name}.")


def render_form(
    request: HttpRequest, template: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    """Render the form as the content of a dialog, or as a page of its own."""
    context["form_template"] = template
    context["back"] = _return_address(request, reverse("board"))
    whole_page = "dashboard/action_page.html"
    return render_page(request, template if wants_dialog(request) else whole_page, context, status)


def _return_address(request: HttpRequest, fallback: str) -> str:
    """Return the page to go to after the action: the previous one, if it is on this site."""
    address = request.POST.get("next") or request.headers.get("Referer") or ""
    safe = url_has_allowed_host_and_scheme(
        address, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return address if safe and request.path not in address else fallback


def succeed(request: HttpRequest, sentence: str, then: str = "") -> HttpResponse:
    """Confirm the action and go to the address `then`, by default back to the page before."""
    if wants_dialog(request) and not then:
        return JsonResponse({"message": sentence})
    messages.success(request, sentence)
    if wants_dialog(request):
        return JsonResponse({"message": sentence, "redirect": then})
    return redirect(then or _return_address(request, reverse("board")))


def perform_action(
    request: HttpRequest,
    operation: Operation,
    subject: Any,
    name: str | int | None,
    context: dict[str, Any],
    call_with: Any = None,
    then: str = "",
) -> HttpResponse:
    """Show the form; on POST call the operation and show the outcome.

    The operation is called with `call_with`, by default with the name. Afterwards the browser goes
    to the address `then`, by default back.
    """
    title = operation.summary(name or "")
    reason = request.POST.get("reason", "").strip()
    context |= {
        "action": operation,
        "title": f"{title}?",
        "button": title,
        "command": f"manage.py {operation.command.format(name=name)}" if operation.command else "",
        "lines": dialog_lines(operation, subject, context["fleet"]),
        "reason": reason,
        "ticked": [option for option, _ in operation.options if request.POST.get(option)],
    }
    if request.method != "POST":
        return render_form(request, "dashboard/parts/action_form.html", context)
    arguments: dict[str, Any] = {
        option: option in context["ticked"] for option, _ in operation.options
    }
    if operation.asks_reason:
        arguments["reason"] = reason
    try:
        given = call_with or name
        operation.call(*([given] if given else []), actor=request.user.get_username(), **arguments)
    except Refused as refused:
        context["refused"] = refused.message
        return render_form(request, "dashboard/parts/action_form.html", context, refused.status)
    return succeed(request, operation.outcome(name), then)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def node_action(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """Drain or cordon a node, or undo it; forget one that is gone."""
    context = page_context(request, "nodes")
    node = find_node(context["fleet"], name) or unregistered_node(name)
    if node is None:
        return _not_found(request, "node", name)
    operation = NODE_ACTIONS.get(verb)
    if operation is None:
        return _not_found(request, "action", verb)
    then = reverse("nodes") if operation is FORGET_NODE else ""
    return perform_action(request, operation, node, name, context, then=then)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def fleet_action(request: HttpRequest, verb: str) -> HttpResponse:
    """Freeze or unfreeze the fleet; release or prolong a hold on failover."""
    operation = FLEET_ACTIONS.get(verb)
    if operation is None:
        return _not_found(request, "action", verb)
    return perform_action(request, operation, None, None, page_context(request, "board"))


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def portfolio_action(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """Migrate, edit, start, stop, reload, verify or unpin a portfolio."""
    context = page_context(request, "portfolios")
    portfolio = find_portfolio(context["fleet"], name)
    if portfolio is None:
        return _not_found(request, "portfolio", name)
    context["portfolio"] = portfolio
    if verb == "migrate":
        return _migrate(request, portfolio, context)
    if verb == "edit":
        return _edit(request, portfolio, context)
    if verb == "reload":
        return _reload(request, portfolio, context)
    operation = PORTFOLIO_ACTIONS.get(verb)
    if operation is None:
        return _not_found(request, "action", verb)
    # The page that it came from may be that of the deleted portfolio.
    then = reverse("portfolios") if operation is DELETE else ""
    return perform_action(request, operation, portfolio, name, context, then=then)


def _migrate(
    request: HttpRequest, portfolio: PortfolioView, context: dict[str, Any]
) -> HttpResponse:
    answers = targets(observe(timing()).snapshot, portfolio.name, get_language())
    target = request.POST.get("target_node") or request.GET.get("to") or ""
    chosen = next((a for a in answers if a.node == target), None)
    if chosen is None and request.method != "POST":
        chosen = _best_target(answers)
    here = next((a for a in answers if a.node == portfolio.node), None)
    context |= {
        "answers": answers,
        "next_epoch": portfolio.epoch + 1,
        "source_before": here.load_before if here else None,
        "source_after": here.load_before - portfolio.weight if here else None,
        "chosen": chosen.node if chosen else target,
        "source": find_node(context["fleet"], portfolio.node) if portfolio.node else None,
        "reason": request.POST.get("reason", "").strip(),
        "any_feasible": any(a.feasible for a in answers),
    }
    template = "dashboard/parts/migrate_form.html"
    if request.method != "POST":
        return render_form(request, template, context)
    try:
        if not target:
            raise Refused(
                "invalid", f"Choose the node that {portfolio.name} should run on.", status=400
            )
        operations.migrate(
            portfolio.name,
            target,
            actor=request.user.get_username(),
            reason=context["reason"],
        )
    except Refused as refused:
        context["refused"] = refused.message
        return render_form(request, template, context, refused.status)
    return succeed(request, f"{portfolio.name} is moving to {target}.")


def _reload(
    request: HttpRequest, portfolio: PortfolioView, context: dict[str, Any]
) -> HttpResponse:
    """Reload the portfolio to a chosen revision: `?revision=`, or the wanted one."""
    given = int_parameter(request.POST if request.method == "POST" else request.GET, "revision")
    chosen = portfolio.revision if given is None else given
    context |= {
        "action": RELOAD,
        "title": f"Reload {portfolio.name} to a revision",
        "lines": dialog_lines(RELOAD, portfolio, context["fleet"])[1:],
        "revisions": revision_choices(portfolio, chosen),
        "chosen": chosen,
        "command": f"manage.py {RELOAD.command.format(name=portfolio.name)} --revision {chosen}",
        "reason": request.POST.get("reason", "").strip(),
    }
    template = "dashboard/parts/reload_form.html"
    if request.method != "POST":
        return render_form(request, template, context)
    try:
        operations.reload(
            portfolio.name,
            actor=request.user.get_username(),
            reason=context["reason"],
            revision=chosen,
        )
    except Refused as refused:
        context["refused"] = refused.message
        return render_form(request, template, context, refused.status)
    return succeed(request, f"{portfolio.name} is being reloaded to r{chosen}.")


def _best_target(answers: list[Any]) -> Any:
    """Return the feasible target without risk and with the lowest load after the move, or None."""
    feasible = [a for a in answers if a.feasible]
    return min(
        feasible,
        key=lambda a: (a.risk is not None, a.load_after / (a.capacity or 1), a.node),
        default=None,
    )


def editable_fields(portfolio: PortfolioView) -> dict[str, Any]:
    """Return the current values of the editable fields."""
    return {
        "artifact": portfolio.artifact,
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
    current = editable_fields(portfolio)
    context |= {
        "next_revision": portfolio.revision + 1,
        "wide_fields": WIDE_FIELDS,
        "base": EditBase.of(portfolio).token,
    }
    template = "dashboard/parts/edit_form.html"
    if request.method != "POST":
        context["form"] = EditPortfolioForm(initial=_shown(current))
        return render_form(request, template, context)
    form = EditPortfolioForm(request.POST)
    context["form"] = form
    try:
        base = EditBase.from_token(request.POST.get("base", ""))
    except Refused:
        context["refused"] = UNKNOWN_BASE
        return render_form(request, template, context, 400)
    context["base"] = base.token
    if not form.is_valid():
        return render_form(request, template, context, 400)
    # The values that the form showed, not those of now: what it did not change stays as it is.
    unchanged = base == EditBase.of(portfolio)
    original = current if unchanged else operations.values_at(base) or current
    changes = form.changes_from(_comparable(original))
    if not changes:
        return succeed(request, f"{portfolio.name} was not changed.")
    actor = request.user.get_username()
    try:
        operations.revise_portfolio(portfolio.name, changes, actor=actor, base=base)
    except Refused as refused:
        if refused.code == "changed_meanwhile":
            return _show_conflict(request, template, context, refused, original, form)
        errors = refused.extra.get("errors")
        if errors:
            form.add_field_errors(errors)
        else:
            context["refused"] = refused.message
        return render_form(request, template, context, refused.status)
    warnings = operations.warnings_after_change(portfolio.name, changes)
    return succeed(request, " ".join([f"{portfolio.name} was changed.", *warnings]))


#: A form of an older release, or a request that no form sent.
UNKNOWN_BASE = (
    "The form does not say which values it was opened with, so it cannot be told whether somebody "
    "else has changed them since. Your input is kept: check every field and save again."
)


def _shown(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values as the form shows them."""
    return {
        **values,
        "symbols": " ".join(values["symbols"] or []),
        "artifact": (values["artifact"] or "")[:SHOWN_DIGITS],
    }


def _comparable(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values as the form returns them if they were not changed."""
    return {**values, "artifact": (values["artifact"] or "")[:SHOWN_DIGITS] or None}


def _show_conflict(
    request: HttpRequest,
    template: str,
    context: dict[str, Any],
    refused: Refused,
    original: dict[str, Any],
    form: EditPortfolioForm,
) -> HttpResponse:
    """Show who changed what, the three values of each field, and the form with the user's changes
    on top of those of the others: the next save is against what is shown now."""
    view = read_portfolio(context["portfolio"].name)
    if view is None:
        return _not_found(request, "portfolio", context["portfolio"].name)
    now, yours = editable_fields(view), form.cleaned_data
    before = _comparable(original)
    merged = operations.rebased(before, _comparable(now), yours)
    data = EditPortfolioForm.as_data(_shown({**now, **merged}))
    context |= {
        "portfolio": view,
        "next_revision": view.revision + 1,
        "base": EditBase.of(view).token,
        "form": EditPortfolioForm(data),
        "conflict": localized_refusal(refused),
        "three_way": three_way(before, _comparable(now), yours),
    }
    return render_form(request, template, context, refused.status)
