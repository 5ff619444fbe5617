"""Note the interface, client address and user of a request, for the audit log."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ginkgo_site.web.client_address import client_address
from scheduling.request_origin import Origin, acting_from


class OriginMiddleware:
    """Set the origin of what a request changes, for as long as the request is handled."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with acting_from(origin_of(request)):
            return self._get_response(request)


def origin_of(request: HttpRequest) -> Origin:
    """Return the origin: the interface, by the path; the client's address; who is signed in."""
    first = request.path.removeprefix("/").partition("/")[0]  # `*` for OPTIONS *
    interface = {"api": "api", "admin": "admin"}.get(first, "dashboard")

    def person() -> str:
        user = getattr(request, "user", None)
        return str(user.get_username()) if user is not None and user.is_authenticated else ""

    return Origin(interface, client_address(request), person)
