"""Create recorded feeds, describe their instruments, append to them, and remove them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from portfolios.feeds import feed_names
from portfolios.feeds.log import (
    CHAIN_START,
    Appended,
    HeadMoved,
    LogError,
    SourceConflict,
    SourceId,
)
from portfolios.feeds.rows import InstrumentFacts, read_rows
from portfolios.models import FeedKind, FeedRow, FeedWriter, Instrument, Portfolio
from portfolios.runtime.events import MAX_SCALE, PRICE_PLACES, Event, to_units
from portfolios.text import unprintable_in
from portfolios.validation import error
from scheduling.db.transaction import Transaction, execute
from scheduling.enact import feed_records
from scheduling.enact.audit_log import audit
from scheduling.errors import Invalid, NotFound, Refused
from scheduling.recorded_feeds.reads import create_stream, delete_stream
from scheduling.recorded_feeds.stream_appends import append_in_stream

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?")
SYMBOL = re.compile(r"[!-~]{1,24}")
SOURCE = re.compile(r"[!-~]{1,80}")
MAX_ROWS = 5_000  #: of one append, so that it holds the writer's row for a fraction of a second
MAX_INSTRUMENTS = 10_000
MAX_SKIPPED = 1_000_000  #: numbers that a source may leave out between two appends
MAX_ERRORS = 100  #: of one answer
SMALLEST = Decimal(1).scaleb(-MAX_SCALE)  #: tick or lot
TRIES = 20  #: of one append: an append of another source that comes first costs one of them


@dataclass(frozen=True, slots=True)
class NewInstrument:
    """A symbol, and the steps of its prices and volumes."""

    symbol: str
    tick_size: Decimal = Decimal("0.0001")
    lot: Decimal = Decimal(1)
    currency: str = ""
    scale: int | None = None  #: None: the places of the tick, four at least

    @property
    def decimal_places(self) -> int:
        """Return the decimal places in which its prices are kept."""
        if self.scale is not None:
            return self.scale
        exponent = self.tick_size.normalize().as_tuple().exponent
        return max(PRICE_PLACES, -exponent if isinstance(exponent, int) else 0)


def create_feed(
    name: str,
    instruments: Sequence[NewInstrument],
    *,
    silent_after_s: int | None = None,
    keep_days: int | None = None,
    in_stream: bool = False,
    actor: str,
) -> FeedRow:
    """Create an empty recorded feed, and return it; `in_stream`: its records are kept in JetStream.

    Raise Invalid for wrong fields, Refused if the name is taken or JetStream does not answer.
    """
    errors = _name_errors(name) + _instrument_errors(instruments)
    for field, value in (("silent_after_s", silent_after_s), ("keep_days", keep_days)):
        if value is not None and not 1 <= value <= 2_000_000_000:
            errors.append(error(field, "out_of_range", f"{field} is {value}; give 1 to 2e9."))
    if errors:
        raise Invalid(errors)
    try:
        with transaction.atomic():
            feed = FeedRow.objects.create(
                name=name,
                kind=FeedKind.RECORDED,
                sha256="",
                length=0,
                silent_after_s=silent_after_s,
                keep_days=keep_days,
            )
            FeedWriter.objects.create(
                feed=feed, released_at=timezone.now(), chain=CHAIN_START, in_stream=in_stream
            )
            Instrument.objects.bulk_create(_instrument_rows(feed, instruments))
            execute(audit("feed_created", actor=actor, feed=name, instruments=len(instruments)))
            if in_stream:
                create_stream(name)
    except IntegrityError:  # the unique name decides between two creations at once
        raise Refused(
            "name_taken", f"A feed named {name} already exists; choose another name."
        ) from None
    return feed


def add_instruments(name: str, instruments: Sequence[NewInstrument], *, actor: str) -> None:
    """Add symbols to a recorded feed; one that it has already stays as it is.

    Raise Invalid for a wrong or too many instruments, NotFound, Refused if the feed has a symbol
    with another tick, scale or lot, on which its recorded prices depend.
    """
    feed = find_feed(name)
    errors = _instrument_errors(instruments)
    if errors:
        raise Invalid(errors)
    with transaction.atomic():
        known = {row.symbol: row for row in Instrument.objects.filter(feed=feed)}
        total = len(known.keys() | {one.symbol for one in instruments})
        if total > MAX_INSTRUMENTS:
            message = (
                f"Feed {name} would have {total:,} instruments; {MAX_INSTRUMENTS:,} are allowed."
            )
            raise Invalid([error("instruments", "too_many", message)])
        for one in instruments:
            row = known.get(one.symbol)
            if row is not None and (row.scale, row.tick_size, row.lot) != (
                one.decimal_places,
                one.tick_size,
                one.lot,
            ):
                raise Refused(
                    "instrument_differs",
                    f"{one.symbol} of feed {name} has tick {row.tick_size:f}, scale {row.scale} and"
                    f" lot {row.lot:f}: recorded prices depend on them, so tick"
                    f" {one.tick_size:f}, scale {one.decimal_places} and lot {one.lot:f} cannot"
                    " replace them. To record the symbol with these, use another feed.",
                )
        new = [one for one in instruments if one.symbol not in known]
        Instrument.objects.bulk_create(_instrument_rows(feed, new), ignore_conflicts=True)
        execute(audit("feed_instruments", actor=actor, feed=name, added=[n.symbol for n in new]))


def append_rows(name: str, rows: Sequence[Any], source: SourceId | None = None) -> Appended:
    """Append all rows or none; with a `source`, a repeat is answered as before and stores nothing.

    Raise Invalid with the number of each wrong row, NotFound, or Refused if a recorder writes the
    feed or other appends come first TRIES times. Three statements in each try.
    """
    if len(rows) > MAX_ROWS:
        message = f"The append has {len(rows):,} rows; {MAX_ROWS:,} are allowed at a time."
        raise Invalid([error("rows", "too_many", message)])
    if source is not None:
        source = _checked_source(source, rows)
    for _ in range(TRIES):
        try:
            return execute(_append(name, rows, source))
        except _KeptInStream:
            return append_in_stream(
                name,
                lambda writer_row, instruments: _decide(
                    name, writer_row, instruments, rows, source
                ),
                source,
                tries=TRIES,
            )
        except feed_records.NoSuchFeed:
            find_feed(name)  # raises what a client is told: no such feed, or a packaged one
            raise
        except HeadMoved:
            continue
        except LogError as refused:
            raise Refused("feed_busy", str(refused)) from None
    raise Refused(
        "feed_busy",
        f"Nothing was appended to feed {name}: other appends came first {TRIES} times. Repeat the "
        "append.",
        status=503,
    )


class _KeptInStream(Exception):
    """The feed is kept in a stream, not in the database.

    Raised to roll back the transaction, which has already recorded that the request acted.
    """


def _append(name: str, rows: Sequence[Any], source: SourceId | None) -> Transaction[Appended]:
    """Append to a feed in the database. Raise _KeptInStream for one that is kept in a stream."""
    writer_row = yield from feed_records.writer(name, source)
    if writer_row.in_stream:
        raise _KeptInStream
    instruments = yield from feed_records.instruments(name)
    decided = _decide(name, writer_row, instruments, rows, source)
    if isinstance(decided, Appended):
        return decided
    return (
        yield from feed_records.append(
            name, writer_row.epoch, writer_row.head, decided, source, held=writer_row
        )
    )


def _decide(
    name: str,
    writer_row: feed_records.WriterRow,
    instruments: Mapping[str, InstrumentFacts],
    rows: Sequence[Any],
    source: SourceId | None,
) -> Sequence[Event] | Appended:
    """Return the events to append to the feed, or the answer that a repeat got before.

    Raise Invalid for wrong rows, Refused if a recorder writes the feed or the source sent other
    rows under this number. Pure.
    """
    try:
        before = feed_records.stored_answer(name, writer_row, source)
    except SourceConflict as conflict:
        raise Refused("source_conflict", str(conflict)) from None
    if before is not None:
        return before
    newest = writer_row.newest or 0
    if source is not None and source.number > newest + 1 + MAX_SKIPPED:
        message = (
            f"number is {source.number}, and source {source.source} has sent {newest} last: at most"
            f" {MAX_SKIPPED:,} may be left out, since no lower number is taken afterwards. Count"
            " 1, 2, 3 … for each source."
        )
        raise Invalid([error("number", "out_of_range", message)])
    refuse_recorded(name, writer_row)
    events, wrong = read_rows(rows, instruments, MAX_ERRORS)
    if wrong:
        errors = [
            error(f"rows.{one.row}", one.code, f"row {one.row}: {one.message}") for one in wrong
        ]
        raise Invalid(errors)
    return events


def refuse_recorded(name: str, writer_row: feed_records.WriterRow) -> None:
    """Raise Refused if the feed's writer row names a recorder."""
    if writer_row.writer:
        raise Refused(
            "recorded_elsewhere",
            f"Feed {name} is recorded by {writer_row.writer} (epoch {writer_row.epoch}) and takes"
            " no other appends: stop the recorder or, if it was killed, run manage.py feed release"
            f" {name}.",
        )


