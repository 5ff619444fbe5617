"""Reasons and refusals in the language of the reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from django.utils.translation import get_language, gettext, pgettext

from portfolios.sentences import Sentence, is_list
from scheduling.decide.reasons import localize, render
from scheduling.errors import ReasonSentence


class HasReason(Protocol):
    """A run, a handoff or a tenure, as a row or as a view."""

    @property
    def reason(self) -> str:
        """The English text."""

    @property
    def why(self) -> Mapping[str, Any] | None:
        """The stored data of the reason: `{"code": …, "params": {…}}`, or None."""


def localized_text(text: str) -> str:
    """Return a text in the active language: a sentence, or a reason stored without its data."""
    if isinstance(text, ReasonSentence):
        return render(text.reason, get_language())
    if isinstance(text, Sentence):
        values = {name: _localized_value(value) for name, value in text.values.items()}
        return gettext(text.template).format(**values)
    return localize(str(text), None, get_language())  # a text of a page may be lazy


def _localized_value(value: Any) -> Any:
    """Return a value of a sentence, localized if it is a text or a list."""
    if is_list(value):
        return pgettext("in a list", ", ").join(map(str, map(_localized_value, value)))
    return localized_text(value) if isinstance(value, str) else value


def localized_reason(row: HasReason) -> str:
    """Return the reason in the active language: that of the request, or of a socket's page.

    In English, return the stored text without reading its data.
    """
    return localize(row.reason, row.why, get_language())
