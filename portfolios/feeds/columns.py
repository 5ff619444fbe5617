"""Read lines of a file as rows of a source, by its columns and its form of times. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from portfolios.feeds.rows import UNITS_US, WrongMessage, WrongTime, epoch_time

PRICES = ("open", "high", "low", "close", "price", "bid", "ask")
FIELDS = ("symbol", "time", *PRICES, "volume", "quantity", "bid_quantity", "ask_quantity")
#: Headers that mean a field without being its name.
ALIASES = {"date": "time", "datetime": "time", "timestamp": "time", "ticker": "symbol"}
SEPARATORS = ",;\t|"


class MissingColumn(ValueError):
    """The header lacks columns that are needed. Its arguments are a sentence for each column."""

    def __str__(self) -> str:
        return " ".join(self.args)


class TimeForm(NamedTuple):
    """How a file writes its times."""

    zone: ZoneInfo | None = None  #: of times that have none
    form: str = ""  #: as `strptime` takes it; "": ISO 8601
    unit: str = ""  #: of times that are numbers since 1970: s, ms, us or ns

    def read(self, text: str) -> str | WrongTime:
        """Return the time in ISO 8601 with its zone, or why it cannot be read; "" for ""."""
        if not text:
            return text
        if self.unit:
            at_text = str(epoch_time(text, UNITS_US[self.unit]))
            if at_text != text:  # else it is no such number
                return at_text
            message = (
                f"time is {text[:40]!r}; give a number of {self.unit} since 1970, of a time between"
                " 1900 and 2199, or another --time-unit."
            )
            return WrongTime("wrong_type", message)
        try:
            at = datetime.strptime(text, self.form) if self.form else datetime.fromisoformat(text)
        except ValueError:
            wanted = (
                f"give {self.form!r}, as --time-format says"
                if self.form
                else "give ISO 8601, such as 2026-01-31T14:30:00Z, or state another form with"
                " --time-format, such as '%d.%m.%Y %H:%M', or with --time-unit for numbers"
            )
            return WrongTime("wrong_type", f"time is {text[:40]!r}; {wanted}.")
        if at.tzinfo:
            return at.isoformat() if self.form else text
        if self.zone is None:
            return WrongTime(
                "time_zone_missing",
                f"time {text} has no time zone: state that of the file with --time-zone, such as"
                " UTC or America/New_York.",
            )
        local = at.replace(tzinfo=self.zone)
        if local.astimezone(UTC).astimezone(self.zone).replace(tzinfo=None) != at:
            # Converted to UTC, it would become a time an hour away.
            return WrongTime(
                "no_such_time",
                f"time {text} does not exist in {self.zone}: the clock was put forward then. Are"
                " these the times of another zone?",
            )
        if local.utcoffset() != local.replace(fold=1).utcoffset():
            needed = ", for which --time-format needs %z" if self.form else ""
            return WrongTime(
                "ambiguous_time",
                f"time {text} came twice in {self.zone}: the clock was put back then. Give it with"
                f" its offset, such as {local.isoformat()}{needed}, or in UTC.",
            )
        return local.isoformat()


ISO = TimeForm()


class Columns(NamedTuple):
    """Which columns of a file have the fields of a row."""

    places: Mapping[str, int]  #: field → column
    symbol: str = ""  #: of every row; "": a column has it
    times: TimeForm = ISO
    day: int | None = None  #: column of the date, if the column `time` has the time of day alone
    width: int = 0  #: columns of the header

    def row(self, cells: Sequence[str]) -> Any:
        """Return the cells of one line as a row for `read_rows`, or a WrongMessage."""
        if any(cell.strip() for cell in cells[self.width :]):  # then the others may be displaced
            return WrongMessage(
                f"the line has {len(cells)} cells, and the header {self.width}. Does a number have"
                " commas, as 1,071.60 has? Write it as 1071.60."
            )
        row: dict[str, Any] = {
            name: cells[place].strip() for name, place in self.places.items() if place < len(cells)
        }
        if self.symbol:
            row["symbol"] = self.symbol
        time = row.get("time", "")
        if self.day is not None and self.day < len(cells):
            time = f"{cells[self.day].strip()} {time}"
        row["time"] = self.times.read(time)
        return row


def object_row(
    found: Any, names: Mapping[str, str], symbol: str = "", times: TimeForm = ISO
) -> Any:
    """Return the JSON object of one line as a row for `read_rows`; anything else as it is.

    `names` is field → name in the object, `symbol` the symbol of every row with prices.
    """
    if not isinstance(found, Mapping):
        return found
    row = {name: value for name, value in found.items() if name not in names.values()}
    row |= {field: found[name] for field, name in names.items() if name in found}
    if symbol and row.get("kind") not in ("tick", "gap"):
        row["symbol"] = symbol
    for name in ("time", "from", "to"):
        if isinstance(row.get(name), str | int | Decimal):
            row[name] = times.read(str(row[name]).strip())
    return row


def separator_of(header: str) -> str:
    """Return the character that separates the columns of a header."""
    return max(SEPARATORS, key=header.count)  # a comma if there is none


def find_columns(
    path: str,
    header: Sequence[str],
    named: Mapping[str, str],
    symbol: str = "",
    times: TimeForm = ISO,
) -> Columns:
    """Return which columns of the file `path` have the fields; `named` is field → header.

    `symbol` is that of all rows, if no column has it. Raise MissingColumn if a field has none.
    """
    names = [name.strip().strip("<>") for name in header]  # some exports write <DATE>
    found: dict[str, int] = {}
    for place, name in enumerate(names):  # by the names of fields, and by ALIASES
        known = name.lower().replace(" ", "_")
        known = ALIASES.get(known, known)
        if known in FIELDS and known not in named:
            found.setdefault(known, place)
    small_names = [name.lower() for name in names]
    day = None
    if "time" not in named:
        if "date" in small_names and "time" in small_names:  # then `time` is the time of day
            day, found["time"] = small_names.index("date"), small_names.index("time")
        elif names and not names[0]:  # pandas leaves the column of its index without a name
            found.setdefault("time", 0)
    listed = ", ".join(name or "(no name)" for name in names[:12])
    errors = []
    for wanted, name in named.items():
        if name in names:
            found[wanted] = names.index(name)
        else:
            errors.append(f"{path} has no column {name!r} for {wanted}; it has {listed}.")
    errors += [
        f"{path} has no column for {wanted}: name it with --column {wanted}=HEADER; it has"
        f" {listed}."
        for wanted in _missing_columns(found, symbol)
        if wanted not in named
    ]
    if errors:
        raise MissingColumn(*errors)
    return Columns(found, symbol, times, day, len(names))


def _missing_columns(found: Mapping[str, int], symbol: str) -> list[str]:
    """Return the fields without a column that a trade, quote or bar needs, by the prices found."""
    needed = ["time"] + ([] if symbol else ["symbol"])
    if "price" in found:
        needed += ["quantity"]
    elif "bid" in found or "ask" in found:
        needed += ["bid", "ask"]
    else:
        needed += ["open", "high", "low", "close"]
    return [name for name in needed if name not in found]
