"""Localise the reason stored on a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from django.utils.translation import get_language

from scheduling.decide.reasons import localize


class HasReason(Protocol):
    """A run, a handoff or a tenure, as a row or as a view."""

    @property
    def reason(self) -> str:
        """The English text."""

    @property
    def why(self) -> Mapping[str, Any] | None:
        """The stored data of the reason: `{"code": …, "params": {…}}`, or None."""


def localized_text(text: str) -> str:
    """Return a reason that is stored without its data in the active language."""
    return localize(text, None, get_language())


def localized_reason(row: HasReason) -> str:
    """Return the reason in the active language: that of the request, or of a socket's page.

    In English, return the stored text without reading its data.
    """
    return localize(row.reason, row.why, get_language())
