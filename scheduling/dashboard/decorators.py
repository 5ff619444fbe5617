"""Who may open which page. What a role may do is said in `scheduling.permissions` alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from portfolios.text import unprintable_errors
from scheduling.dashboard.context import problem
from scheduling.errors import SnapshotUnavailable
from scheduling.permissions import OPERATOR_GROUP, VIEWER_GROUP, may_act, may_read

logger = logging.getLogger(__name__)

View = Callable[..., HttpResponse]


def _to_login(request: HttpRequest) -> HttpResponse:
    """Lead to the login page and back. A cookie of a session that is over is why, so say it."""
    was_signed_in = settings.SESSION_COOKIE_NAME in request.COOKIES
    address = reverse("login") + ("?ended=1" if was_signed_in else "")
    back = request.get_full_path() if request.method in ("GET", "HEAD") else "/"
    return redirect_to_login(back, address)


def for_readers(view: View) -> View:
    """Let viewers and operators in; send who is not signed in to the login page."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return _to_login(request)
        if not may_read(request.user):
            return problem(
                request,
                403,
                "You may not look at the fleet",
                f"{request.user} belongs to neither the group {OPERATOR_GROUP} nor "
                f"{VIEWER_GROUP}: ask an administrator to be added to one.",
            )
        try:
            return view(request, *args, **kwargs)
        except SnapshotUnavailable:
            logger.exception("no snapshot for %s", request.path)
            return problem(
                request,
                503,
                "The fleet cannot be read now",
                "The database does not answer. Nodes go on without this page; open it again in a "
                "few seconds.",
            )

    return guarded


#: Text areas with JSON, whose line breaks are its own; the form looks into what they hold.
_JSON_AREAS = ("config", "limits", "selector")


def _unprintable(request: HttpRequest) -> str:
    """Return a sentence for the first field with a control or bidirectional character, or ""."""
    for name, value in request.POST.items():
        if name not in _JSON_AREAS and (errors := unprintable_errors(name, value)):
            return errors[0]["message"]
    return ""


def for_operators(view: View) -> View:
    """Let operators in; a viewer who types the address by hand gets 403 with a sentence."""

    @wraps(view)
    @for_readers
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not may_act(request.user):
            return problem(
                request,
                403,
                "You may look, not act",
                f"{request.user} is a viewer: only a member of the group {OPERATOR_GROUP} may do "
                "this. Nothing was changed.",
            )
        wrong = _unprintable(request)
        if wrong:
            return problem(request, 400, "A character that cannot be kept", wrong)
        return view(request, *args, **kwargs)

    return guarded