def _checked_source(source: SourceId, rows: Sequence[Any]) -> SourceId:
    """Return the source with the hash of the rows. Raise Invalid for a wrong name or number."""
    errors = []
    if not SOURCE.fullmatch(source.source):
        message = f"source is {source.source[:90]!r}; use 1 to 80 ASCII characters, no spaces."
        errors.append(error("source", "wrong_type", message))
    if not 1 <= source.number < 2**62:
        message = f"number is {source.number}; count 1, 2, 3 … for each source, below 2^62."
        errors.append(error("number", "out_of_range", message))
    if errors:
        raise Invalid(errors)
    content = msgspec.json.encode(rows, order="deterministic")
    return SourceId(source.source, source.number, hashlib.sha256(content).hexdigest())


def remove_feed(name: str, *, actor: str) -> None:
    """Remove a recorded feed with its records.

    Raise NotFound, or Refused for a packaged feed and while a portfolio, also a deleted one, needs
    the feed.

    The feed is removed first, so that nobody can ask for its records; these are then dropped in
    pieces. If the process ends meanwhile, the hourly pass drops the rest.
    """
    feed = find_feed(name)
    users = Portfolio.objects.filter(feed=feed).order_by("archived_at", "name")
    if users:
        listed = ", ".join(
            user.name + (" (deleted)" if user.archived_at else "") for user in users[:10]
        )
        more = f" and {len(users) - 10} more" if len(users) > 10 else ""
        raise Refused(
            "feed_in_use",
            f"Feed {name} cannot be removed: the history of portfolios, also of deleted ones, "
            f"needs it: {listed}{more}.",
            portfolios=[user.name for user in users[:MAX_ERRORS]],
        )
    try:
        with transaction.atomic():
            execute(audit("feed_removed", actor=actor, feed=name))
            in_stream = feed.writer.in_stream
            feed.delete()
            # Before the stream is deleted, which no rollback restores.
            connection.check_constraints()
            if in_stream:
                delete_stream(name)
    except (ProtectedError, IntegrityError):  # a portfolio was created on it meanwhile
        raise Refused(
            "feed_in_use",
            f"Feed {name} cannot be removed: a portfolio was just created on it. Another attempt "
            "names it.",
        ) from None
    while execute(feed_records.drop_orphans()):
        pass


