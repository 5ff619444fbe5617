"""What differs between two configurations of a portfolio, field by field. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

#: In the order of a revision's fields.
COMPARED = ("strategy", "artifact", "config", "symbols", "limits")
MISSING: Any = object()


class Difference(NamedTuple):
    """One field with its two values as texts; empty where it is not set."""

    field: str  #: `config.fast`, `symbols`
    before: str
    after: str


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], fields: tuple[str, ...] = COMPARED
) -> list[Difference]:
    """Return what differs, in the order of `fields`; nested objects field by field."""
    return [
        found
        for name in fields
        for found in _compared(name, before.get(name, MISSING), after.get(name, MISSING))
    ]


def _compared(path: str, before: Any, after: Any) -> Iterator[Difference]:
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        one = before if isinstance(before, Mapping) else {}
        other = after if isinstance(after, Mapping) else {}
        for key in dict.fromkeys([*one, *other]):
            yield from _compared(f"{path}.{key}", one.get(key, MISSING), other.get(key, MISSING))
    elif path == "symbols" and isinstance(before, list) and isinstance(after, list):
        if before != after:
            yield _symbols(before, after)
    elif before != after:
        yield Difference(path, _shown(before), _shown(after))


def _symbols(before: list[Any], after: list[Any]) -> Difference:
    """Return only what was added and removed: a list may have hundreds of symbols."""
    gone = [one for one in before if one not in after]
    new = [one for one in after if one not in before]
    if not gone and not new:
        return Difference("symbols", " ".join(map(str, before)), " ".join(map(str, after)))
    return Difference("symbols", " ".join(map(str, gone)), " ".join(map(str, new)))


def _shown(value: Any) -> str:
    if value is MISSING or value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
