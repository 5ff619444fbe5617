"""Pages of a table without a count. By the id of the row before they stay stable as rows arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict

PAGE_ROWS = 50
FURTHEST = 1_000_000_000  #: PostgreSQL takes no offset over 63 bits, and no table is longer


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its rows, and the query values of the pages after and before it."""

    rows: Sequence[Any]
    older: str | None
    is_first: bool


def number(query: QueryDict, name: str) -> int | None:
    """Return the whole number that the address gives for `name`, or None."""
    try:
        return int(query.get(name, ""))
    except ValueError:
        return None


def text(query: QueryDict, name: str) -> str:
    """Return the text that the address gives for `name`, bare of spaces, or an empty one.

    PostgreSQL fails on a NUL. No row has what stands for it, so a filter by it matches nothing.
    """
    return query.get(name, "").strip().replace("\0", "\N{REPLACEMENT CHARACTER}")


def newest_first(
    rows: QuerySet[Any], query: QueryDict, name: str = "before", size: int = PAGE_ROWS
) -> Page:
    """Return the page of `rows`, ordered by falling id, that the address asks for."""
    before = number(query, name)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-pk")[: size + 1])
    more = len(found) > size
    found = found[:size]
    return Page(found, str(found[-1].pk) if more else None, before is None)


def by_offset(
    rows: QuerySet[Any] | Sequence[Any],
    query: QueryDict,
    name: str,
    size: int,
    arrange: Callable[[Any], Any] = lambda row: row,
) -> Page:
    """Return the page of ordered `rows` that starts at the offset the address gives."""
    start = min(max(number(query, name) or 0, 0), FURTHEST)
    found = list(rows[start : start + size + 1])
    more = len(found) > size
    older = str(start + size) if more else None
    return Page([arrange(row) for row in found[:size]], older, start == 0)
