"""Decorators that describe a view for OpenAPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.serializers import BaseSerializer

from scheduling.operations.registry import Operation
from scheduling.presentation.serializers import ProblemDocument

View = TypeVar("View", bound=Callable[..., Any])
Table = TypeVar("Table", bound=Any)

_LIMIT = OpenApiParameter(
    "limit",
    {"type": "integer", "minimum": 1, "default": 100},
    description="Values above 1000 count as 1000.",
)
_CURSOR = OpenApiParameter("cursor", str, description="From a `next` or `previous` link.")


def query(name: str, kind: type = str, description: str = "", required: bool = False) -> Any:
    """Return the description of a query parameter."""
    return OpenApiParameter(name, kind, description=description, required=required)


def described(
    response: Any = None,
    *,
    status: int = 200,
    body: Any = None,
    parameters: list[Any] | None = None,
    summary: str = "",
    operation_id: str | None = None,
    performs: Operation | None = None,
) -> Callable[[View], View]:
    """Describe a view that returns one document, or a problem.

    `response` may also be a dictionary from (status, media type) to a type, for other formats than
    JSON. A view that `performs` an operator action has the summary and consequence of that action.
    """
    responses = response if isinstance(response, dict) else {status: response}
    return extend_schema(
        operation_id=operation_id,
        request=body,
        parameters=parameters or [],
        summary=summary or None,
        description=performs.consequence if performs else None,
        responses={
            **responses,
            ("4XX", "application/problem+json"): ProblemDocument,
            ("5XX", "application/problem+json"): ProblemDocument,
        },
    )


def described_list(
    document: type[BaseSerializer[Any]], parameters: list[Any] | None = None, summary: str = ""
) -> Callable[[View], View]:
    """Describe a view that returns pages of `document`."""
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
        parameters=[_LIMIT, _CURSOR, *(parameters or [])],
        summary=summary,
        operation_id=f"{name.lower()}_list",
    )


def described_table(summary: str) -> Callable[[Table], Table]:
    """Return a class decorator for a `TableView`, which describes its list in the OpenAPI schema.

    The answer is described from the `document` of the view, the parameters from its `filters`.
    """

    def describe(view: Table) -> Table:
        parameters = [query(name) for name in view.filters.base_filters]
        # On the class, since all such views inherit the same method.
        listed = described_list(view.document, parameters, summary)
        return extend_schema_view(get=listed)(view)

    return describe
