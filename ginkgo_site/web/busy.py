"""The answer to a request beyond the capacity of this process."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext as _


class Busy(Exception):
    """A request is refused for now: `what` says why, `retry_after_s` when to repeat it.

    `what` is an English sentence of the message catalogue; `figures` fill its placeholders.
    """

    def __init__(self, status: int, what: str, retry_after_s: int, **figures: Any) -> None:
        super().__init__(what % figures)
        self.status = status
        self.retry_after_s = retry_after_s
        self._what, self._figures = what, figures

    def sentence(self) -> str:
        """Return why, and when to repeat the request, in the active language."""
        what = _(self._what) % self._figures
        figures = {"what": what, "seconds": self.retry_after_s}
        return _("%(what)s: try again in %(seconds)s s.") % figures


def busy_response(request: HttpRequest, busy: Busy) -> HttpResponse:
    """Return a problem document below /api/, a page elsewhere. Touches no database."""
    headers = {"Retry-After": str(busy.retry_after_s)}
    if request.path.startswith("/api/"):
        from scheduling.presentation.problems import Problem, as_response

        code = "throttled" if busy.status == 429 else "unavailable"
        with translation.override("en"):
            problem = Problem(code, busy.sentence(), busy.status, headers=headers)
        return as_response(problem, request)
    # No middleware has chosen the language of a request that a lane refuses.
    with translation.override(translation.get_language_from_request(request)):
        context: dict[str, Any] = {
            "title": _("Too much at once"),
            "sentence": busy.sentence(),
            "status": busy.status,
        }
        page = render_to_string("dashboard/problem.html", context)
    return HttpResponse(page, status=busy.status, headers={**headers, "Cache-Control": "no-store"})
