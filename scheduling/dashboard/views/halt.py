"""Halt all portfolios: the confirmation dialog, the list of what it stopped, and the undo."""

from __future__ import annotations

import re

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from scheduling import operations
from scheduling.dashboard.context import page_context, render_page, wants_dialog
from scheduling.dashboard.decorators import operator_required, viewer_required
from scheduling.dashboard.views.actions import perform_action, render_form
from scheduling.errors import Refused
from scheduling.observe.halts import read_halt
from scheduling.operations.registry.fleet_actions import HALT_ALL, UNDO_HALT
from scheduling.presentation.formatting import whole

CONFIRMATION = re.compile(r"halt (\d{1,6})")


@operator_required
def halt(request: HttpRequest) -> HttpResponse:
    """Ask for a reason and the text `halt N`; stop everything if N portfolios still run."""
    context = page_context(request, "board")
    # Portfolios with an owner, as the halt itself counts them.
    running = sum(portfolio.node is not None for portfolio in context["fleet"].portfolios)
    reason = request.POST.get("reason", "").strip()
    typed = request.POST.get("word", "").strip()
    context |= {
        "title": _title(running),
        "running": running,
        "active": len(context["fleet"].handoffs_active),
        "reason": reason,
        "typed": typed,
    }
    template = "dashboard/parts/halt_form.html"
    if request.method != "POST":
        return render_form(request, template, context)
    try:
        confirmed = CONFIRMATION.fullmatch(typed)
        if confirmed is None:
            raise Refused(
                "invalid", _("Type halt %(running)s to confirm.") % {"running": running}, status=400
            )
        if not reason:
            raise Refused("invalid", _("Give a reason; the audit log keeps it."), status=400)
        done = operations.halt_all(
            actor=request.user.get_username(), reason=reason, expect_running=int(confirmed[1])
        )
    except Refused as refused:
        context["refused"] = refused.message
        if refused.code == "count_differs":
            running = context["running"] = refused.extra["running"]
            context |= {"title": _title(running), "typed": ""}
        return render_form(request, template, context, refused.status)
    address = reverse("board") if done.halt is None else reverse("halted", args=[done.halt])
    if wants_dialog(request):
        return JsonResponse({"message": HALT_ALL.outcome(None), "redirect": address})
    return redirect(address)


@require_safe
@viewer_required
def halted(request: HttpRequest, number: int) -> HttpResponse:
    """Show the portfolios that the halt stopped, one row each."""
    halt_view, outcome = read_halt(number)
    context = page_context(request, "board") | {"halt": halt_view, "outcome": outcome}
    return render_page(request, "dashboard/halted.html", context)


def _title(running: int) -> str:
    text = ngettext(
        "Stop %(number)s portfolio now?", "Stop all %(number)s portfolios now?", running
    )
    return text % {"number": whole(running)}


@operator_required
def undo(request: HttpRequest, number: int) -> HttpResponse:
    """Start the portfolios that the halt still keeps stopped."""
    halt_view, __ = read_halt(number)
    return perform_action(request, UNDO_HALT, halt_view, number, page_context(request, "board"))
