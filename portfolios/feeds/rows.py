"""Read the rows that a source sends: market events as text, checked against their instruments.

Pure. Every mistake is reported with the number of its row, and a batch with a mistake is refused as
a whole, so that a source can correct it and send the same batch again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from portfolios.runtime.events import Event, Gap, Quote, Tick, Trade, make_bar, to_units

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MAX_UNITS = 2**62  #: of a price, and lots of a quantity: half of what a bigint holds
#: Once a time far ahead was recorded, every later row of its symbol would be refused.
MIN_TIME_US = (datetime(1900, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
MAX_TIME_US = (datetime(2200, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND - 1
#: Kind of a row → its fields besides kind, symbol and time.
KINDS = {
    "bar": ("open", "high", "low", "close", "volume"),
    "trade": ("price", "quantity"),
    "quote": ("bid", "ask", "bid_quantity", "ask_quantity"),
    "tick": (),
    "gap": ("from", "to"),
}
#: Unit of a time that is a number → µs.
UNITS_US = {"s": Decimal(1_000_000), "ms": Decimal(1_000), "us": Decimal(1), "ns": Decimal("0.001")}
OPTIONAL = frozenset({"volume", "bid_quantity", "ask_quantity"})  #: fields of a row


class InstrumentFacts(NamedTuple):
    """The instrument of a symbol, against which its rows are checked."""

    symbol: str
    scale: int
    tick: Decimal
    lot: Decimal = Decimal(1)
    last_us: int | None = None  #: time of its newest record


class WrongTime(NamedTuple):
    """Stands in a row for a time that its source could not read, and says why."""

    code: str
    message: str


class WrongMessage(NamedTuple):
    """Stands for a line, or the rows of a message, that its source could not read; says why."""

    why: str


class RowError(NamedTuple):
    """A mistake in one row, counted from 1."""

    row: int
    code: str
    message: str


class _WrongRow(Exception):
    """The row is refused."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def read_rows(
    rows: Iterable[Any], instruments: Mapping[str, InstrumentFacts], most_errors: int = 100
) -> tuple[list[Event], list[RowError]]:
    """Return the events of `rows`, without seq and release time, and up to `most_errors` mistakes.

    Times of one symbol must grow; trades may share one, and so may quotes. Rows of different
    symbols may come in any order.
    """
    last = {symbol: facts.last_us for symbol, facts in instruments.items()}
    events: list[Event] = []
    errors: list[RowError] = []
    for number, row in enumerate(rows, start=1):
        try:
            event = _event(row, instruments)
            _check_order(event, last.get(event.symbol))
        except _WrongRow as wrong:
            errors.append(RowError(number, wrong.code, str(wrong)))
            if len(errors) == most_errors:
                break
            continue
        if not isinstance(event, Gap):  # a gap may lie before rows that were already recorded
            last[event.symbol] = event.time
        events.append(event)
    return events, errors


def _check_order(event: Event, last_us: int | None) -> None:
    """Raise _WrongRow if the event is before the newest one of its symbol, or repeats its time."""
    if last_us is None or not event.symbol or isinstance(event, Gap):
        return
    if event.time == last_us and not isinstance(event, Trade | Quote):
        raise _WrongRow(
            "duplicate_time", f"{event.symbol} already has a record at {time_text(event.time)}."
        )
    if event.time < last_us:
        raise _WrongRow(
            "time_goes_back",
            f"{event.symbol} at {time_text(event.time)} is earlier than {time_text(last_us)}, its"
            " newest time in the feed or in the rows before: leave out what is recorded already,"
            " and send the others in the order of their times.",
        )