def find_feed(name: str) -> FeedRow:
    """Return the recorded feed of this name. Raise NotFound, or Refused for a packaged feed."""
    # PostgreSQL would refuse a NUL with an error.
    found = FeedRow.objects.none() if "\0" in name else FeedRow.objects.filter(name=name)
    feed = found.select_related("writer").first()
    if feed is None and name not in feed_names():
        raise NotFound("feed", name)
    if feed is None or feed.kind != FeedKind.RECORDED:
        raise Refused(
            "feed_is_replay",
            f"Feed {name} replays packaged bars; this needs a recorded one. `manage.py feed "
            "list` shows them, and `feed create` makes one.",
        )
    return feed


def _instrument_rows(feed: FeedRow, instruments: Sequence[NewInstrument]) -> list[Instrument]:
    return [
        Instrument(
            feed=feed,
            symbol=one.symbol,
            scale=one.decimal_places,
            tick_size=one.tick_size,
            lot=one.lot,
            currency=one.currency,
        )
        for one in instruments
    ]


def _name_errors(name: str) -> list[dict[str, str]]:
    if name in feed_names():
        why = "is the name of the packaged bars; choose another."
    elif NAME.fullmatch(name):
        return []
    else:
        why = "is not a valid name: use small letters, digits and inner hyphens, 60 at most."
    return [error("name", "not_a_slug", f"{name[:70]!r} {why}")]


