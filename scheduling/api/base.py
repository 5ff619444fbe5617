"""The base of all REST views: permissions, formats, errors and filters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import django_filters
from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django_filters.widgets import BooleanWidget
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from portfolios.text import quoted
from scheduling.api.authentication import BearerAuthentication
from scheduling.api.error_handlers import exception_handler
from scheduling.api.idempotency import ActsOncePerKey
from scheduling.api.pagination import TablePages
from scheduling.api.parsers import StrictJSONParser
from scheduling.api.throttling import ReadThrottle, WriteThrottle
from scheduling.errors import Invalid
from scheduling.permissions import OperatorsOnly, ViewersReadOperatorsAct, may_act
from scheduling.presentation.plan import SCENARIO_PARAMETERS


class ForReaders(APIView):
    """A view that viewers and operators may read, and whose errors are problem documents."""

    authentication_classes: Sequence[type[BaseAuthentication]] = (
        BearerAuthentication,
        SessionAuthentication,
    )
    permission_classes: Sequence[type[BasePermission]] = (ViewersReadOperatorsAct,)

    def get_exception_handler(self) -> Callable[..., HttpResponse]:
        """Return the handler that makes problem documents."""
        return exception_handler


class ApiView(ForReaders, ActsOncePerKey):
    """A view: viewers read, operators act, errors are problem documents."""

    throttle_classes = (ReadThrottle, WriteThrottle)
    renderer_classes = (JSONRenderer,)
    parser_classes: Sequence[type[BaseParser]] = (StrictJSONParser,)
    http_method_names: Sequence[str] = ("get", "head", "post", "patch", "delete")

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse a user who may not do this, then query parameters that are not described."""
        super().initial(request, *args, **kwargs)
        method = getattr(self, str(request.method).lower(), None)
        known = getattr(method, "known_parameters", None)
        if known is not None:
            _refuse_unknown_parameters(request, known)


class ForOperators(ApiView):
    """A view that viewers may not even read."""

    permission_classes = (OperatorsOnly,)


class _TrueOrFalseWidget(BooleanWidget):
    """Pass on a value that is neither true nor false, so that the field can refuse it."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        """Return True, False, None if nothing was given, or the text itself."""
        value = super().value_from_datadict(data, files, name)
        return (data.get(name) or None) if value is None else value


class _TrueOrFalseField(forms.NullBooleanField):
    widget = _TrueOrFalseWidget

    def clean(self, value: Any) -> bool | None:
        """Return True, False, or None if nothing was given. Raise ValidationError for the rest."""
        if isinstance(value, str):  # neither "true" nor "false": the widget has converted these
            message = f"must be true or false, not {value!r}"
            raise forms.ValidationError(message, code="invalid_choice")
        return super().clean(value)


class TrueOrFalse(django_filters.BooleanFilter):
    """A filter by true or false; the base class ignores any other value."""

    field_class = _TrueOrFalseField


class TableView(ApiView):
    """A list of rows: a query set with its filters, its order and its document."""

    document: type[BaseSerializer[Any]]
    filters: type[django_filters.FilterSet] = django_filters.FilterSet  #: by default none
    order: tuple[str, ...] = ("-id",)  #: the fields to sort by; `?order=` reverses them

    #: A method that each list defines: returns the rows for the arguments of the path, with all
    #: related rows that the document reads.
    rows: Callable[..., QuerySet[Any]]

    def get(self, request: Request, **path: Any) -> Response:
        """Return one page. One statement for the page, whatever its size."""
        filtered = self.filters(request.query_params, queryset=self.rows(**path), request=request)
        if not filtered.is_valid():
            raise Invalid(form_errors(filtered.form))
        pages = TablePages(self.order)
        page: Any = pages.paginate_queryset(filtered.qs, request, view=self)
        document = self.document(page, many=True, context=serializer_context(request))
        return pages.get_paginated_response(document.data)


def form_errors(form: Any) -> list[dict[str, str]]:
    """Return {field, code, message} of every error of a form."""
    return [
        {"field": name, "code": error.code or "invalid", "message": " ".join(error.messages)}
        for name, errors in form.errors.as_data().items()
        for error in errors
    ]


def read_choice(request: Request, name: str, choices: Collection[str] | None) -> str | None:
    """Return the query parameter `name`, or None if it is absent.

    Raise Invalid unless it is one of `choices`. If these are None, any text will do.
    """
    value = request.query_params.get(name)
    if value is not None and choices is not None and value not in choices:
        message = f"must be one of {', '.join(choices)}, not {quoted(value, longest=40)}"
        raise Invalid([{"field": name, "code": "invalid_choice", "message": message}])
    return value


def _refuse_unknown_parameters(request: Request, known: Collection[str]) -> None:
    """Raise Invalid for an unknown query parameter, or a repeated one that may be given only once.

    Ignoring a mistyped filter would return everything; only the last of several values would count.
    """
    allowed = f"known parameters: {', '.join(sorted(known))}" if known else "no parameter is known"
    errors = [
        {"field": name, "code": "unknown_field", "message": f"is unknown; {allowed}"}
        for name in request.query_params
        if name not in known and name != "format"  # REST framework reads it in every view
    ]
    errors += [
        {"field": name, "code": "invalid", "message": f"is given {len(given)} times; give it once"}
        for name, given in request.query_params.lists()
        if len(given) > 1 and name in known and name not in SCENARIO_PARAMETERS  # several nodes
    ]
    if errors:
        raise Invalid(errors)


def serializer_context(request: Request) -> dict[str, Any]:
    """Return the context of serializers: whether the user is an operator, who is shown more."""
    return {"operator": may_act(request.user)}


def actor_of(request: Request | HttpRequest) -> str:
    """Return the name of the request's user, as the audit log keeps it."""
    return str(request.user.get_username())
