"""Shorthand for the OpenAPI description of a view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.serializers import BaseSerializer

from scheduling.presentation.serializers import ProblemDocument

View = TypeVar("View", bound=Callable[..., Any])
Table = TypeVar("Table", bound=Any)

_LIMIT = OpenApiParameter(
    "limit",
    {"type": "integer", "minimum": 1, "default": 100},
    description="More than 1000 count as 1000.",
)
_CURSOR = OpenApiParameter("cursor", str, description="From `next` or `previous` of an answer.")


def query(name: str, kind: type = str, description: str = "", required: bool = False) -> Any:
    """Return the description of a query parameter."""
    return OpenApiParameter(name, kind, description=description, required=required)


def described(
    answer: Any = None,
    *,
    status: int = 200,
    body: Any = None,
    parameters: list[Any] | None = None,
    summary: str = "",
    operation: str | None = None,
) -> Callable[[View], View]:
    """Describe a view that answers one document, or a problem. `answer` may also be a dictionary
    from (status, media type) to a type, for what is not JSON."""
    answers = answer if isinstance(answer, dict) else {status: answer}
    return extend_schema(
        operation_id=operation,
        request=body,
        parameters=parameters or [],
        summary=summary or None,
        responses={
            **answers,
            ("4XX", "application/problem+json"): ProblemDocument,
            ("5XX", "application/problem+json"): ProblemDocument,
        },
    )


def described_list(
    document: type[BaseSerializer[Any]], parameters: list[Any] | None = None, summary: str = ""
) -> Callable[[View], View]:
    """Describe a view that answers pages of `document`."""
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
        operation=f"{name.lower()}_list",
    )


def described_table(summary: str) -> Callable[[Table], Table]:
    """Describe a view of rows from its own document and filters."""

    def describe(view: Table) -> Table:
        parameters = [query(name) for name in view.filters.base_filters]
        # By class, not by method: the method is one that all such views inherit.
        listed = described_list(view.document, parameters, summary)
        return extend_schema_view(get=listed)(view)

    return describe
