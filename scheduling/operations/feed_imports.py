"""Import a CSV file into a recorded feed: all of its lines or none."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import chain
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db import transaction

from portfolios.feeds.columns import (
    FIELDS,
    PRICES,
    MissingColumn,
    TimeForm,
    find_columns,
    separator_of,
)
from portfolios.feeds.log import Appended, HeadMoved, LogError, WriterReplaced
from portfolios.feeds.rows import (
    UNITS_US,
    InstrumentFacts,
    RowError,
    WrongMessage,
    places_of,
    read_rows,
)
from portfolios.models import FeedRow
from portfolios.runtime.events import MAX_SCALE, PRICE_PLACES, Event
from portfolios.validation import error
from scheduling.db.transaction import Transaction, execute, execute_autocommit
from scheduling.enact import feed_records
from scheduling.errors import Invalid, Refused
from scheduling.operations.feeds import (
    MAX_ERRORS,
    MAX_ROWS,
    NewInstrument,
    add_instruments,
    create_feed,
    find_feed,
    refuse_recorded,
    symbol_problem,
)
from scheduling.recorded_feeds.stream_appends import append_in_stream

MAX_LINES = 5_000_000  #: of one file
TRIES = 3  #: while others append too; each try checks all lines again
IMPORT_S = 3_600.0  #: limit of an import into a stream, which checks and stores many rows


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What to import, and how its columns are read."""

    feed: str
    path: str
    columns: Mapping[str, str] = field(default_factory=dict)  #: field → header
    symbol: str = ""  #: of every row; empty: a column has it
    time_zone: str = ""  #: of times that have none
    time_format: str = ""  #: of times that are not ISO 8601
    time_unit: str = ""  #: of times that are numbers
    tick: str = ""  #: of new symbols; empty: from their prices
    skip_bad: bool = False  #: import the other lines if some are wrong
    hole_s: int | None = None  #: longest time between two rows of one symbol; None: no limit


@dataclass(frozen=True, slots=True)
class Imported:
    """How many rows were imported, their seqs, and in `skipped` the lines that were not."""

    rows: int
    from_seq: int
    to_seq: int
    skipped: list[RowError]


@dataclass(frozen=True, slots=True)
class _Line:
    """One row, and the number of its line in the file."""

    number: int
    row: dict[str, Any] | WrongMessage


def import_csv(plan: ImportPlan, *, actor: str) -> Imported:
    """Import a file. The feed and the symbols that are missing are created.

    Raise Invalid for wrong lines, with the first MAX_ERRORS and their count; with `skip_bad` the
    others are imported. Raise Refused if a recorder writes the feed, or others append at each try.
    A stream takes the lines after the database has the new symbols: if it fails in between, or
    lines have become wrong, the symbols stay, without any of the lines.
    """
    times = read_time_form(plan.time_zone, plan.time_format, plan.time_unit)
    lines = list(_read(plan, times))
    if not lines:
        raise Invalid([error("file", "empty", f"{plan.path} has no rows below its header.")])
    new = _new_instruments(plan, lines, execute_autocommit(feed_records.instruments(plan.feed)))
    writer_row, instruments = _prepare_and_undo(plan, new, actor=actor)
    if not writer_row.in_stream:
        return _import_in_database(plan, lines, new, writer_row, instruments, actor=actor)
    if new:  # lines and recorder are checked before the symbols are stored
        _accepted(plan, lines, instruments)
        _refuse_recorded_stream(plan.feed)
        with transaction.atomic():
            _prepare(plan, new, actor=actor)
    return _import_in_stream(plan, lines)


def _import_in_database(
    plan: ImportPlan,
    lines: Sequence[_Line],
    new: Sequence[NewInstrument],
    writer_row: feed_records.WriterRow,
    instruments: Mapping[str, InstrumentFacts],
    *,
    actor: str,
) -> Imported:
    """Append all lines in one transaction, and return what was imported.

    The lines are checked before it, against the writer row and instruments that `_prepare_and_undo`
    returned: to check millions of lines within it would leave its session idle for so long that the
    server ends it. If other rows were appended meanwhile, the lines are checked again. Raise
    Refused after TRIES tries.
    """
    for tries_left in reversed(range(TRIES)):
        events, wrong = _accepted(plan, lines, instruments)
        try:
            with transaction.atomic():
                now, _symbols = _prepare(plan, new, actor=actor)
                if now.in_stream:  # someone created the feed after `_prepare_and_undo`
                    raise Refused(
                        "feed_busy",
                        f"Nothing was imported: another request has just created feed {plan.feed}, "
                        "in a JetStream stream instead of the database. Import again.",
                    )
                first, last = execute(_append_all(plan.feed, events, writer_row.head))
            return Imported(len(events), first, last, wrong)
        except HeadMoved:  # the lines were checked against an older head
            if tries_left:
                writer_row, instruments = _prepare_and_undo(plan, new, actor=actor)
        except WriterReplaced:
            raise Refused(
                "feed_busy",
                f"Nothing was imported: another writer claimed feed {plan.feed} during the import."
                " If a recorder writes it, stop that first; then import again.",
            ) from None
        except LogError as refused:
            raise Refused("feed_busy", f"Nothing was imported: {refused}") from None
    raise Refused(
        "feed_busy",
        f"Nothing was imported: feed {plan.feed} got other rows during each of {TRIES} tries;"
        " repeat when its other sources append less.",
    )


