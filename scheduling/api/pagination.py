"""Pagination of lists: the body is {"results", "next", "previous"}.

`?limit=` is the page size (100, at most 1000), `?cursor=` comes from the `next` or `previous` link,
`?order=` is the field that the list is sorted by, with `-` in front: from its highest value down.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.db import DataError
from django.db.models import QuerySet
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.utils.urls import remove_query_param, replace_query_param
from rest_framework.views import APIView

from scheduling.errors import Invalid

DEFAULT_LIMIT = 100
HIGHEST_LIMIT = 1000
#: The highest number that a query may give: any of 18 digits fits into PostgreSQL's bigint.
HIGHEST_READ = 10**18 - 1

Item = TypeVar("Item")


def read_limit(request: Request, default: int = DEFAULT_LIMIT, highest: int = HIGHEST_LIMIT) -> int:
    """Return `?limit=`, or `highest` for a higher one. Raise Invalid unless it is positive."""
    return min(read_int(request, "limit", default, lowest=1), highest)


def read_int(request: Request, name: str, default: int, *, lowest: int) -> int:
    """Return the query parameter `name`, or `default` if it is absent.

    Raise Invalid unless it is a whole number from `lowest` to HIGHEST_READ.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    is_number = text.isascii() and text.isdigit()
    if is_number and len(text) > 18:
        message = f"must be at most {HIGHEST_READ:,}, not {text[:40]}"
    elif not is_number or int(text) < lowest:
        message = f"must be a whole number of at least {lowest}, not {text[:40]!r}"
    else:
        return int(text)
    raise Invalid([{"field": name, "code": "invalid", "message": message}])


def order_values(ordering: str | Sequence[str]) -> tuple[str, str]:
    """Return the two values that `?order=` may have: the default order, and its reverse."""
    first = ordering if isinstance(ordering, str) else ordering[0]
    return first, _reversed_order(first)


def _reversed_order(field: str) -> str:
    return field.removeprefix("-") if field.startswith("-") else f"-{field}"


def read_order(request: Request, ordering: str | Sequence[str]) -> bool:
    """Return whether `?order=` asks for the reverse of the default. Raise Invalid for any other."""
    known = order_values(ordering)
    wanted = request.query_params.get("order", known[0])
    if wanted not in known:
        message = f"must be {known[0]} (by default) or {known[1]}, not {wanted[:40]!r}"
        raise Invalid([{"field": "order", "code": "invalid_choice", "message": message}])
    return wanted != known[0]


def invalid_cursor() -> Invalid:
    """Return the error for a cursor that no link contained."""
    message = "Invalid cursor. Use the `next` or `previous` link of a response."
    return Invalid([{"field": "cursor", "code": "invalid", "message": message}])


class TablePages(CursorPagination):
    """Pages of a table, sorted by the fields of `ordering`, stable while new rows are added."""

    page_size = DEFAULT_LIMIT
    page_size_query_param = "limit"
    max_page_size = HIGHEST_LIMIT

    def __init__(self, ordering: Sequence[str]) -> None:
        self._fields = tuple(ordering)

    def get_page_size(self, request: Request) -> int:
        """Return the checked `?limit=`."""
        return read_limit(request)

    def get_ordering(
        self, request: Request, queryset: QuerySet[Any], view: APIView
    ) -> tuple[str, ...]:
        """Return the fields to sort by, all reversed if `?order=` asks for it."""
        is_reversed = read_order(request, self._fields)
        return tuple(map(_reversed_order, self._fields)) if is_reversed else self._fields

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        """Return one page, read by one SQL statement; never None, since every page has a limit.

        Raise Invalid for a cursor that no `next` or `previous` link contained.
        """
        try:
            return super().paginate_queryset(queryset, request, view)
        except (NotFound, ValueError, DataError):
            raise invalid_cursor() from None


def page_of_items(
    request: Request,
    items: Sequence[Item],
    key: Callable[[Item], str],
    document: type[BaseSerializer[Any]],
    **settings: Any,
) -> Response:
    """Return one page, each item as `document`, of items from one consistent read, sorted by `key`.

    The cursor is `after:KEY` or `before:KEY`, so pages are stable when names come and go.
    `settings` are further arguments of `document`.
    """
    limit = read_limit(request)
    is_reversed = read_order(request, "name")
    ordered = sorted(items, key=key, reverse=is_reversed)
    side, _, from_key = request.query_params.get("cursor", "after:").partition(":")
    if side not in ("after", "before"):
        raise invalid_cursor()
    precedes = operator.gt if is_reversed else operator.lt  # of two keys, as the list is sorted
    if side == "before":
        page = [item for item in ordered if precedes(key(item), from_key)][-limit:]
    elif from_key:
        page = [item for item in ordered if precedes(from_key, key(item))][:limit]
    else:
        page = ordered[:limit]
    base = remove_query_param(request.build_absolute_uri(), "cursor")
    following = preceding = None
    if page and (last := key(page[-1])) != key(ordered[-1]):
        following = replace_query_param(base, "cursor", f"after:{last}")
    if page and (first := key(page[0])) != key(ordered[0]):
        preceding = replace_query_param(base, "cursor", f"before:{first}")
    results = document(page, many=True, **settings).data
    return Response({"next": following, "previous": preceding, "results": results})
