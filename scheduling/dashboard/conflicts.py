"""What two people changed at once in the form of one portfolio, field by field. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import get_language

from scheduling.decide.reasons import render
from scheduling.decide.types import Reason
from scheduling.errors import Refused
from scheduling.operations import differences
from scheduling.presentation.formatting import UNKNOWN, value_text


@dataclass(frozen=True, slots=True)
class ThreeWayLine:
    """One field: its value when the form was opened, now, and as the user typed it."""

    field: str
    opened: str
    now: str
    yours: str
    clashes: bool  #: both changed it, to different values


def three_way(
    base: Mapping[str, Any], now: Mapping[str, Any], yours: Mapping[str, Any]
) -> list[ThreeWayLine]:
    """Return a line for each field, or entry of a field, that somebody changed; clashes first.

    `base`: the values when the form was opened. `now`: the stored ones. `yours`: those typed.
    """
    theirs = {change.field: change for change in differences(base, now)}
    own = {change.field: change for change in differences(base, yours)}
    labels = {change.field: change.label for change in [*theirs.values(), *own.values()]}
    lines = []
    for field, label in labels.items():
        opened = (theirs.get(field) or own[field]).before
        stored = theirs[field].after if field in theirs else opened
        typed = own[field].after if field in own else opened
        clashes = field in theirs and field in own and stored != typed
        texts = _shown(opened), _shown(stored), _shown(typed)
        lines.append(ThreeWayLine(label, *texts, clashes))
    return sorted(lines, key=lambda line: (not line.clashes, line.field))


def _shown(value: Any) -> str:
    return UNKNOWN if value in (None, "") else value_text(value)


def localized_refusal(refused: Refused) -> str:
    """Return who changed what since the form was opened, in the language of the request."""
    why = refused.extra.get("why")
    return render(Reason(why["code"], why["params"]), get_language()) if why else refused.message
