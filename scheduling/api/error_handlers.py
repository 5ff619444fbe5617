"""Answer every error under /api/ with a problem document: handlers of Django and REST framework."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.views import defaults
from rest_framework.views import set_rollback

from scheduling.presentation.problems import (
    INTERNAL_ERROR,
    as_response,
    describe,
    malformed,
    problem,
)

logger = logging.getLogger(__name__)


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """Return the problem document for any exception of a REST view.

    A plain response, since the view's own renderers may not support JSON.
    """
    found = describe(error)
    if found.code == "internal_error":
        logger.error("unexpected error in a REST view", exc_info=error)
    set_rollback()
    return as_response(found, context["request"])


def handle_400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: a problem document under /api/, the usual page elsewhere."""
    if not request.path.startswith("/api/"):
        return defaults.bad_request(request, exception)
    if isinstance(exception, RequestDataTooBig):
        return as_response(problem("payload_too_large", "The body is too large."), request)
    sentence = "The request is malformed, or its Host is not in GINKGO_ALLOWED_HOSTS."
    return as_response(malformed(sentence), request)


def handle_403(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler403: a problem document under /api/, the usual page elsewhere."""
    if not request.path.startswith("/api/"):
        return defaults.permission_denied(request, exception)
    return as_response(problem("forbidden", "You are not allowed to do this."), request)


def handle_404(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404: a problem document under /api/, the usual page elsewhere."""
    if not request.path.startswith("/api/"):
        return defaults.page_not_found(request, exception)
    return as_response(problem("not_found", f"There is nothing at {request.path}."), request)


def handle_500(request: HttpRequest) -> HttpResponse:
    """Django's handler500: a problem document under /api/, the usual page elsewhere."""
    if not request.path.startswith("/api/"):
        return defaults.server_error(request)
    return as_response(problem("internal_error", INTERNAL_ERROR), request)
