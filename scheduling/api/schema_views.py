"""The OpenAPI description and its page, which load nothing from other hosts."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from scheduling.api.base import ForReaders


class BearerDescription(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes authentication with a bearer token in the OpenAPI description."""

    target_class = "scheduling.api.authentication.BearerAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class ApiSchema(ForReaders, SpectacularAPIView):
    """The OpenAPI description."""


class ApiDocs(ForReaders, SpectacularSwaggerSplitView):
    """A page to read and try the API. Its script has its own address, as the CSP requires."""
