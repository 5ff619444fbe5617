"""What differs between two configurations of a portfolio, as lines of a page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from scheduling.operations import differences as changed_fields
from scheduling.presentation.formatting import value_text


class Difference(NamedTuple):
    """One field with its two values as texts; empty where it is not set."""

    field: str  #: `config.fast`, `symbols`
    before: str
    after: str


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Return a line for each field of both that differs.

    An object gives a line for each entry that differs or that only one side has.
    """
    return [
        line
        for change in changed_fields(before, after)
        for line in _lines(change.field, change.before, change.after)
    ]


def _lines(field: str, before: Any, after: Any) -> Iterator[Difference]:
    """Yield a line for a field that differs, or for each entry that differs in an object."""
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        old = before if isinstance(before, Mapping) else {}
        new = after if isinstance(after, Mapping) else {}
        for key in dict.fromkeys([*old, *new]):
            if old.get(key) != new.get(key):
                yield from _lines(f"{field}.{key}", old.get(key), new.get(key))
    elif field == "symbols" and isinstance(before, list) and isinstance(after, list):
        # Only what was removed and added, since a list may have hundreds.
        gone = [each for each in before if each not in after]
        added = [each for each in after if each not in before]
        if not gone and not added:  # only the order differs
            gone, added = before, after
        yield Difference(field, " ".join(map(str, gone)), " ".join(map(str, added)))
    else:
        values = ("" if value is None else value_text(value) for value in (before, after))
        yield Difference(field, *values)
