"""The answer to a request beyond the capacity of this process."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext as _


class Busy(Exception):
    """A request is refused for now: `what` says why, `retry_after_s` when to repeat it."""

    def __init__(self, status: int, what: str, retry_after_s: int) -> None:
        super().__init__(what)
        self.status = status
        figures = {"what": _(what), "seconds": retry_after_s}
        self.sentence = _("%(what)s: try again in %(seconds)s s.") % figures
        self.retry_after_s = retry_after_s


def busy_response(request: HttpRequest, busy: Busy) -> HttpResponse:
    """Return a problem document below /api/, a page elsewhere. Touches no database."""
    headers = {"Retry-After": str(busy.retry_after_s)}
    if request.path.startswith("/api/"):
        from scheduling.presentation.problems import Problem, as_response

        code = "throttled" if busy.status == 429 else "unavailable"
        return as_response(Problem(code, busy.sentence, busy.status, headers=headers), request)
    context: dict[str, Any] = {
        "title": _("Too much at once"),
        "sentence": busy.sentence,
        "status": busy.status,
    }
    page = render_to_string("dashboard/problem.html", context)
    return HttpResponse(page, status=busy.status, headers={**headers, "Cache-Control": "no-store"})
