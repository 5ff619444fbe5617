"""How often one person may ask. Generous: it stops a loop gone wild, not an operator in a hurry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle

if TYPE_CHECKING:  # the framework's views ask the settings for classes that stand here
    from rest_framework.views import APIView


class ReadThrottle(UserRateThrottle):
    """Counts safe methods, in each web process for itself."""

    scope = "read"
    rate = "6000/min"

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Return whether this read may pass."""
        return request.method not in SAFE_METHODS or super().allow_request(request, view)


class WriteThrottle(UserRateThrottle):
    """Counts everything else, in each web process for itself."""

    scope = "write"
    rate = "600/min"

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Return whether this write may pass."""
        return request.method in SAFE_METHODS or super().allow_request(request, view)
