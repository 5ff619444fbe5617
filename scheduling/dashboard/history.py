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
from django.utils import translation
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _

from scheduling.dashboard.pagination import text_parameter

FORMATS = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
MAX_NAMES = 1_000  #: offered by the list of a filter; others can be typed
MAX_EXPORTED = 100_000  #: rows of one file, the first in the chosen order
EXPORT_BATCH = 1_000  #: rows read by one statement

OLDEST = "oldest"


class WrongTime(ValueError):
    """A time of the filter cannot be read. The text is a sentence."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of time; an end that is None is open."""

    begin: datetime | None = None
    end: datetime | None = None


def _read_span(query: QueryDict) -> Span:
    """Return the range of `?since=` and `?until=`; an absent one leaves its end open.

    Times without a zone are UTC. A date alone means the whole day. Raise WrongTime for other texts.
    """
    return Span(_read_time(query, "since", is_end=False), _read_time(query, "until", is_end=True))


def _read_time(query: QueryDict, name: str, *, is_end: bool) -> datetime | None:
    """Return the time of `?name=`, of a date its begin, or its end with `is_end`; None: absent.

    Raise WrongTime for any other text.
    """
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


def filters_of(request: HttpRequest, *names: str) -> dict[str, str]:
    """Return the query parameters of these names and of the span, each "" if it is absent."""
    return {name: text_parameter(request.GET, name) for name in (*names, "since", "until")}


def span_of(request: HttpRequest, context: dict[str, Any]) -> Span | None:
    """Return the range of time that a page asks for.

    If it cannot be read, return None and put a sentence under `refused` in the context.
    """
    try:
        return _read_span(request.GET)
    except WrongTime as wrong:
        context["refused"] = str(wrong)
        return None


def offered_names(context: dict[str, Any]) -> dict[str, Any]:
    """Return the names of portfolios and nodes that filters offer."""
    fleet = context["fleet"]
    return {
        "portfolio_names": sorted(p.name for p in fleet.portfolios)[:MAX_NAMES],
        "node_names": sorted(n.name for n in fleet.nodes)[:MAX_NAMES],
    }


def within(rows: QuerySet[Any], field: str, span: Span) -> QuerySet[Any]:
    """Return the rows whose time in column `field` is in the span, both ends included."""
    if span.begin is not None:
        rows = rows.filter(**{f"{field}__gte": span.begin})
    if span.end is not None:
        rows = rows.filter(**{f"{field}__lte": span.end})
    return rows


# --- export --------------------------------------------------------------------------------------


def export(
    request: HttpRequest,
    name: str,
    columns: Sequence[str],
    document: Callable[[Any], dict[str, Any]],
    parts: Iterator[list[Any]],
) -> StreamingHttpResponse:
    """Return a file of the rows of all `parts` in the requested `?format=`."""
    kind = request.GET["format"]
    lines = _csv(parts, columns, document) if kind == "csv" else _json(parts, document)
    language = translation.get_language()
    answer = StreamingHttpResponse(_asynchronous(lines, language), content_type=FORMATS[kind])
    answer["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    answer["Cache-Control"] = "private, no-store"
    return answer


def parts_by_id(rows: QuerySet[Any], *, oldest_first: bool) -> Iterator[list[Any]]:
    """Yield the first MAX_EXPORTED rows in the order of ids, as `parts_of` does."""
    key, order = ("pk__gt", "pk") if oldest_first else ("pk__lt", "-pk")
    ordered = rows.order_by(order)
    return parts_of(ordered, lambda last: ordered.filter(**{key: last.pk}))


def parts_of(
    rows: QuerySet[Any], rows_after: Callable[[Any], QuerySet[Any]]
) -> Iterator[list[Any]]:
    """Yield the first MAX_EXPORTED of the ordered rows, EXPORT_BATCH in each list.

    Each list is a statement of its own, so that a slow reader holds no transaction open.
    `rows_after`: a row → the rows that follow it.
    """
    left, following = MAX_EXPORTED, rows
    while left > 0:
        found = list(following[: min(EXPORT_BATCH, left)])
        yield found
        if len(found) < EXPORT_BATCH:
            return
        left, following = left - len(found), rows_after(found[-1])


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
    """Return a value as a cell: "" for None, JSON for anything else but a text.

    A text that a spreadsheet would compute as a formula gets an apostrophe.
    """
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


async def _asynchronous(lines: Iterator[str], language: str | None) -> AsyncIterator[str]:
    """Yield what `lines` yields, each made in a thread, since it may read from the database, and
    in the language of the page, which has ended when the answer is streamed."""

    def make_next() -> str | None:
        with translation.override(language):
            return next(lines, None)

    following = sync_to_async(make_next)
    while (line := await following()) is not None:
        yield line


def iso(at: datetime | None) -> str | None:
    """Return a time as exported files have it: ISO 8601 in UTC with milliseconds."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
