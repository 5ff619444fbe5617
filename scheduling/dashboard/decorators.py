"""Access control of views. `scheduling.permissions` defines what each role may do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from portfolios.text import unprintable_errors
from scheduling.dashboard.context import render_problem
from scheduling.errors import NotFound, SnapshotUnavailable
from scheduling.permissions import OPERATOR_GROUP, VIEWER_GROUP, may_act, may_read

logger = logging.getLogger(__name__)

View = Callable[..., HttpResponseBase]

#: What does not exist → the title of the page that says so.
_MISSING_TITLES = {
    "action": gettext_lazy("No such action"),
    "alert": gettext_lazy("No such alert"),
    "channel": gettext_lazy("No such channel"),
    "feed": gettext_lazy("No such feed"),
    "halt": gettext_lazy("No such halt"),
    "handoff": gettext_lazy("No such handoff"),
    "incident": gettext_lazy("No such incident"),
    "node": gettext_lazy("No such node"),
    "portfolio": gettext_lazy("No such portfolio"),
    "roll-out": gettext_lazy("No such roll-out"),
    "node token": gettext_lazy("No such token"),
    "user": gettext_lazy("No such user"),
}


def _login_redirect(request: HttpRequest) -> HttpResponse:
    """Redirect to the login page, and from there back to the requested one.

    To a user whose session has ended, the login page says so.
    """
    was_signed_in = settings.SESSION_COOKIE_NAME in request.COOKIES
    address = reverse("login") + ("?ended=1" if was_signed_in else "")
    back = request.get_full_path() if request.method in ("GET", "HEAD") else "/"
    return redirect_to_login(back, address)


def viewer_required(view: View) -> View:
    """Require a viewer or operator: another user gets 403, an anonymous one the login page.

    If the view raises NotFound, answer 404; if it raises SnapshotUnavailable, 503.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _login_redirect(request)
        if not may_read(request.user):
            return render_problem(
                request,
                403,
                _("No permission to view the fleet"),
                _(
                    "%(user)s is in neither the group %(operators)s nor %(viewers)s. Ask an "
                    "administrator to be added to one of them."
                )
                % {"user": request.user, "operators": OPERATOR_GROUP, "viewers": VIEWER_GROUP},
            )
        try:
            return view(request, *args, **kwargs)
        except NotFound as missing:
            title = _MISSING_TITLES.get(missing.what, _("Page not found"))
            return render_problem(request, 404, str(title), missing.message)
        except SnapshotUnavailable:
            logger.exception("no snapshot for %s", request.path)
            return render_problem(
                request,
                503,
                _("The fleet cannot be read at the moment"),
                _(
                    "The database does not respond. Nodes keep running without this page; reload "
                    "it in a few seconds."
                ),
            )

    return guarded


#: Fields where line breaks are allowed; the form or the operation checks the parsed values.
_TEXT_AREAS = ("config", "limits", "selector", "labels")


def _unprintable_error(request: HttpRequest) -> str:
    """Return the error of the first posted field with a character that it may not have, or ""."""
    for name, values in request.POST.lists():
        if name not in _TEXT_AREAS and (errors := unprintable_errors(name, values)):
            return errors[0]["message"]
    return ""


def operator_required(view: View) -> View:
    """Require an operator and a method of a form, as `operator_with_form` does.

    A control or bidirectional character in a posted field gets 400; fields of _TEXT_AREAS are left
    to the form or the operation.
    """

    @operator_with_form
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        error = _unprintable_error(request)
        if error:
            return render_problem(request, 400, _("Invalid character"), error)
        return view(request, *args, **kwargs)

    return checked


def operator_with_form(view: View) -> View:
    """Require an operator and a method of a form: GET, HEAD or POST. A viewer gets 403.

    For a view whose form refuses control characters itself: it shows the error beside the field and
    keeps what else was typed.
    """

    @require_http_methods(["GET", "HEAD", "POST"])
    @wraps(view)
    @viewer_required
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_act(request.user):
            return render_problem(
                request,
                403,
                _("No permission to change the fleet"),
                _(
                    "%(user)s is a viewer. This requires the group %(operators)s. Nothing was "
                    "changed."
                )
                % {"user": request.user, "operators": OPERATOR_GROUP},
            )
        return view(request, *args, **kwargs)

    return guarded
