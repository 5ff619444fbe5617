"""The answer for addresses that do not exist."""

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
    """404 for every method and everybody: it tells nothing about the fleet."""

    authentication_classes = ()
    permission_classes = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse before anything is read, whatever the method."""
        super().initial(request, *args, **kwargs)
        said = f"There is nothing at {request.path}."
        if not request.path.endswith("/") and _leads_somewhere(request.path + "/"):
            said = f"There is nothing at {request.path}: write it with a slash at its end."
        raise Refused("not_found", said, status=404)

    def get(self, request: Request) -> Response:  # pragma: no cover: `initial` has refused
        """Never reached; it makes the view one that the framework accepts."""
        raise NotImplementedError


def _leads_somewhere(path: str) -> bool:
    try:
        return resolve(path).url_name != "nothing"
    except Resolver404:
        return False
