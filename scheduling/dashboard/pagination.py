"""Pages of a table without counting its rows. Pages by id stay stable while rows are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict

PAGE_ROWS = 50  #: of a page, unless its view says otherwise
MAX_OFFSET = 1_000_000_000  #: longer than any table; PostgreSQL rejects offsets above 63 bits


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a table."""

    rows: Sequence[Any]
    older: str | None  #: value of the query parameter for the next page; None: this is the last
    is_first: bool


def int_parameter(query: QueryDict, name: str) -> int | None:
    """Return the query parameter as an integer; None if it is absent or not one."""
    try:
        return int(query.get(name, ""))
    except ValueError:
        return None


def text_parameter(query: QueryDict, name: str) -> str:
    """Return the stripped value of the query parameter, or an empty string.

    PostgreSQL rejects NUL characters. The replacement character occurs in no row, so that a filter
    by it matches nothing.
    """
    return query.get(name, "").strip().replace("\0", "\N{REPLACEMENT CHARACTER}")


def page_by_id(
    rows: QuerySet[Any], query: QueryDict, *, size: int = PAGE_ROWS, oldest_first: bool = False
) -> Page:
    """Return the page after the id `?before=`, or the first, by the order of ids. One statement."""
    start = int_parameter(query, "before")
    if start is not None:
        rows = rows.filter(**{"pk__gt" if oldest_first else "pk__lt": start})
    found = list(rows.order_by("pk" if oldest_first else "-pk")[: size + 1])
    more = len(found) > size
    found = found[:size]
    return Page(found, str(found[-1].pk) if more else None, start is None)


def page_by_offset(
    rows: QuerySet[Any] | Sequence[Any],
    query: QueryDict,
    name: str,
    size: int,
    transform: Callable[[Any], Any] = lambda row: row,
) -> Page:
    """Return `size` of the ordered `rows` from the offset `?name=` on (default 0), transformed."""
    start = min(max(int_parameter(query, name) or 0, 0), MAX_OFFSET)
    found = list(rows[start : start + size + 1])
    more = len(found) > size
    older = str(start + size) if more else None
    return Page([transform(row) for row in found[:size]], older, start == 0)
