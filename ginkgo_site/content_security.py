"""Content security policy: nothing from other hosts, nothing inline (`CONTENT_SECURITY_POLICY`)."""

from __future__ import annotations

from csp.constants import UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest
from django.http.response import HttpResponseBase

#: Pages of other packages that set styles inline; their scripts stay under the strict rule.
_INLINE_STYLES_UNDER = ("/admin/", "/api/docs/")


class ContentSecurityPolicyMiddleware(CSPMiddleware):
    """Add the policy to every response that has none; allow inline styles where they are needed."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        """Return the parts that django-csp builds the header from."""
        parts = super().get_policy_parts(request, response, report_only)
        if not report_only and request.path.startswith(_INLINE_STYLES_UNDER):
            parts.update = {**(parts.update or {}), "style-src": [UNSAFE_INLINE]}
        return parts
