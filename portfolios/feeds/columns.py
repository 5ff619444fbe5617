"""Read lines of a CSV file as rows of a source: which column is which field. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from portfolios.feeds.rows import NoSuchTime

PRICES = ("open", "high", "low", "close", "price", "bid", "ask")
FIELDS = ("symbol", "time", *PRICES, "volume", "quantity", "bid_quantity", "ask_quantity")
#: Headers that mean a field without being its name.
ALIASES = {"date": "time", "datetime": "time", "timestamp": "time", "ticker": "symbol"}


class MissingColumn(ValueError):
    """The header lacks columns that are needed. Its arguments are one sentence for each."""


class Columns(NamedTuple):
    """Where the fields of a row are."""

    places: Mapping[str, int]  #: field → column
    symbol: str = ""  #: of every row
    zone: ZoneInfo | None = None  #: of times that have none

    def row(self, cells: Sequence[str]) -> dict[str, Any]:
        """Return the cells of one line as a row for `read_rows`."""
        row: dict[str, Any] = {
            name: cells[place].strip() for name, place in self.places.items() if place < len(cells)
        }
        if self.symbol:
            row["symbol"] = self.symbol
        row["time"] = with_zone(row.get("time", ""), self.zone)
        return row


def find_columns(
    path: str,
    header: Sequence[str],
    named: Mapping[str, str],
    symbol: str = "",
    zone: ZoneInfo | None = None,
) -> Columns:
    """Return where the header of `path` has the fields; `named` is field → header.

    Raise MissingColumn if one that is needed is missing.
    """
    names = [name.strip() for name in header]
    found: dict[str, int] = {}
    for place, name in enumerate(names):
        known = name.lower().replace(" ", "_")
        known = ALIASES.get(known, known)
        if known in FIELDS and known not in named:
            found.setdefault(known, place)
    listed = ", ".join(names[:12])
    errors = []
    for wanted, name in named.items():
        if name in names:
            found[wanted] = names.index(name)
        else:
            errors.append(f"{path} has no column {name!r} for {wanted}; it has {listed}.")
    errors += [
        f"{path} has no column for {wanted}: name it with --column {wanted}=HEADER; it has"
        f" {listed}."
        for wanted in _missing(found, symbol)
    ]
    if errors:
        raise MissingColumn(*errors)
    return Columns(found, symbol, zone)


def with_zone(text: str, zone: ZoneInfo | None) -> str | NoSuchTime:
    """Return the time with the zone, if it is one and has none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text  # reported with its line
    if zone is None or at.tzinfo:
        return text
    local = at.replace(tzinfo=zone)
    if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != at:
        return NoSuchTime(text, str(zone))  # it would be taken for one an hour away
    return local.isoformat()


def _missing(found: Mapping[str, int], symbol: str) -> list[str]:
    needed = ["time"] + ([] if symbol else ["symbol"])
    if "price" in found:
        needed += ["quantity"]
    elif "bid" in found or "ask" in found:
        needed += ["bid", "ask"]
    else:
        needed += ["open", "high", "low", "close"]
    return [name for name in needed if name not in found]