def _prepare_and_undo(
    plan: ImportPlan, new: Sequence[NewInstrument], *, actor: str
) -> tuple[feed_records.WriterRow, dict[str, InstrumentFacts]]:
    """Return what `_prepare` returns, to check the lines against, and change nothing."""
    with transaction.atomic():
        prepared = _prepare(plan, new, actor=actor)
        transaction.set_rollback(True)
    return prepared


def _prepare(
    plan: ImportPlan, new: Sequence[NewInstrument], *, actor: str
) -> tuple[feed_records.WriterRow, dict[str, InstrumentFacts]]:
    """Create what is missing of feed and symbols; return the feed's writer row and instruments.

    Runs in the caller's transaction. Raise Refused if a recorder writes the feed.
    """
    if not FeedRow.objects.filter(name=plan.feed).exists():
        create_feed(plan.feed, [], actor=actor)
    find_feed(plan.feed)
    if new:
        add_instruments(plan.feed, new, actor=actor)
    writer_row = execute(feed_records.writer(plan.feed))
    if not writer_row.in_stream:  # the row of a feed in a stream may be behind the stream
        refuse_recorded(plan.feed, writer_row)
    return writer_row, execute(feed_records.instruments(plan.feed))


def _refuse_recorded_stream(feed: str) -> None:
    """Raise Refused for a feed in a stream if it has a recorder or its server does not answer."""

    def append_nothing(
        writer_row: feed_records.WriterRow, instruments: Mapping[str, InstrumentFacts]
    ) -> Appended:
        refuse_recorded(feed, writer_row)
        return Appended(writer_row.head + 1, writer_row.head)  # no rows: nothing is stored

    append_in_stream(feed, append_nothing, tries=TRIES)


def _accepted(
    plan: ImportPlan, lines: Sequence[_Line], instruments: Mapping[str, InstrumentFacts]
) -> tuple[list[Event], list[RowError]]:
    """Return the events of the lines, and the wrong lines, which are left out.

    Raise Invalid for a wrong line without `skip_bad`, and if no line is left.
    """
    events, wrong = _checked(plan, lines, instruments)
    if wrong and not plan.skip_bad:
        shown = [error(f"line {one.row}", one.code, one.message) for one in wrong[:MAX_ERRORS]]
        raise Invalid(shown, count=len(wrong))
    if not events:
        first = f"The first, line {wrong[0].row}: {wrong[0].message}"
        raise Invalid([error("file", "empty", f"No line of {plan.path} can be imported. {first}")])
    return events, wrong


def _import_in_stream(plan: ImportPlan, lines: Sequence[_Line]) -> Imported:
    """Append all lines at once to the feed's stream, and return what was imported.

    Each try checks the lines against the newest state.
    """
    events: list[Event] = []
    wrong: list[RowError] = []

    def decide(
        writer_row: feed_records.WriterRow, instruments: Mapping[str, InstrumentFacts]
    ) -> Sequence[Event]:
        nonlocal events, wrong  # of the last try, for the result
        refuse_recorded(plan.feed, writer_row)
        events, wrong = _accepted(plan, lines, instruments)
        return events

    done = append_in_stream(plan.feed, decide, tries=TRIES, within_s=IMPORT_S)
    return Imported(len(events), done.from_seq, done.to_seq, wrong)


def _append_all(feed: str, events: Sequence[Event], after: int) -> Transaction[tuple[int, int]]:
    """Append all events, in pieces, if the head is `after`. Return their first and their last seq.

    Raise HeadMoved if the head is another one. Other appends wait until the transaction ends.
    """
    writer_row = yield from feed_records.writer(feed)
    refuse_recorded(feed, writer_row)
    head = after
    for begin in range(0, len(events), MAX_ROWS):
        piece = events[begin : begin + MAX_ROWS]
        done = yield from feed_records.append(feed, writer_row.epoch, head, piece)
        head = done.to_seq
    return after + 1, head


def _checked(
    plan: ImportPlan, lines: Sequence[_Line], instruments: Mapping[str, InstrumentFacts]
) -> tuple[list[Event], list[RowError]]:
    """Return the events, and the wrong lines in their order, numbered as in the file.

    A line is wrong if its time is more than `hole_s` after that of the symbol's line before it. So
    is each later line of that symbol.
    """
    events, wrong = read_rows((line.row for line in lines), instruments, most_errors=len(lines))
    wrong = [RowError(lines[one.row - 1].number, one.code, one.message) for one in wrong]
    if plan.hole_s is None:
        return events, wrong
    bad = {one.row for one in wrong}
    good = (line for line in lines if line.number not in bad)
    last_times: dict[str, int] = {}
    kept: list[Event] = []
    for line, event in zip(good, events, strict=True):
        last = last_times.get(event.symbol)
        if last is not None and event.time - last > plan.hole_s * 1_000_000:
            hole_s = (event.time - last) / 1e6
            message = (
                f"{event.symbol} has a hole of {hole_s:,.0f} s before this line, over the limit of"
                f" {plan.hole_s:,} s."
            )
            wrong.append(RowError(line.number, "hole", message))
        else:
            last_times[event.symbol] = event.time
            kept.append(event)
    return kept, sorted(wrong)


