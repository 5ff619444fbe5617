"""Strict fields of request bodies: no implicit conversions, no unknown names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from portfolios.text import exact_decimal, unprintable_in


class StrictSerializer(serializers.Serializer[Any]):
    """A body whose unknown fields are errors: a mistyped name must not be ignored."""

    default_error_messages = {"invalid": "The body must be a JSON object"}

    def to_internal_value(self, data: Any) -> Any:
        """Return the checked values. Raise ValidationError for all invalid and unknown fields."""
        unknown: dict[str, Any] = {}
        if isinstance(data, Mapping):
            for name in data.keys() - self.fields.keys():
                known = ", ".join(sorted(self.fields))
                message = f"is unknown; known fields: {known}" if known else "is unknown"
                unknown[str(name)] = [serializers.ErrorDetail(message, code="unknown_field")]
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError({**error.detail, **unknown}) from None  # type: ignore[dict-item]
        if unknown:
            raise serializers.ValidationError(unknown)
        return value


def refuse_unprintable(data: Any) -> None:
    """Raise ValidationError if a text in a JSON value holds a control character."""
    found = unprintable_in(data)
    if found:
        raise serializers.ValidationError(
            f"holds the character U+{ord(found):04X}, which is a control or bidirectional "
            "character: remove it",
            code="unprintable",
        )


class TextField(serializers.CharField):
    """A JSON string on one line, without control characters.

    `described_pattern`: what the operation requires of the whole text. The field does not check it;
    the API's description states it.
    """

    def __init__(self, *, described_pattern: re.Pattern[str] | None = None, **options: Any) -> None:
        self.described_pattern = described_pattern
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        refuse_unprintable(data)
        return super().to_internal_value(data)


class SecretField(serializers.CharField):
    """A JSON string with any characters. It is never part of a response or of an error."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, write_only=True, trim_whitespace=False)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class WholeNumberField(serializers.IntegerField):
    """A JSON number without a fraction."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("max_value", 2_147_483_647)
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> int:
        """Return the number. Refuse true and "3"."""
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


@extend_schema_field({"type": "integer", "minimum": 1, "maximum": 1_000_000, "default": 1})
class WeightField(WholeNumberField):
    """The weight of a portfolio; `scheduling.operations` checks the bounds."""


@extend_schema_field({"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000, "default": 0})
class PriorityField(WholeNumberField):
    """The priority of a portfolio; `scheduling.operations` checks the bounds."""


class YesNoField(serializers.BooleanField):
    """true or false."""

    def to_internal_value(self, data: Any) -> bool:
        """Return the value. Refuse "yes" and 1."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "pattern": r"^\+?\d{1,15}(\.\d{1,4})?$"},
            {"type": "integer", "minimum": 1, "maximum": 10**15},
        ],
        "description": "Over 0, at most 1,000,000,000,000,000.",
    }
)
class MoneyField(serializers.Field[Decimal, Any, str, Any]):
    """An exact decimal: a JSON string or a whole number. A float is not exact."""

    default_error_messages = {
        "invalid": 'must be a decimal in a string, such as "100000.00"',
        "places": "has more than four decimal places",
        "size": "has more than 19 digits before the point",
    }

    def to_internal_value(self, data: Any) -> Decimal:
        """Return the decimal, of at most 19 digits before the point and four after it."""
        if isinstance(data, bool) or not isinstance(data, str | int):
            self.fail("invalid")
        value = exact_decimal(data)
        if value is None:
            self.fail("invalid")
        exponent = value.as_tuple().exponent
        if value.adjusted() > 18:
            self.fail("size")
        if isinstance(exponent, int) and exponent < -4:
            self.fail("places")
        return value

    def to_representation(self, value: Decimal) -> str:
        return str(value)


class ObjectField(serializers.DictField):
    """A JSON object with any values."""

    default_error_messages = {"not_a_dict": "must be a JSON object"}
    child = serializers.JSONField()

    def to_internal_value(self, data: Any) -> Any:
        """Return the object. Refuse texts with control characters."""
        refuse_unprintable(data)
        return super().to_internal_value(data)


class LabelsField(serializers.DictField):
    """A JSON object whose values are strings."""

    default_error_messages = {"not_a_dict": "must be a JSON object whose values are strings"}
    child = TextField(max_length=200)

    def to_internal_value(self, data: Any) -> Any:
        """Return the object. Refuse names with control characters."""
        refuse_unprintable(list(data) if isinstance(data, dict) else data)
        return super().to_internal_value(data)
