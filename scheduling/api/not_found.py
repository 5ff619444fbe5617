"""The response for addresses that do not exist."""

from __future__ import annotations

from typing import Any

from django.urls import Resolver404, resolve
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.base import ApiView
from scheduling.errors import Refused


@extend_schema(exclude=True)
class NotFoundView(ApiView):
    """404 for every method, without authentication: it reveals nothing about the fleet."""

    authentication_classes = ()
    permission_classes = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse before anything is read, whatever the method."""
        super().initial(request, *args, **kwargs)
        message = f"There is nothing at {request.path}."
        if not request.path.endswith("/") and _is_known(request.path + "/"):
            message = f"There is nothing at {request.path}: add a slash at its end."
        raise Refused("not_found", message, status=404)

    def get(self, request: Request) -> Response:  # pragma: no cover: `initial` has refused
        """Never reached; the framework requires a method."""
        raise NotImplementedError


def _is_known(path: str) -> bool:
    """Return whether a view other than this one serves the path."""
    try:
        return resolve(path).url_name != "nothing"
    except Resolver404:
        return False
