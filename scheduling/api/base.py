"""What all REST views share: who may, in what form, how errors look, which filters there are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import django_filters
from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django_filters.widgets import BooleanWidget
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from portfolios.models import Portfolio
from scheduling.api.authentication import BearerAuthentication
from scheduling.api.error_handlers import exception_handler
from scheduling.api.pagination import NewestFirst
from scheduling.api.parsers import StrictJSONParser
from scheduling.api.throttling import ReadThrottle, WriteThrottle
from scheduling.errors import Invalid, NotFound
from scheduling.permissions import ViewersReadOperatorsAct, may_act

#: Parameters every list takes, and `format`, which belongs to the framework.
LIST_PARAMETERS = frozenset({"limit", "cursor", "format"})


class ApiView(APIView):
    """A view for people and programs: viewers read, operators act, errors are problem documents."""

    authentication_classes: Sequence[type[BaseAuthentication]] = (
        BearerAuthentication,
        SessionAuthentication,
    )
    permission_classes: Sequence[type[BasePermission]] = (ViewersReadOperatorsAct,)
    throttle_classes = (ReadThrottle, WriteThrottle)
    renderer_classes = (JSONRenderer,)
    parser_classes = (StrictJSONParser,)
    http_method_names: Sequence[str] = ("get", "head", "post", "patch", "delete")

    def get_exception_handler(self) -> Callable[..., HttpResponse]:
        """Return the handler that makes problem documents."""
        return exception_handler


class _TrueOrFalseWidget(BooleanWidget):
    """Keeps what is neither true nor false, so that the field can refuse it."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        """Return True, False, None where nothing was given, or the text itself."""
        value = super().value_from_datadict(data, files, name)
        return (data.get(name) or None) if value is None else value


class _TrueOrFalseField(forms.NullBooleanField):
    widget = _TrueOrFalseWidget

    def clean(self, value: Any) -> bool | None:
        """Return the choice, or None where none was made. Raise ValidationError for another."""
        if isinstance(value, str):
            message = f"is none of true, false: {value!r}"
            raise forms.ValidationError(message, code="invalid_choice")
        return super().clean(value)


class TrueOrFalse(django_filters.BooleanFilter):
    """A filter that is true or false; the one it is made of answers everything for a third."""

    field_class = _TrueOrFalseField


class TableView(ApiView):
    """A list of rows: a query set, its filters, its order, its document."""

    document: type[BaseSerializer[Any]]
    filters: type[django_filters.FilterSet]
    pages: type[CursorPagination] = NewestFirst

    #: Returns the rows that the path names, with everything the document reads.
    rows: Callable[..., QuerySet[Any]]

    def get(self, request: Request, **path: Any) -> Response:
        """Answer one page. One statement for the page, whatever its size."""
        refuse_unknown_parameters(request, self.filters.base_filters.keys())
        found = self.filters(request.query_params, queryset=self.rows(**path), request=request)
        if not found.is_valid():
            raise Invalid(form_errors(found.form))
        pages = self.pages()
        page: Any = pages.paginate_queryset(found.qs, request, view=self)
        document = self.document(page, many=True, context=context_for(request))
        return pages.get_paginated_response(document.data)


def form_errors(form: Any) -> list[dict[str, str]]:
    """Return {field, code, message} of every error of a form."""
    return [
        {"field": name, "code": error.code or "invalid", "message": " ".join(error.messages)}
        for name, errors in form.errors.as_data().items()
        for error in errors
    ]


def refuse_unknown_parameters(request: Request, known: Collection[str]) -> None:
    """Raise Invalid if the query has a parameter that nobody reads: a filter that was mistyped
    must not answer everything."""
    allowed = LIST_PARAMETERS | set(known)
    errors = [
        {
            "field": name,
            "code": "unknown_field",
            "message": f"is not known here; known are: {', '.join(sorted(allowed - {'format'}))}",
        }
        for name in request.query_params
        if name not in allowed
    ]
    if errors:
        raise Invalid(errors)


def context_for(request: Request) -> dict[str, Any]:
    """Return what documents ask of their reader. A document without it is a viewer's."""
    return {"operator": may_act(request.user)}


def actor_of(request: Request | HttpRequest) -> str:
    """Return the name that the audit trail keeps."""
    return str(request.user.get_username())


def present_portfolio(name: str) -> Portfolio:
    """Return the portfolio, or raise NotFound. One statement."""
    try:
        return Portfolio.objects.present().get(name=name)
    except Portfolio.DoesNotExist:
        raise NotFound("portfolio", name) from None