def _new_instruments(
    plan: ImportPlan, lines: Sequence[_Line], instruments: Mapping[str, InstrumentFacts]
) -> list[NewInstrument]:
    """Return the symbols of the file that the feed lacks, each with a tick for its prices."""
    prices: dict[str, list[str]] = {}
    for row in (line.row for line in lines if not isinstance(line.row, WrongMessage)):
        symbol = row.get("symbol")
        if symbol and symbol not in instruments:
            given = [row[name] for name in PRICES if row.get(name)]
            prices.setdefault(symbol, []).extend(given)
    return [NewInstrument(symbol, _tick(plan, given)) for symbol, given in prices.items()]


def _tick(plan: ImportPlan, prices: Sequence[str]) -> Decimal:
    """Return the tick that the plan states, else one unit of the last decimal place of `prices`.

    Raise Invalid if the stated tick is not a number.
    """
    if not plan.tick:
        decimal_places = max(PRICE_PLACES, places_of(prices))
        return Decimal(1).scaleb(-min(decimal_places, MAX_SCALE))
    try:
        return Decimal(plan.tick)
    except InvalidOperation:
        raise Invalid(
            [error("tick", "wrong_type", f"--tick is {plan.tick!r}; give a decimal number.")]
        ) from None


def read_time_form(zone: str, form: str, unit: str) -> TimeForm:
    """Return how the times of a file are written, by these options, each "" if it was not given.

    Raise Invalid with each option that is wrong.
    """
    errors = []
    if unit and unit not in UNITS_US:
        message = f"--time-unit is {unit!r}; give one of {', '.join(UNITS_US)}."
        errors.append(error("time_unit", "invalid", message))
    if unit and (form or zone):
        message = (
            "--time-unit is for times that are numbers since 1970: leave out --time-format and"
            " --time-zone, or --time-unit."
        )
        errors.append(error("time_unit", "invalid", message))
    try:
        # A form without the year reads each time as one of 1900.
        example = datetime(2026, 1, 31, 14, tzinfo=UTC)
        if form and datetime.strptime(example.strftime(form), form).year != example.year:
            raise ValueError
    except ValueError:
        message = (
            f"--time-format is {form!r}; give a form with the year, as Python's strptime takes it,"
            " such as '%d.%m.%Y %H:%M'."
        )
        errors.append(error("time_format", "invalid", message))
    try:
        known_zone = ZoneInfo(zone) if zone else None
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder, a very long name
        message = f"--time-zone is {zone!r}; give a name such as UTC or America/New_York."
        errors.append(error("time_zone", "unknown_time_zone", message))
    if errors:
        raise Invalid(errors)
    return TimeForm(known_zone, form, unit)


def _read(plan: ImportPlan, times: TimeForm) -> Iterator[_Line]:
    """Yield the lines of the file, read into fields. Raise Invalid if file or column is missing."""
    try:
        with open(plan.path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            reader = csv.reader(chain([first], file), delimiter=separator_of(first), strict=True)
            header = next(reader, None)
            if not header:
                raise Invalid([error("file", "empty", f"{plan.path} is empty.")])
            columns = find_columns(plan.path, header, plan.columns, plan.symbol, times)
            for count, cells in enumerate(reader, start=1):
                if count > MAX_LINES:
                    message = f"{plan.path} has over {MAX_LINES:,} lines; import it in parts."
                    raise Invalid([error("file", "too_many", message)])
                if not cells:
                    continue
                row = columns.row(cells)
                symbol = "" if isinstance(row, WrongMessage) else row.get("symbol")
                wrong_symbol = symbol_problem(symbol) if symbol else ""
                yield _Line(reader.line_num, WrongMessage(wrong_symbol) if wrong_symbol else row)
    except MissingColumn as missing:
        raise Invalid([error("column", "missing_column", why) for why in missing.args]) from None
    except (OSError, UnicodeDecodeError, csv.Error) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) else f"{wrong} (is a quote not closed?)"
        if isinstance(wrong, UnicodeDecodeError):
            why = (
                "it is not text in UTF-8. Convert it, as with `iconv -f GBK -t UTF-8`; a Parquet"
                " file is read by `manage.py feed record`"
            )
        message = f"{plan.path} cannot be read as CSV: {why}."
        raise Invalid([error("file", "unreadable", message)]) from None


def read_columns(given: Sequence[str]) -> dict[str, str]:
    """Return field → header from texts like `time=Date`. Raise Invalid for another text."""
    columns = {}
    for text in given:
        name, equals, header = text.partition("=")
        if name not in FIELDS or not equals or not header:
            message = f"--column is {text!r}; give FIELD=HEADER with one of {', '.join(FIELDS)}."
            raise Invalid([error("column", "invalid", message)])
        columns[name] = header
    return columns
