"""Read messages of a live source, which are JSON, as rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

from portfolios.feeds.columns import PRICES
from portfolios.feeds.rows import UNITS_US, epoch_time, time_text
from portfolios.json_text import read_json

#: Fields that a row may have without being market data.
NAMES = frozenset({"symbol", "time"})


class MessageLayout(NamedTuple):
    """Where the fields of a message are: paths of keys and list positions, such as `data.0.p`."""

    fields: Mapping[str, str] = MappingProxyType({})  #: field → path; empty: named as in a row
    rows: str = ""  #: path of the list of rows; "": the message is a row or a list of rows
    only: Mapping[str, str] = MappingProxyType({})  #: path → value that market data has there
    symbol: str = ""  #: of every row
    time_unit: str = ""  #: s, ms, us or ns since 1970; "": times are ISO 8601
    arrival_times: bool = False  #: rows have no time; the time of their arrival is taken
    number: str = ""  #: path of the number that the source gives a row


class MessageRow(NamedTuple):
    """One row, and the number that its source gave it."""

    row: dict[str, Any]
    number: int | None


class NotUnderstood(ValueError):
    """The message does not fit the layout. The text says why, and what to correct."""


def read_message(layout: MessageLayout, text: str | bytes, arrived_us: int) -> list[MessageRow]:
    """Return the rows of a message; [] if it is not market data. Raise NotUnderstood."""
    try:
        message = read_json(text, parse_float=Decimal)
    except ValueError as error:
        raise NotUnderstood(
            f"it is not JSON ({error}). Subscribe to a channel that sends JSON."
        ) from None
    if any(str(_at(message, path)) != value for path, value in layout.only.items()):
        return []
    found = _at(message, layout.rows) if layout.rows else message
    rows = found if isinstance(found, list) else [found]
    return [
        MessageRow(row, _number(layout, given))
        for given in rows
        if (row := _row(layout, given, arrived_us))
    ]


def _row(layout: MessageLayout, given: Any, arrived_us: int) -> dict[str, Any]:
    """Return `given` as a row; {} if it is not market data, like the answer to a subscription.

    Market data has one of the fields that `layout` names, other than `NAMES`; if it names none, a
    price or a kind.
    """
    if layout.fields:
        values = ((name, _at(given, path)) for name, path in layout.fields.items())
        row = {name: value for name, value in values if value is not None}
        is_data = bool(row.keys() - NAMES)
    elif isinstance(given, dict):
        row = {name: value for name, value in given.items() if name != layout.number}
        is_data = "kind" in row or any(name in row for name in PRICES)
    else:
        is_data = False
    if not is_data:
        return {}
    if layout.symbol:
        row["symbol"] = layout.symbol
    if layout.arrival_times:
        row["time"] = time_text(arrived_us)
    elif layout.time_unit and "time" in row:
        row["time"] = epoch_time(row["time"], UNITS_US[layout.time_unit])
    return row


def _number(layout: MessageLayout, given: Any) -> int | None:
    """Return the number that the source gave a row; None if the layout names no path for it.

    Raise NotUnderstood if the row has no such number.
    """
    if not layout.number:
        return None
    value = _at(given, layout.number)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        found = "nothing" if value is None else repr(value)[:40]
        raise NotUnderstood(
            f"it has {found} at {layout.number!r}, not a whole number from 0 to {2**63 - 1}. Name"
            " the path of the number with --number, or leave --number out."
        )
    return value


def _at(found: Any, path: str) -> Any:
    """Return the value at a path, None if there is none."""
    for step in path.split("."):
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found
