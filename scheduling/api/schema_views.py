"""The OpenAPI description and its page, which load nothing from other hosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.http import HttpResponse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.views import APIView

from scheduling.api.authentication import BearerAuthentication
from scheduling.api.error_handlers import exception_handler
from scheduling.permissions import ViewersReadOperatorsAct


class BearerDescription(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes authentication with a bearer token in the OpenAPI description."""

    target_class = "scheduling.api.authentication.BearerAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class _ForReaders(APIView):
    """A view for viewers and operators."""

    authentication_classes: Sequence[type[BaseAuthentication]] = (
        BearerAuthentication,
        SessionAuthentication,
    )
    permission_classes: Sequence[type[BasePermission]] = (ViewersReadOperatorsAct,)

    def get_exception_handler(self) -> Callable[..., HttpResponse]:
        """Return the handler that makes problem documents."""
        return exception_handler


class ApiSchema(_ForReaders, SpectacularAPIView):
    """The OpenAPI description."""


class ApiDocs(_ForReaders, SpectacularSwaggerSplitView):
    """A page to read and try the API. Its script has its own address, as the CSP requires."""
