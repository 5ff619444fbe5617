"""Reasons in documents: the sentence in the language of the request, and its data."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from scheduling.decide.reasons import as_data, stored_reason
from scheduling.observe.localized_reason import HasReason, localized_reason


@extend_schema_field(OpenApiTypes.STR)
class ReasonField(serializers.Field[Any, Any, str, HasReason]):
    """The reason of a row, in the language of the request."""

    def __init__(self, **options: Any) -> None:
        help_text = (
            "The reason as a sentence, in Chinese where Accept-Language prefers it, else English."
        )
        super().__init__(source="*", help_text=help_text, **options)

    def to_representation(self, row: HasReason) -> str:
        return localized_reason(row)


class WhyDocument(serializers.Serializer[Any]):
    """A reason as data: its code, and the names and numbers of its sentence."""

    code = serializers.CharField()
    params = serializers.DictField()

    def __init__(self, **options: Any) -> None:
        help_text = "The reason as data; null for a reason given by an operator or a failure."
        super().__init__(source="*", allow_null=True, help_text=help_text, **options)

    def to_representation(self, row: HasReason) -> Any:
        """Return code and parameters, or None for a reason without data."""
        reason = stored_reason(row.reason, row.why)
        return None if reason is None else as_data(reason)
