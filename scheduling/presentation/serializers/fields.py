"""Fields that several documents have, and fields that show viewers less than operators."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from scheduling.observe.incarnations import digest
from scheduling.presentation.audit_lines import shown_data

#: A document that is made from any object or dictionary.
Document = serializers.Serializer[Any]


def money_field() -> serializers.DecimalField:
    """Return a field that shows an amount with four decimal places, or null."""
    return serializers.DecimalField(
        max_digits=None, decimal_places=4, coerce_to_string=True, allow_null=True
    )


def price_field(allow_null: bool = False) -> serializers.DecimalField:
    """Return a field that shows a price with its stored decimal places: those of its instrument."""
    return serializers.DecimalField(
        max_digits=None, decimal_places=None, coerce_to_string=True, allow_null=allow_null
    )


@extend_schema_field({"type": "object", "additionalProperties": {}})
class ObjectDocument(serializers.JSONField):
    """A JSON object whose members depend on the strategy, the feed or the node."""


class IncarnationField(serializers.CharField):
    """An incarnation for operators, its digest for viewers."""

    def to_representation(self, value: Any) -> str:
        return str(value if _is_for_operator(self) else digest(value))


class AuditDataField(ObjectDocument):
    """The data of an audit-log line, as `shown_data` returns it."""

    def to_representation(self, value: Any) -> Any:
        return super().to_representation(shown_data(value, operator=_is_for_operator(self)))


def _is_for_operator(field: serializers.Field[Any, Any, Any, Any]) -> bool:
    return bool(field.context.get("operator"))