def _event(row: Any, instruments: Mapping[str, InstrumentFacts]) -> Event:
    """Return the event of a row, without seq and release time. Raise _WrongRow."""
    if isinstance(row, WrongMessage):
        raise _WrongRow("malformed", row.why)
    if not isinstance(row, Mapping):
        raise _WrongRow("wrong_type", "the row is not an object with symbol, time and prices.")
    kind = _kind(row)
    known = {"kind", "symbol", "time", *KINDS[kind]}
    unknown = sorted(str(name) for name in row if name not in known)
    if unknown:
        raise _WrongRow(
            "unknown_field", f"a {kind} has no {unknown[0]}; it has {', '.join(sorted(known))}."
        )
    at_us = read_time("time", row.get("time"))
    if kind == "tick":
        return Tick(0, "", at_us, 0)
    if kind == "gap":
        symbol = row.get("symbol") or ""
        if symbol and (not isinstance(symbol, str) or symbol not in instruments):
            raise _unknown_symbol(symbol, instruments)
        first, last = read_time("from", row.get("from")), read_time("to", row.get("to"))
        if first > last:
            raise _WrongRow(
                "out_of_range",
                f"The gap ends at {row['to']}, before it begins at {row['from']}: give a `to` that"
                " is not before `from`.",
            )
        return Gap(0, symbol, at_us, 0, first, last)
    symbol = row.get("symbol")
    facts = instruments.get(symbol) if isinstance(symbol, str) else None
    if facts is None:
        raise _unknown_symbol(symbol, instruments)
    return _priced_event(kind, row, facts, at_us)


def _kind(row: Mapping[str, Any]) -> str:
    """Return the kind that a row states, else that which follows from its prices.

    Raise _WrongRow if it is not one of KINDS.
    """
    kind = row.get("kind")
    if kind is None:
        kind = "trade" if "price" in row else "quote" if "bid" in row or "ask" in row else "bar"
    if not isinstance(kind, str) or kind not in KINDS:
        raise _WrongRow(
            "unknown_kind", f"kind is {str(kind)[:40]!r}; use one of {', '.join(KINDS)}."
        )
    return str(kind)


def _unknown_symbol(symbol: Any, instruments: Mapping[str, InstrumentFacts]) -> _WrongRow:
    """Return the mistake of a row whose symbol is missing or no instrument of the feed."""
    if not symbol:
        return _WrongRow("required", "symbol is missing.")
    known = ", ".join(sorted(instruments)[:5]) or "none yet"
    return _WrongRow(
        "unknown_symbol",
        f"symbol {str(symbol)[:40]!r} is not an instrument of the feed, which has {known}"
        + (" …" if len(instruments) > 5 else "")
        + "; add it first, with `manage.py feed add` or POST /api/feeds/NAME/instruments/.",
    )


def _priced_event(kind: str, row: Mapping[str, Any], facts: InstrumentFacts, at_us: int) -> Event:
    """Return a trade, quote or bar. Raise _WrongRow."""
    symbol, scale = facts.symbol, facts.scale
    if kind == "trade":
        price = _price("price", row, facts)
        return Trade(0, symbol, at_us, 0, price, _quantity("quantity", row, facts), scale)
    if kind == "quote":
        bid, ask = _price("bid", row, facts), _price("ask", row, facts)
        if bid > ask:
            raise _WrongRow("crossed", f"{symbol}: bid {row['bid']} is above ask {row['ask']}.")
        bid_quantity = _quantity("bid_quantity", row, facts)
        ask_quantity = _quantity("ask_quantity", row, facts)
        return Quote(0, symbol, at_us, 0, bid, ask, bid_quantity, ask_quantity, scale)
    first, high, low, last = (_price(name, row, facts) for name in ("open", "high", "low", "close"))
    if not low <= min(first, last) <= max(first, last) <= high:
        raise _WrongRow(
            "outside_range",
            f"{symbol}: open {row['open']} and close {row['close']} must lie from low {row['low']}"
            f" to high {row['high']}.",
        )
    volume = _quantity("volume", row, facts)
    return make_bar(0, symbol, at_us, 0, (first, high, low, last), volume, scale)


def _number(name: str, row: Mapping[str, Any]) -> Decimal | None:
    """Return a number of a row; None if it is optional and missing. Raise _WrongRow."""
    value = row.get(name)
    if value is None or value == "":
        if name in OPTIONAL:
            return None
        raise _WrongRow("required", f"{name} is missing.")
    if isinstance(value, float):
        value = repr(value)  # the shortest text of it, which is what the source wrote
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise _WrongRow("wrong_type", f"{name} is {value!r}; give a decimal number.")
    try:
        number = Decimal(value.strip() if isinstance(value, str) else value)
    except InvalidOperation:
        number = Decimal("NaN")
    # Decimal also reads 12_5 as 125, and digits of other scripts.
    if not number.is_finite() or not str(value).isascii() or "_" in str(value):
        raise _WrongRow("wrong_type", f"{name} is {str(value)[:40]!r}; give a decimal number.")
    return number


