"""Additions to the OpenAPI description that drf-spectacular cannot derive.

Request bodies are closed: an unknown field is an error. Responses and problem documents are open,
since fields may be added to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rest_framework.serializers import ListField

from portfolios.validation import NAME
from scheduling.api.examples import add_examples
from scheduling.api.problem_responses import describe_problems
from scheduling.operations import MAX_AT_ONCE
from scheduling.presentation.fields import StrictSerializer, TextField

PORTFOLIOS = "/api/portfolios/"

#: No control and no bidirectional character; see `portfolios.text`.
PLAIN = (
    r"^[^\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029"
    r"\u202a-\u202e\u2066-\u2069\ufeff]*$"
)


def close_bodies(result: dict[str, Any], generator: Any, **kwargs: Any) -> dict[str, Any]:
    """Complete the description; a hook of drf-spectacular."""
    schemas = result["components"]["schemas"]
    for body in _bodies(StrictSerializer):
        for name in (body.__name__, f"Patched{body.__name__}"):
            if name in schemas:
                _close(schemas[name], body)
    _name_portfolios(result, schemas)
    add_examples(schemas)
    describe_problems(result)
    return result


def _bodies(kind: type[StrictSerializer]) -> Iterator[type[StrictSerializer]]:
    for one in kind.__subclasses__():
        yield one
        yield from _bodies(one)


def _close(schema: dict[str, Any], body: type[StrictSerializer]) -> None:
    """Describe that there are no other fields, and which texts may be empty."""
    schema["additionalProperties"] = False
    for name, field in body().fields.items():
        if isinstance(field, TextField):
            _describe_text(schema["properties"][name], field)
        if isinstance(field, ListField) and isinstance(field.child, TextField):
            _describe_text(schema["properties"][name]["items"], field.child)


def _describe_text(schema: dict[str, Any], field: TextField) -> None:
    if not field.allow_blank:
        schema["minLength"] = 1
    schema["pattern"] = PLAIN


def _name_portfolios(result: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Describe valid names, and that a list may be created at once."""
    schemas["PortfolioBody"]["properties"]["name"]["pattern"] = f"^{NAME.pattern}$"
    one: dict[str, Any] = {"$ref": "#/components/schemas/PortfolioBody"}
    many = {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_AT_ONCE}
    created = {
        "type": "object",
        "description": "All of a list were created.",
        "properties": {
            "created": {"type": "integer"},
            "names": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["created", "names"],
    }
    post = result["paths"][PORTFOLIOS]["post"]
    post["requestBody"]["content"]["application/json"]["schema"] = {"oneOf": [one, many]}
    answer = post["responses"]["201"]["content"]["application/json"]
    answer["schema"] = {"oneOf": [answer["schema"], created]}