def _instrument_errors(instruments: Sequence[NewInstrument]) -> list[dict[str, str]]:
    errors = []
    if len(instruments) > MAX_INSTRUMENTS:
        message = f"There are {len(instruments):,} instruments; {MAX_INSTRUMENTS:,} are allowed."
        errors.append(error("instruments", "too_many", message))
    seen: set[str] = set()
    for one in instruments[:MAX_INSTRUMENTS]:
        why = _instrument_problem(one, seen)
        if why:
            errors.append(error(f"instruments.{one.symbol[:30]}", "invalid", why))
        seen.add(one.symbol)
    return errors[:MAX_ERRORS]


def symbol_problem(symbol: str) -> str:
    """Return why this cannot be the symbol of an instrument, or ""."""
    if SYMBOL.fullmatch(symbol) and symbol != "*":
        return ""
    return f"{symbol[:30]!r} is not a symbol: use 1 to 24 ASCII characters, no spaces."


def _instrument_problem(one: NewInstrument, seen: set[str]) -> str:
    """Return what is wrong with an instrument, or ""; `seen`: the symbols before it in its list."""
    if wrong := symbol_problem(one.symbol):
        return wrong
    if one.symbol in seen:
        return f"{one.symbol} is listed twice."
    if unprintable_in(one.currency) or len(one.currency) > 12:
        shown = repr(one.currency[:20])
        return f"The currency of {one.symbol} is {shown}; give 12 printable characters at most."
    for what, value in (("tick", one.tick_size), ("lot", one.lot)):
        if not value.is_finite() or not SMALLEST <= value < 10**12:
            shown = str(value)[:40]
            return f"The {what} of {one.symbol} is {shown}; give {SMALLEST:f} or more, below 1e12."
    if not 0 <= one.decimal_places <= MAX_SCALE:
        shown = str(one.decimal_places)[:40]
        return f"The scale of {one.symbol} is {shown}; it must be from 0 to {MAX_SCALE}."
    try:
        to_units(one.tick_size, one.decimal_places)
        to_units(one.lot, MAX_SCALE)
    except ValueError as wrong:
        return f"The tick or lot of {one.symbol} does not fit its scale: {wrong}."
    return ""


def read_instrument(symbol: str, given: Mapping[str, Any]) -> NewInstrument:
    """Return the instrument with the given tick, lot, scale and currency, each optional.

    Raise Invalid if `given` has another key or a value of a wrong type.
    """
    values: dict[str, Any] = {}
    unknown = sorted(set(given) - {"tick", "lot", "scale", "currency"})
    why = f"there is no {unknown[0]}; give tick, lot, scale, currency" if unknown else ""
    try:
        if given.get("tick") is not None:
            values["tick_size"] = Decimal(str(given["tick"]))
        if given.get("lot") is not None:
            values["lot"] = Decimal(str(given["lot"]))
        if given.get("scale") is not None:
            values["scale"] = int(given["scale"])
        values["currency"] = str(given.get("currency") or "")
    except (InvalidOperation, ValueError, TypeError):
        why = why or "tick and lot must be numbers, scale a whole number"
    if why:
        raise Invalid([error(f"instruments.{symbol[:30]}", "invalid", f"{symbol[:30]}: {why}.")])
    return NewInstrument(str(symbol), **values)
