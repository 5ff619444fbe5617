"""What a row says, in the language of whoever reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from django.utils.translation import get_language

from scheduling.decide.reasons import localize


class HasReason(Protocol):
    """A run, a handoff or a tenure, as a row or as a line of the board."""

    @property
    def reason(self) -> str:
        """The English text."""

    @property
    def why(self) -> Mapping[str, Any] | None:
        """What was stored beside it: `{"code": …, "params": {…}}`, or nothing."""


def localized_reason(row: HasReason) -> str:
    """Return its reason in the language that is active: that of the request, or of the page that a
    socket serves. In English what is stored, without a look at its data.
    """
    return localize(row.reason, row.why, get_language())
