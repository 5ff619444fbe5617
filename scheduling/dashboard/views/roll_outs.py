"""Roll-outs: the list, the page of one, and its two actions."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods, require_safe

from scheduling.dashboard.actions import ROLL_OUT_ACTIONS
from scheduling.dashboard.context import page_context, render_page, render_problem
from scheduling.dashboard.decorators import operator_required, viewer_required
from scheduling.dashboard.pagination import page_by_id, page_by_offset, text_parameter
from scheduling.dashboard.views.actions import perform_action
from scheduling.errors import NotFound
from scheduling.models import ItemState, RollOutState
from scheduling.observe.roll_outs import RollOutView, read_roll_out, roll_outs

#: Portfolios of a page; a roll-out has up to a thousand.
ROWS = 100


@require_safe
@viewer_required
def roll_out_list(request: HttpRequest) -> HttpResponse:
    """List roll-outs, newest first; filter: `?state=`."""
    context = page_context(request, "handoffs")
    state = text_parameter(request.GET, "state")
    rows = roll_outs()
    context |= {
        "table_page": page_by_id(rows.filter(state=state) if state else rows, request.GET),
        "state": state,
        "states": RollOutState.values,
    }
    return render_page(request, "dashboard/roll_outs.html", context)


@require_safe
@viewer_required
def roll_out(request: HttpRequest, number: int) -> HttpResponse:
    """Show one roll-out: progress, and each portfolio with its state, pause and reason."""
    try:
        shown = read_roll_out(number)
    except NotFound as missing:
        return render_problem(request, 404, "No such roll-out", missing.message)
    context = page_context(request, "handoffs") | {
        "roll_out": shown,
        "table_page": page_by_offset(shown.items, request.GET, "from", ROWS),
        "counts": _counts(shown),
    }
    return render_page(request, "dashboard/roll_out.html", context)


def _counts(shown: RollOutView) -> list[tuple[str, int]]:
    """Return (state, how many), in the order in which items pass through the states."""
    return [(state, shown.counts[state]) for state in ItemState.values if state in shown.counts]


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def roll_out_action(request: HttpRequest, number: int, verb: str) -> HttpResponse:
    """Stop a roll-out, or take it back."""
    operation = ROLL_OUT_ACTIONS.get(verb)
    if operation is None:
        return render_problem(request, 404, "No such action", f"There is no action named {verb}.")
    try:
        shown = read_roll_out(number)
    except NotFound as missing:
        return render_problem(request, 404, "No such roll-out", missing.message)
    return perform_action(request, operation, shown, number, page_context(request, "handoffs"))