def _price(name: str, row: Mapping[str, Any], facts: InstrumentFacts) -> int:
    """Return a price as an integer of the instrument's scale. Raise _WrongRow."""
    number = _number(name, row)
    assert number is not None
    if not 0 < number < Decimal(10) ** 18:
        limit = "over 0" if number <= 0 else "below 10^18"
        text = f"{facts.symbol}: {name} is {str(number)[:40]}; it must be {limit}."
        raise _WrongRow("out_of_range", text)
    step = to_units(facts.tick, facts.scale)
    try:
        units: int | None = to_units(number, facts.scale)
    except ValueError:  # more decimal places than the scale, and so than the tick
        units = None
    if units is not None and units > MAX_UNITS:
        most = f"2^62 units of 10^-{facts.scale} at most"
        text = f"{facts.symbol}: {name} is {str(number)[:40]}; it must be {most}."
        raise _WrongRow("out_of_range", text)
    if units is None or units % step:
        raise _WrongRow(
            "off_tick",
            f"{facts.symbol}: {name} {number} is not a multiple of the tick {facts.tick:f}.",
        )
    return units


def _quantity(name: str, row: Mapping[str, Any], facts: InstrumentFacts) -> int:
    """Return a quantity in lots of the instrument; 0 if it is optional and missing.

    Raise _WrongRow.
    """
    number = _number(name, row)
    if number is None:
        return 0
    if not 0 <= number < Decimal(10) ** 30:  # a much larger one may overflow
        raise _WrongRow(
            "out_of_range",
            f"{facts.symbol}: {name} is {str(number)[:40]}; it must be 0 or more, below 10^30.",
        )
    lots = number / facts.lot
    if lots > MAX_UNITS:
        most = f"2^62 lots of {facts.lot:f} at most"
        text = f"{facts.symbol}: {name} is {str(number)[:40]}; it must be {most}."
        raise _WrongRow("out_of_range", text)
    if lots != int(lots):
        raise _WrongRow(
            "off_lot",
            f"{facts.symbol}: {name} {number} is not a multiple of the lot {facts.lot:f}.",
        )
    return int(lots)


def read_time(name: str, value: Any) -> int:
    """Return a text in ISO 8601 with its time zone as µs since the epoch. Raise _WrongRow."""
    if value is None or value == "":
        raise _WrongRow("required", f"{name} is missing.")
    if isinstance(value, WrongTime):
        raise _WrongRow(value.code, value.message)
    try:
        if not isinstance(value, str):
            raise ValueError
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        raise _WrongRow(
            "wrong_type",
            f"{name} is {str(value)[:40]!r}; give ISO 8601, such as 2026-01-31T14:30:00Z.",
        ) from None
    if at.tzinfo is None:
        raise _WrongRow(
            "time_zone_missing",
            f"{name} {value} has no time zone: end it with Z for UTC or an offset like -05:00.",
        )
    time_us = (at - EPOCH) // MICROSECOND
    if not MIN_TIME_US <= time_us <= MAX_TIME_US:
        raise _WrongRow(
            "out_of_range", f"{name} is {value}; give a time of the years 1900 to 2199."
        )
    return time_us


def time_text(time_us: int) -> str:
    """Return µs since the epoch as ISO 8601 in UTC."""
    at = EPOCH + timedelta(microseconds=time_us)
    return at.isoformat(timespec="auto").replace("+00:00", "Z")


def epoch_time(value: Any, unit_us: Decimal) -> Any:
    """Return the time `value` * `unit_us` µs after 1970 as ISO 8601.

    Return `value` itself if it is not a number, and its text if the time is not of 1900 to 2199.
    """
    try:
        at_us = Decimal(str(value)) * unit_us
        is_possible = MIN_TIME_US <= at_us <= MAX_TIME_US  # else int() may make a million digits
    except ArithmeticError:
        return value
    return time_text(int(at_us)) if is_possible else str(value)


def places_of(numbers: Sequence[str]) -> int:
    """Return the most decimal places that a number among these texts has."""
    most = 0
    for text in numbers:
        try:
            exponent = Decimal(text.strip()).as_tuple().exponent
        except InvalidOperation:
            continue
        most = max(most, -exponent if isinstance(exponent, int) else 0)  # a text if not finite
    return most
