"""Roll-outs: the list, the form that begins one, the page of one, and its two actions."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from scheduling import operations
from scheduling.dashboard.actions import ROLL_OUT_ACTIONS
from scheduling.dashboard.context import page_context, render_page, wants_dialog
from scheduling.dashboard.decorators import operator_required, viewer_required
from scheduling.dashboard.forms import RollOutForm
from scheduling.dashboard.pagination import page_by_id, page_by_offset, text_parameter
from scheduling.dashboard.views.actions import find_action, perform_action, posted, submit_form
from scheduling.models import ItemState, RollOutState
from scheduling.observe.roll_outs import RollOutView, read_roll_out, roll_outs
from scheduling.operations.registry.roll_out_actions import ROLL_OUT

#: Fields of the form that span its whole width.
WIDE_FIELDS = ("artifact", "portfolios", "reason")
#: Portfolios of a page; a roll-out has up to a thousand.
ROWS = 100


@require_safe
@viewer_required
def roll_out_list(request: HttpRequest) -> HttpResponse:
    """List roll-outs, newest first; filter: `?state=`."""
    context = page_context(request, "artifacts")
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
    shown = read_roll_out(number)
    context = page_context(request, "artifacts") | {
        "roll_out": shown,
        "table_page": page_by_offset(shown.items, request.GET, "from", ROWS),
        "counts": _counts(shown),
    }
    return render_page(request, "dashboard/roll_out.html", context)


def _counts(shown: RollOutView) -> list[tuple[str, int]]:
    """Return (state, how many), in the order in which items pass through the states."""
    return [(state, shown.counts[state]) for state in ItemState.values if state in shown.counts]


@operator_required
def begin_roll_out(request: HttpRequest) -> HttpResponse:
    """Show the form; on POST begin the roll-out and go to its page. `?artifact=` is filled in."""
    context = page_context(request, "artifacts") | {"action": ROLL_OUT, "wide_fields": WIDE_FIELDS}
    initial = {"artifact": text_parameter(request.GET, "artifact")}
    form = RollOutForm(posted(request), initial=initial)

    def begin(given: dict[str, Any]) -> HttpResponse:
        given = dict(given)
        reason = given.pop("reason")
        begun = operations.roll_out(
            operations.NewRollOut(**given), actor=request.user.get_username(), reason=reason
        )
        address = reverse("roll-out", args=[begun.id])
        if wants_dialog(request):
            figures = {"number": begun.id, "artifact": begun.artifact}
            message = _("Roll-out %(number)s of %(artifact)s begins with its canary.") % figures
            return JsonResponse({"message": message, "redirect": address})
        return redirect(address)

    return submit_form(request, "dashboard/parts/roll_out_form.html", context, form, begin)


@operator_required
def roll_out_action(request: HttpRequest, number: int, verb: str) -> HttpResponse:
    """Stop a roll-out, or take it back."""
    operation = find_action(ROLL_OUT_ACTIONS, verb)
    shown = read_roll_out(number)
    return perform_action(request, operation, shown, number, page_context(request, "artifacts"))
