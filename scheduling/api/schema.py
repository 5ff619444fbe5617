"""Additions to the OpenAPI description that drf-spectacular cannot derive.

Request bodies are closed: an unknown field is an error. Responses and problem documents are open,
since fields may be added to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.urls.converters import SlugConverter
from rest_framework.serializers import ListField

from scheduling.api.examples import add_examples
from scheduling.api.openapi import HIGHEST_INT
from scheduling.api.problem_responses import describe_problems
from scheduling.operations import MAX_AT_ONCE
from scheduling.presentation.fields import LabelsField, SecretField, StrictSerializer, TextField

PORTFOLIOS = "/api/portfolios/"

#: Control and bidirectional characters, within the brackets of a pattern; see `portfolios.text`.
_REFUSED = (
    r"\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029"
    r"\u202a-\u202e\u2066-\u2069\ufeff"
)
PLAIN = rf"^[^{_REFUSED}]*$"
#: A PLAIN text with at least one character that is no space.
FILLED = rf"^[^{_REFUSED}]*[^\s{_REFUSED}][^{_REFUSED}]*$"


def complete_description(result: dict[str, Any], generator: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the OpenAPI description with the additions of this module; a drf-spectacular hook."""
    schemas = result["components"]["schemas"]
    for body in subclasses_of(StrictSerializer):
        for name in (body.__name__, f"Patched{body.__name__}"):
            if name in schemas:
                _describe_body(schemas[name], body)
    _describe_list_of_portfolios(result)
    _describe_addresses(result)
    add_examples(schemas)
    describe_problems(result)
    return result


def subclasses_of(kind: type[StrictSerializer]) -> Iterator[type[StrictSerializer]]:
    """Yield every subclass, also indirect ones."""
    for one in kind.__subclasses__():
        yield one
        yield from subclasses_of(one)


def _describe_body(schema: dict[str, Any], body: type[StrictSerializer]) -> None:
    """Describe that the body has no other fields, and the form of each text."""
    schema["additionalProperties"] = False
    for name, field in body().fields.items():
        described = schema["properties"][name]
        if isinstance(field, ListField):
            described, field = described["items"], field.child
        elif isinstance(field, LabelsField):
            described, field = described["additionalProperties"], field.child
        if isinstance(field, TextField | SecretField):
            _describe_text(described, field)


def _describe_text(schema: dict[str, Any], field: TextField | SecretField) -> None:
    if not field.allow_blank:
        schema["minLength"] = 1
    if isinstance(field, TextField):
        schema["pattern"] = pattern_of(field)


def pattern_of(field: TextField) -> str:
    """Return a pattern that every accepted text of the field matches."""
    if field.described_pattern is None:
        return PLAIN if field.allow_blank else FILLED
    end = r"\Z"  # Python's; the patterns of JSON Schema have `$`
    whole = f"^(?:{field.described_pattern.pattern.removeprefix('^').removesuffix(end)})$"
    return f"^$|{whole}" if field.allow_blank else whole


def _describe_addresses(result: dict[str, Any]) -> None:
    """Describe which names and numbers an address may have; any other is 404."""
    forms = {
        "string": {"pattern": f"^{SlugConverter.regex}$"},
        "integer": {"minimum": 0, "maximum": HIGHEST_INT},
    }
    for methods in result["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["schema"] |= forms[parameter["schema"]["type"]]


def _describe_list_of_portfolios(result: dict[str, Any]) -> None:
    """Describe that one request may create a list of portfolios."""
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
