"""Action forms and their POST requests: a dialog, or a page of its own without scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from scheduling import operations
from scheduling.dashboard.actions import (
    FLEET_ACTIONS,
    NODE_ACTIONS,
    PORTFOLIO_ACTIONS,
    dialog_lines,
)
from scheduling.dashboard.context import page_context, render_page, wants_dialog
from scheduling.dashboard.decorators import operator_required
from scheduling.dashboard.forms import OperationForm
from scheduling.dashboard.pagination import int_parameter
from scheduling.dashboard.revisions import revision_choices
from scheduling.decide.planner.targets import NotInSnapshot, targets
from scheduling.errors import NotFound, Refused
from scheduling.observe.fleet_view.types import FleetView, NodeView, PortfolioView
from scheduling.observe.snapshot import observe
from scheduling.operations.registry.node_actions import FORGET_NODE
from scheduling.operations.registry.operation import Operation
from scheduling.operations.registry.portfolio_actions import DELETE, RELOAD
from scheduling.presentation.documents import find_any_node
from scheduling.timing import timing


def find_portfolio(fleet: FleetView, name: str) -> PortfolioView:
    """Return the portfolio of that name. Raise NotFound."""
    for portfolio in fleet.portfolios:
        if portfolio.name == name:
            return portfolio
    raise NotFound("portfolio", name)


def find_node(fleet: FleetView, name: str) -> NodeView:
    """Return the node of that name. Raise NotFound, also for one that never registered."""
    for node in fleet.nodes:
        if node.name == name:
            return node
    raise NotFound("node", name)


def find_action(actions: Mapping[str, Operation], verb: str) -> Operation:
    """Return the operation of that verb. Raise NotFound."""
    if verb not in actions:
        raise NotFound("action", verb)
    return actions[verb]


def render_form(
    request: HttpRequest, template: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    """Render the form as the content of a dialog, or as a page of its own."""
    context["form_template"] = template
    context["back"] = _return_address(request, reverse("board"))
    whole_page = "dashboard/action_page.html"
    return render_page(request, template if wants_dialog(request) else whole_page, context, status)


def posted(request: HttpRequest) -> QueryDict | None:
    """Return the fields of a submitted form, or None if the form is only shown."""
    return request.POST if request.method == "POST" else None


def _return_address(request: HttpRequest, fallback: str) -> str:
    """Return the address of the previous page, to which the browser goes after the action.

    Return `fallback` if that address is on another site, or is that of the form itself.
    """
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
    template: str = "dashboard/parts/action_form.html",
) -> HttpResponse:
    """Show the form of an operation; on POST call the operation and show the outcome.

    `subject`: what the dialog describes. `name`: what titles and sentences call it; None: the
    fleet. `call_with`: the first argument of the operation, by default the name. Afterwards the
    browser goes to the address `then`, by default back.
    """
    title = operation.summary("" if name is None else name)
    reason = request.POST.get("reason", "").strip()
    context |= {
        "action": operation,
        "title": f"{title}{_('?')}",
        "button": title,
        "command": operation.command.format(name=name),
        "lines": dialog_lines(operation, subject, context["fleet"]),
        "reason": reason,
        "ticked": [option for option, __ in operation.options if request.POST.get(option)],
    }
    if request.method != "POST":
        return render_form(request, template, context)
    arguments: dict[str, Any] = {
        option: option in context["ticked"] for option, __ in operation.options
    }
    if operation.asks_reason:
        arguments["reason"] = reason
    try:
        concerned = call_with or name
        positional = [concerned] if concerned else []  # none for the whole fleet
        operation.call(*positional, actor=request.user.get_username(), **arguments)
    except Refused as refused:
        context["refused"] = refused.message
        return render_form(request, template, context, refused.status)
    done = operation.outcome(name) if operation.done else title
    return succeed(request, done, then)


#: The form of an operation with nothing but its fields.
FIELDS_FORM = "dashboard/parts/fields_form.html"


def submit_form(
    request: HttpRequest,
    template: str,
    context: dict[str, Any],
    form: OperationForm,
    perform: Callable[[dict[str, Any]], HttpResponse],
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> HttpResponse:
    """Show the form; on POST call `perform` with the form's values and return the response.

    If `perform` raises Refused, the errors are shown beside the fields, and the input is kept.
    `renamed`: field of an error → field of the form, where the names differ.
    """
    context["form"] = form
    if request.method != "POST":
        return render_form(request, template, context)
    if not form.is_valid():
        return render_form(request, template, context, 400)
    try:
        return perform(form.cleaned_data)
    except Refused as refused:
        for error in refused.extra.get("errors") or [{"message": refused.message}]:
            field = error.get("field", "")
            form.add_field_errors([{**error, "field": renamed.get(field, field)}])
        return render_form(request, template, context, refused.status)


@operator_required
def node_action(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """Cordon or uncordon a node, end its drain, or forget it once it is gone."""
    context = page_context(request, "nodes")
    node = find_any_node(context["fleet"], name)
    operation = find_action(NODE_ACTIONS, verb)
    then = reverse("nodes") if operation is FORGET_NODE else ""
    return perform_action(request, operation, node, name, context, then=then)


@operator_required
def fleet_action(request: HttpRequest, verb: str) -> HttpResponse:
    """Freeze or unfreeze the fleet; release or prolong a hold on failover."""
    operation = find_action(FLEET_ACTIONS, verb)
    return perform_action(request, operation, None, None, page_context(request, "board"))


@operator_required
def portfolio_action(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """Migrate, start, stop, reload, verify, unpin or delete a portfolio."""
    context = page_context(request, "portfolios")
    portfolio = find_portfolio(context["fleet"], name)
    context["portfolio"] = portfolio
    if verb == "migrate":
        return _migrate(request, portfolio, context)
    if verb == "reload":
        return _reload(request, portfolio, context)
    operation = find_action(PORTFOLIO_ACTIONS, verb)
    # The page that the request came from may be that of the deleted portfolio.
    then = reverse("portfolios") if operation is DELETE else ""
    return perform_action(request, operation, portfolio, name, context, then=then)


def _migrate(
    request: HttpRequest, portfolio: PortfolioView, context: dict[str, Any]
) -> HttpResponse:
    """Show for each node whether it takes the portfolio; on POST migrate it to the chosen one."""
    try:
        answers = targets(observe(timing()).snapshot, portfolio.name, get_language())
    except NotInSnapshot:  # deleted since the page's fleet was read
        raise NotFound("portfolio", portfolio.name) from None
    target = request.POST.get("target_node") or request.GET.get("to") or ""
    chosen = next((a for a in answers if a.node == target), None)
    if chosen is None and request.method != "POST":
        chosen = _best_target(answers)
    # A pending portfolio may have an owner that is lost or has left: that node runs nothing.
    runs_on = None if portfolio.phase == "pending" else portfolio.node
    source = next((a for a in answers if a.node == runs_on), None)
    context |= {
        "answers": answers,
        "runs_on": runs_on,
        "next_epoch": portfolio.epoch + 1,
        "source": source,
        "source_after": source.load_before - portfolio.weight if source else None,
        "chosen": chosen.node if chosen else target,
        "command": f"migrate_portfolio {portfolio.name}",
        "reason": request.POST.get("reason", "").strip(),
        "any_feasible": any(a.feasible for a in answers),
        # A card was dropped on this node before the browser knew whether it takes the portfolio.
        "refused": "" if chosen is None or chosen.feasible else f"{chosen.sentence}.",
    }
    template = "dashboard/parts/migrate_form.html"
    if request.method != "POST":
        return render_form(request, template, context)
    try:
        if not target:
            raise Refused(
                "invalid",
                _("Choose the node that %(name)s should run on.") % {"name": portfolio.name},
                status=400,
            )
        operations.migrate(
            portfolio.name, target, actor=request.user.get_username(), reason=context["reason"]
        )
    except Refused as refused:
        context["refused"] = refused.message
        return render_form(request, template, context, refused.status)
    names = {"name": portfolio.name, "node": target}
    return succeed(request, _("%(name)s is moving to %(node)s.") % names)


def _reload(
    request: HttpRequest, portfolio: PortfolioView, context: dict[str, Any]
) -> HttpResponse:
    """Reload the portfolio to a chosen revision: `?revision=`, or the wanted one."""
    given = int_parameter(request.POST if request.method == "POST" else request.GET, "revision")
    chosen = portfolio.revision if given is None else given
    _effect, *lines = dialog_lines(RELOAD, portfolio, context["fleet"])
    context |= {
        "action": RELOAD,
        "title": _("Reload %(name)s to a revision") % {"name": portfolio.name},
        "lines": lines,  # the form states the effect itself
        "revisions": revision_choices(portfolio, chosen),
        "chosen": chosen,
        "command": f"{RELOAD.command.format(name=portfolio.name)} --revision {chosen}",
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
    names = {"name": portfolio.name, "number": chosen}
    return succeed(request, _("%(name)s is being reloaded to r%(number)s.") % names)


def _best_target(answers: list[Any]) -> Any:
    """Return the feasible target to offer first, or None if no target is feasible.

    Targets without a risk come first, then the one that is filled least after the move.
    """
    feasible = [each for each in answers if each.feasible]
    return min(
        feasible,
        key=lambda each: (each.risk is not None, each.load_after / (each.capacity or 1), each.node),
        default=None,
    )
