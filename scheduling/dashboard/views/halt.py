"""Halt all: the dialog that has to be read, the act, what it stopped, and the way back."""

from __future__ import annotations

import re

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from scheduling import operations
from scheduling.dashboard.context import page_context, problem, show, wants_dialog
from scheduling.dashboard.decorators import for_operators, for_readers
from scheduling.dashboard.views.actions import perform_action, show_form
from scheduling.errors import NotFound, Refused
from scheduling.observe.fleet_view import FleetView
from scheduling.observe.halts import read_halt
from scheduling.operations.registry import HALT_ALL, UNDO_HALT
from scheduling.presentation.formatting import counted

WORD = re.compile(r"halt (\d{1,6})")


def count_running(board: FleetView) -> int:
    """Return how many portfolios a node owns, as the act itself counts them."""
    return sum(p.node is not None for p in board.portfolios)


@require_http_methods(["GET", "HEAD", "POST"])
@for_operators
def halt(request: HttpRequest) -> HttpResponse:
    """Ask for a reason and for `halt 19`; then stop everything, if 19 are still running."""
    if "cancel" in request.POST:
        return redirect("board")
    context = page_context(request, "board")
    running = count_running(context["board"])
    reason = request.POST.get("reason", "").strip()
    typed = request.POST.get("word", "").strip()
    context |= {
        "title": _title(running),
        "running": running,
        "active": len(context["board"].handoffs_active),
        "reason": reason,
        "typed": typed,
    }
    template = "dashboard/parts/halt_form.html"
    if request.method != "POST":
        return show_form(request, template, context)
    try:
        word = WORD.fullmatch(typed)
        if word is None:
            raise Refused("invalid", f"Type halt {running} to confirm.", status=400)
        if not reason:
            raise Refused("invalid", "Say why: the audit trail keeps it.", status=400)
        done = operations.halt_all(
            actor=request.user.get_username(), reason=reason, expect_running=int(word[1])
        )
    except Refused as refused:
        context["refused"] = refused.message
        if refused.code == "count_differs":
            running = context["running"] = refused.extra["running"]
            context |= {"title": _title(running), "typed": ""}
        return show_form(request, template, context, refused.status)
    go = reverse("board") if done.halt is None else reverse("halted", args=[done.halt])
    if wants_dialog(request):
        return JsonResponse({"say": HALT_ALL.done, "go": go})
    return redirect(go)


@require_safe
@for_readers
def halted(request: HttpRequest, number: int) -> HttpResponse:
    """Show one line for each portfolio that the halt stopped."""
    try:
        line, outcome = read_halt(number)
    except NotFound as missing:
        return problem(request, 404, "No such halt", missing.message)
    context = page_context(request, "board") | {"line": line, "outcome": outcome}
    return show(request, "dashboard/halted.html", context)


def _title(running: int) -> str:
    every = "" if running == 1 else "all "
    return f"Stop {every}{counted(running, 'portfolio')} now?"


@require_http_methods(["GET", "HEAD", "POST"])
@for_operators
def undo(request: HttpRequest, number: int) -> HttpResponse:
    """Start all that the halt stopped and nobody started since."""
    try:
        line, _ = read_halt(number)
    except NotFound as missing:
        return problem(request, 404, "No such halt", missing.message)
    return perform_action(request, UNDO_HALT, line, number, page_context(request, "board"))
