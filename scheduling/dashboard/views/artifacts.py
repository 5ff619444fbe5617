"""Strategies: the artifacts with their upload form, the page of one, and its deletion."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.core.exceptions import RequestDataTooBig
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_safe

from portfolios.artifacts.lock import MAX_LOCK_BYTES
from portfolios.artifacts.wheel import MAX_WHEEL_BYTES
from portfolios.models import Artifact
from portfolios.strategies import registry as strategies
from scheduling import operations
from scheduling.dashboard.context import page_context, render_page, render_problem
from scheduling.dashboard.decorators import operator_required, viewer_required
from scheduling.dashboard.pagination import page_by_offset, text_parameter
from scheduling.dashboard.value_fields import parameter_fields
from scheduling.dashboard.views.actions import perform_action
from scheduling.errors import Refused
from scheduling.operations.artifacts import artifact_users, present_artifact
from scheduling.operations.registry import roll_out_actions
from scheduling.presentation.uploads import limit_upload

View = Callable[..., HttpResponseBase]
MAX_FORM_BYTES = MAX_WHEEL_BYTES + MAX_LOCK_BYTES + 10_000


def _bounded_upload(view: View) -> View:
    """Answer 413 if the files have more than MAX_FORM_BYTES together.

    The limit has to be set before the form is read. The middleware's check of CSRF would read it,
    so the view is exempt from that, and checked within.
    """
    checked = csrf_protect(view)

    @csrf_exempt
    @wraps(view)
    def bounded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        limit_upload(request, MAX_FORM_BYTES)
        try:
            return checked(request, *args, **kwargs)
        except RequestDataTooBig as error:
            return render_problem(request, 413, _("The files are too large"), str(error))

    return bounded


@_bounded_upload
@require_http_methods(["GET", "HEAD", "POST"])
@viewer_required
def artifact_list(request: HttpRequest) -> HttpResponseBase:
    """List artifacts, newest first; filter: `?q=`. POST adds one."""
    if request.method == "POST":
        return _upload(request)
    return _render_list(request, page_context(request, "artifacts"))


@operator_required
def _upload(request: HttpRequest) -> HttpResponse:
    """Add the artifact of the posted wheel and lock, and go to its page; else show the refusal."""
    context = page_context(request, "artifacts")
    wheel, lock = request.FILES.get("wheel"), request.FILES.get("lock")
    if wheel is None:
        context["refused"] = _("Choose the wheel that `uv build --wheel` wrote into dist/.")
        return _render_list(request, context, 400)
    try:
        lock_text = lock.read().decode() if lock is not None else ""
        added = operations.add_artifact(
            str(wheel.name), wheel.read(), lock_text, actor=request.user.get_username()
        )
    except UnicodeDecodeError:
        context["refused"] = _("%(name)s is not text in UTF-8.") % {"name": lock}
        return _render_list(request, context, 400)
    except Refused as refused:
        context["refused"] = refused.message
        return _render_list(request, context, refused.status)
    text = _("%(name)s was added.") if added.is_new else _("%(name)s was there already.")
    messages.success(request, text % {"name": added.artifact})
    return redirect("artifact", added.artifact.sha256)


def _render_list(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    """Render the list of artifacts; with `?q=`, those whose name or strategies contain it."""
    wanted = text_parameter(request.GET, "q")
    rows: QuerySet[Artifact] = (
        Artifact.objects.annotate(
            portfolios=Count(
                "revisions__portfolio",
                filter=Q(revisions__portfolio__archived_at=None),
                distinct=True,
            )
        )
        .prefetch_related("strategies")
        .order_by("-at")
    )
    if wanted:
        rows = rows.filter(
            Q(name__icontains=wanted) | Q(strategies__name__icontains=wanted)
        ).distinct()
    context |= {
        "table_page": page_by_offset(rows, request.GET, "from", 50),
        "wanted": wanted,
        "built_in_strategies": sorted(strategies.BUILT_IN),
    }
    return render_page(request, "dashboard/artifacts.html", context, status)


@require_safe
@viewer_required
def artifact(request: HttpRequest, sha256: str) -> HttpResponse:
    """Show one artifact: its strategies with their parameters, its lock, and who uses it."""
    try:
        shown = present_artifact(sha256)
    except Refused as missing:
        return render_problem(request, 404, _("No such artifact"), missing.message)
    context = page_context(request, "artifacts") | {
        "artifact": shown,
        "strategies": [_strategy(row) for row in shown.strategies.all()],
        "users": artifact_users(shown.sha256),
        "packages": [
            line.partition(" --hash=")[0]
            for line in shown.lock.splitlines()
            if not line.startswith("#")
        ],
    }
    return render_page(request, "dashboard/artifact.html", context)


def _strategy(row: Any) -> dict[str, Any]:
    """Return a strategy with a line for each parameter, in the words of the form of a portfolio."""
    parameters = [
        {"name": name, "kind": field.help_text, "default": field.default}
        for name, field in parameter_fields(row.schema).items()
    ]
    return {"row": row, "parameters": parameters}


@operator_required
def delete_artifact(request: HttpRequest, sha256: str) -> HttpResponse:
    """Show the form; on POST delete the artifact, unless a revision names it."""
    try:
        shown = present_artifact(sha256)
    except Refused as missing:
        return render_problem(request, 404, _("No such artifact"), missing.message)
    context = page_context(request, "artifacts")
    return perform_action(
        request, roll_out_actions.DELETE_ARTIFACT, shown, shown.sha256[:12], context
    )
