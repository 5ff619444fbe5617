"""Decorators that describe a view for OpenAPI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import django_filters
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.serializers import BaseSerializer

from scheduling.api.pagination import HIGHEST_READ, order_values
from scheduling.operations.registry.operation import Operation

View = TypeVar("View", bound=Callable[..., Any])
Table = TypeVar("Table", bound=Any)

HIGHEST_INT = 2**63 - 1
#: A seq, or a number of rows.
POSITIVE = {"type": "integer", "minimum": 1, "maximum": HIGHEST_READ}

_LIMIT = OpenApiParameter(
    "limit", POSITIVE | {"default": 100}, description="Values above 1000 count as 1000."
)
_CURSOR = OpenApiParameter("cursor", str, description="From a `next` or `previous` link.")


def query(
    name: str, kind: Any = str, description: str = "", required: bool = False, **more: Any
) -> OpenApiParameter:
    """Return the description of a query parameter. `kind` is a type, or a schema."""
    return OpenApiParameter(name, kind, description=description, required=required, **more)


def _order_parameter(ordering: str | Sequence[str]) -> OpenApiParameter:
    """Return the description of `?order=` for a list that is sorted by `ordering`."""
    default, reverse = order_values(ordering)
    text = "The field that the list is sorted by; `-`: from the highest value down."
    return query("order", str, text, enum=[default, reverse], default=default)


def _filter_parameter(name: str, declared: django_filters.Filter) -> OpenApiParameter:
    """Return the description of the query parameter `name`, as the filter `declared` reads it."""
    choices = [value for value, _ in declared.extra.get("choices", ())]
    if choices:
        return query(name, enum=choices)
    if isinstance(declared, django_filters.NumberFilter):
        bound = "At least" if declared.lookup_expr == "gte" else "At most"
        return query(
            name, {"type": "integer", "minimum": 0, "maximum": HIGHEST_INT}, f"{bound} this number."
        )
    if isinstance(declared, django_filters.IsoDateTimeFilter):
        side = "From this time on" if declared.lookup_expr == "gte" else "Until this time"
        return query(name, datetime, f"{side}, such as 2026-01-31T09:30:00Z.")
    if isinstance(declared, django_filters.BooleanFilter):
        return query(name, bool)
    return query(name, {"type": "string", "pattern": "^[^\\u0000]*$"})  # PostgreSQL refuses NUL


def described(
    response: Any = None,
    *,
    status: int = 200,
    body: Any = None,
    parameters: list[Any] | None = None,
    summary: str = "",
    operation_id: str | None = None,
    performs: Operation | None = None,
    of: str = "",
) -> Callable[[View], View]:
    """Describe a view that returns one document, or a problem.

    `response` may also be a dictionary from (status, media type) to a type, for other formats than
    JSON. A view that `performs` an operation is described by the operation's consequence and,
    without a `summary`, by the operation's summary for the object `of`, such as `a portfolio`.
    """
    if performs and not summary:
        summary = performs.summary(of)
    responses = response if isinstance(response, dict) else {status: response}
    describe = extend_schema(
        operation_id=operation_id,
        request=body,
        parameters=parameters or [],
        summary=summary or None,
        description=performs.consequence if performs else None,
        responses=responses,  # and problems: `scheduling.api.schema`
    )

    def decorate(view: View) -> View:
        described_view: View = describe(view)
        # `ApiView` refuses a query parameter that is not described here.
        described_view.known_parameters = {  # type: ignore[attr-defined]
            each.name for each in parameters or [] if each.location == OpenApiParameter.QUERY
        }
        return described_view

    return decorate


def described_list(
    document: type[BaseSerializer[Any]],
    parameters: list[Any] | None = None,
    summary: str = "",
    ordering: str | Sequence[str] = "name",
) -> Callable[[View], View]:
    """Describe a view that returns pages of `document`, sorted by `ordering`."""
    name = document.__name__.removesuffix("Document")
    page = type(
        f"{name}Page",
        (serializers.Serializer,),
        {
            "results": document(many=True),
            "next": serializers.URLField(allow_null=True),
            "previous": serializers.URLField(allow_null=True),
            "__doc__": f"A page of {name.lower()} documents.",
        },
    )
    return described(
        page,
        parameters=[_LIMIT, _CURSOR, _order_parameter(ordering), *(parameters or [])],
        summary=summary,
        operation_id=f"{name.lower()}_list",
    )


def described_table(summary: str) -> Callable[[Table], Table]:
    """Return a class decorator that describes the list of a `TableView` in the OpenAPI schema.

    The answer follows from the `document` of the view, the parameters from its `filters`.
    """

    def describe(view: Table) -> Table:
        parameters = [
            _filter_parameter(name, one) for name, one in view.filters.base_filters.items()
        ]
        # The class is decorated, since all table views inherit one method `get`.
        listed = described_list(view.document, parameters, summary, view.order)
        return extend_schema_view(get=listed)(view)

    return describe
