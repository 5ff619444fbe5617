"""Filters and exported files of the pages of handoffs, orders and the audit log."""

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


def _read_time(query: QueryDict, name: str, *, is_end: bool) -> datetime | None:
    """Return the time in `?name=`, or None if it is absent.

    Without a zone it is UTC. A date alone means its first moment, or with `is_end` its last. Raise
    WrongTime for other texts.
    """
    text = text_parameter(query, name)
    if not text:
        return None
    try:
        is_date = len(text) <= len("2026-01-31")  # which parse_datetime would read as its midnight
        at = None if is_date else parse_datetime(text)
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
        % {"name": {"since": _("from"), "until": _("to")}[name], "text": text[:40]}
    )


def filters_of(request: HttpRequest, *names: str) -> dict[str, str]:
    """Return the query parameters of these names, `since` and `until`; "" for an absent one."""
    return {name: text_parameter(request.GET, name) for name in (*names, "since", "until")}


def span_of(request: HttpRequest, context: dict[str, Any]) -> Span | None:
    """Return the range of `?since=` and `?until=`; an absent one leaves its end open.

    If one cannot be read, return None, and put a sentence under `refused` in the context.
    """
    query = request.GET
    try:
        begin = _read_time(query, "since", is_end=False)
        return Span(begin, _read_time(query, "until", is_end=True))
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


def export(
    request: HttpRequest,
    name: str,
    columns: Sequence[str],
    document: Callable[[Any], dict[str, Any]],
    batches: Iterator[list[Any]],
) -> StreamingHttpResponse:
    """Return the rows of all `batches` as a file in the requested `?format=`.

    `name`: of the file. `document`: a row → its values by `columns`.
    """
    kind = request.GET["format"]
    lines = _csv(batches, columns, document) if kind == "csv" else _json(batches, document)
    language = translation.get_language()
    answer = StreamingHttpResponse(_asynchronous(lines, language), content_type=FORMATS[kind])
    answer["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    answer["Cache-Control"] = "private, no-store"
    return answer


def batches_by_id(rows: QuerySet[Any], *, oldest_first: bool) -> Iterator[list[Any]]:
    """Yield the first MAX_EXPORTED rows in the order of ids, as `batches_of` does."""
    key, order = ("pk__gt", "pk") if oldest_first else ("pk__lt", "-pk")
    ordered = rows.order_by(order)
    return batches_of(ordered, lambda last: ordered.filter(**{key: last.pk}))


def batches_of(
    rows: QuerySet[Any], rows_after: Callable[[Any], QuerySet[Any]]
) -> Iterator[list[Any]]:
    """Yield the first MAX_EXPORTED of the ordered rows in lists of EXPORT_BATCH.

    Each list is read by its own statement, so that a slow reader holds no transaction open.
    `rows_after`: a row → the rows that follow it.
    """
    allowed, unread = MAX_EXPORTED, rows
    while allowed > 0:
        batch = list(unread[: min(EXPORT_BATCH, allowed)])
        yield batch
        if len(batch) < EXPORT_BATCH:
            return
        allowed, unread = allowed - len(batch), rows_after(batch[-1])


def _csv(
    batches: Iterator[list[Any]], columns: Sequence[str], document: Callable[[Any], dict[str, Any]]
) -> Iterator[str]:
    """Yield the header and the lines of the first batch, then the lines of each further batch."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for batch in batches:
        for row in batch:
            values = document(row)
            writer.writerow([_cell(values[name]) for name in columns])
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _cell(value: Any) -> str:
    """Return a value as a cell: "" for None, a text as it is, anything else as JSON.

    A text that a spreadsheet would compute as a formula gets an apostrophe.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _json(batches: Iterator[list[Any]], document: Callable[[Any], dict[str, Any]]) -> Iterator[str]:
    """Yield a JSON object with the list `rows` in pieces: one line for each row."""
    yield '{"rows": ['
    separator = "\n"
    for batch in batches:
        for row in batch:
            yield f"{separator}{json.dumps(document(row), ensure_ascii=False)}"
            separator = ",\n"
    yield "\n]}\n"


async def _asynchronous(lines: Iterator[str], language: str | None) -> AsyncIterator[str]:
    """Yield what `lines` yields, each item made in a thread, since it may read from the database.

    The response is streamed after the end of the request, so its language is set again each time.
    """

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
