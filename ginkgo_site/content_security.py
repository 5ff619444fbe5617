"""The content security policy: nothing from elsewhere, nothing inline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

_STRICT = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}

#: Pages of other packages that set styles inline; their scripts stay under the strict rule.
_INLINE_STYLES_UNDER = ("/admin/", "/api/docs/")


def policy_for(path: str) -> str:
    """Return the header's value for a page at `path`. Pure."""
    rules = dict(_STRICT)
    if path.startswith(_INLINE_STYLES_UNDER):
        rules["style-src"] = "'self' 'unsafe-inline'"
    return "; ".join(f"{name} {value}" for name, value in rules.items())


class ContentSecurityPolicyMiddleware:
    """Add the policy to every answer that has none of its own."""

    sync_capable = True
    async_capable = True

    def __init__(
        self,
        get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]],
    ) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Pass the request on, synchronously or not, as the rest of the chain does."""
        if self._is_async:
            return self._call_async(request)
        return _with_policy(request, self._get_response(request))  # type: ignore[arg-type]

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        response = await self._get_response(request)  # type: ignore[misc]
        return _with_policy(request, response)


def _with_policy(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    response.headers.setdefault("Content-Security-Policy", policy_for(request.path))
    return response
