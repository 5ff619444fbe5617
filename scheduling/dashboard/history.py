"""Filters, order and export of the handoffs and of the audit log."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict, StreamingHttpResponse
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _

from scheduling.dashboard.pagination import PAGE_ROWS, Page, int_parameter, text_parameter

FORMATS = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
MAX_EXPORTED = 100_000  #: rows of one file, the first in the chosen order
EXPORT_BATCH = 1_000  #: rows read by one statement
MAX_KEY = 2**63 - 1

OLDEST = "oldest"


class WrongTime(ValueError):
    """A time of the filter cannot be read. The text is a sentence."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of time; an end that is None is open."""

    begin: datetime | None = None
    end: datetime | None = None


def read_span(query: QueryDict) -> Span:
    """Return the range of `?since=` and `?until=`, in UTC unless they say otherwise.

    A date alone means the whole day. Raise WrongTime.
    """
    return Span(_read_time(query, "since", is_end=False), _read_time(query, "until", is_end=True))


def _read_time(query: QueryDict, name: str, *, is_end: bool) -> datetime | None:
    text = text_parameter(query, name)
    if not text:
        return None
    try:
        at = parse_datetime(text) if len(text) > len("2026-01-31") else None
        if at is not None:
            return at if at.tzinfo else at.replace(tzinfo=UTC)
        day = parse_date(text)
        if day is not None:
            begin = datetime.combine(day, time(), UTC)
            return begin + timedelta(days=1, microseconds=-1) if is_end else begin
    except (ValueError, OverflowError):
        pass
    raise WrongTime(
        _(
            "%(name)s is “%(text)s”: give a date such as 2026-01-31, or a time such as "
            "2026-01-31T14:30:00Z."
        )
        % {"name": _(name), "text": text[:40]}
    )


def within(rows: QuerySet[Any], field: str, span: Span) -> QuerySet[Any]:
    """Return the rows whose time is in the range."""
    if span.begin is not None:
        rows = rows.filter(**{f"{field}__gte": span.begin})
    if span.end is not None:
        rows = rows.filter(**{f"{field}__lte": span.end})
    return rows


def page_by_key(rows: QuerySet[Any], query: QueryDict, *, oldest_first: bool) -> Page:
    """Return the requested page by id, newest or oldest first. One statement."""
    start = int_parameter(query, "before")
    key = "pk__gt" if oldest_first else "pk__lt"
    if start is not None:
        rows = rows.filter(**{key: max(min(start, MAX_KEY), -MAX_KEY)})
    found = list(rows.order_by("pk" if oldest_first else "-pk")[: PAGE_ROWS + 1])
    more = len(found) > PAGE_ROWS
    found = found[:PAGE_ROWS]
    return Page(found, str(found[-1].pk) if more else None, start is None)


# --- export --------------------------------------------------------------------------------------


def export(
    request: HttpRequest,
    name: str,
    rows: QuerySet[Any],
    columns: Sequence[str],
    document: Callable[[Any], dict[str, Any]],
    *,
    oldest_first: bool,
    parts: Iterator[list[Any]] | None = None,
) -> StreamingHttpResponse:
    """Return a file of the rows, read and sent a thousand at a time.

    Each part is a statement of its own, so that a slow reader holds no transaction open. `parts`
    yields the rows in place of `rows`, for a table without a numeric key.
    """
    kind = request.GET["format"]
    parts = parts or _parts(rows, oldest_first)
    lines = _csv(parts, columns, document) if kind == "csv" else _json(parts, document)
    answer = StreamingHttpResponse(_asynchronous(lines), content_type=FORMATS[kind])
    answer["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    answer["Cache-Control"] = "private, no-store"
    return answer


def _parts(rows: QuerySet[Any], oldest_first: bool) -> Iterator[list[Any]]:
    """Yield the first MAX_EXPORTED rows, EXPORT_BATCH in each list, a statement for each list."""
    key, order = ("pk__gt", "pk") if oldest_first else ("pk__lt", "-pk")
    left, last = MAX_EXPORTED, None
    while left > 0:
        following = rows if last is None else rows.filter(**{key: last})
        found = list(following.order_by(order)[: min(EXPORT_BATCH, left)])
        yield found
        if len(found) < EXPORT_BATCH:
            return
        left, last = left - len(found), found[-1].pk


def _csv(
    parts: Iterator[list[Any]], columns: Sequence[str], document: Callable[[Any], dict[str, Any]]
) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for part in parts:
        for row in part:
            values = document(row)
            writer.writerow([_cell(values[name]) for name in columns])
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _cell(value: Any) -> str:
    """Return a cell. A text that a spreadsheet would compute as a formula gets an apostrophe."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if value[:1] in "=+-@\t\r" and value else value


def _json(parts: Iterator[list[Any]], document: Callable[[Any], dict[str, Any]]) -> Iterator[str]:
    yield '{"rows": ['
    separator = "\n"
    for part in parts:
        for row in part:
            yield f"{separator}{json.dumps(document(row), ensure_ascii=False)}"
            separator = ",\n"
    yield "\n]}\n"


async def _asynchronous(lines: Iterator[str]) -> AsyncIterator[str]:
    """Yield the lines; each part is read in a thread."""
    following = sync_to_async(lambda: next(lines, None))
    while (line := await following()) is not None:
        yield line


def iso(at: datetime | None) -> str | None:
    """Return a time as exported files have it: ISO 8601 in UTC with milliseconds."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
