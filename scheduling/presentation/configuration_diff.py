"""What differs between two configurations of a portfolio, as lines of a page. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from scheduling.operations import differences as changed_fields


class Difference(NamedTuple):
    """One field with its two values as texts; empty where it is not set."""

    field: str  #: `config.fast`, `symbols`
    before: str
    after: str


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Return what differs in the fields that both have; nested objects field by field."""
    return [
        line
        for change in changed_fields(before, after)
        for line in _lines(change.field, change.before, change.after)
    ]


def _lines(field: str, before: Any, after: Any) -> Iterator[Difference]:
    """Yield a line for a field that differs, or for each entry that differs in an object."""
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        one = before if isinstance(before, Mapping) else {}
        other = after if isinstance(after, Mapping) else {}
        for key in dict.fromkeys([*one, *other]):
            if one.get(key) != other.get(key):
                yield from _lines(f"{field}.{key}", one.get(key), other.get(key))
    elif field == "symbols" and isinstance(before, list) and isinstance(after, list):
        # Only what was added and removed: a list may have hundreds.
        gone = [each for each in before if each not in after]
        new = [each for each in after if each not in before]
        yield Difference(field, *map(_joined, (gone, new) if gone or new else (before, after)))
    else:
        yield Difference(field, _value_text(before), _value_text(after))


def _joined(symbols: list[Any]) -> str:
    return " ".join(map(str, symbols))


def _value_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
