"""Request limits per user, high enough to stop runaway loops only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle

if TYPE_CHECKING:  # circular at run time: REST framework's views import classes named in settings
    from rest_framework.views import APIView


class ReadThrottle(UserRateThrottle):
    """Limit requests that read, separately in each web process."""

    scope = "read"
    rate = "6000/min"

    def allow_request(self, request: Request, view: APIView) -> bool:
        return request.method not in SAFE_METHODS or super().allow_request(request, view)


class AppendThrottle(UserRateThrottle):
    """Limit appends to feeds, which are many by nature, separately in each web process."""

    scope = "append"
    rate = "12000/min"


class WriteThrottle(UserRateThrottle):
    """Limit requests that act, separately in each web process."""

    scope = "write"
    rate = "600/min"

    def allow_request(self, request: Request, view: APIView) -> bool:
        return request.method in SAFE_METHODS or super().allow_request(request, view)
