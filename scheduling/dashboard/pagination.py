"""Pages of a table without counting its rows. Pages by id stay stable while rows are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict

PAGE_ROWS = 50
MAX_OFFSET = 1_000_000_000  #: longer than any table; PostgreSQL rejects offsets above 63 bits


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its rows, the query value of the next older page, and whether it is the first."""

    rows: Sequence[Any]
    older: str | None  #: None if there is none
    is_first: bool


def int_parameter(query: QueryDict, name: str) -> int | None:
    """Return the integer value of the query parameter, or None."""
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
    rows: QuerySet[Any], query: QueryDict, name: str = "before", size: int = PAGE_ROWS
) -> Page:
    """Return the requested page of `rows`, ordered by descending id."""
    before = int_parameter(query, name)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-pk")[: size + 1])
    more = len(found) > size
    found = found[:size]
    return Page(found, str(found[-1].pk) if more else None, before is None)


def page_by_offset(
    rows: QuerySet[Any] | Sequence[Any],
    query: QueryDict,
    name: str,
    size: int,
    transform: Callable[[Any], Any] = lambda row: row,
) -> Page:
    """Return the page of ordered `rows` that starts at the requested offset."""
    start = min(max(int_parameter(query, name) or 0, 0), MAX_OFFSET)
    found = list(rows[start : start + size + 1])
    more = len(found) > size
    older = str(start + size) if more else None
    return Page([transform(row) for row in found[:size]], older, start == 0)
