"""Format numbers, times and values for people: thousands, a minus sign, units, – for unknown.

Units are those of the active language: 42 s, 42 秒.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext as _

from portfolios.text import exact_decimal

UNKNOWN = "–"
MINUS = "−"

Number = int | float | Decimal | str


def _with_thousands(number: Decimal, places: int, sign: bool = False) -> str:
    """Return the number with thousands separators; 0 has no sign, whatever `sign` says."""
    text = f"{abs(number):,.{places}f}"
    if not text.strip("0.,"):  # 0, at least after rounding
        return text
    if number < 0:
        return MINUS + text
    return f"+{text}" if sign else text


def whole(value: Number | None) -> str:
    """Return a number without decimal places, such as `9,862,904`, or `–` if it is unknown."""
    number = exact_decimal(value)
    return UNKNOWN if number is None else _with_thousands(number, 0)


def money(value: Number | None) -> str:
    """Return an amount with two decimal places, such as `103,981.47`, or `–` if unknown."""
    number = exact_decimal(value)
    return UNKNOWN if number is None else _with_thousands(number, 2)


def signed_money(value: Number | None) -> str:
    """Return an amount with its sign, such as +1,284.10 or −842.37; zero has no sign."""
    number = exact_decimal(value)
    return UNKNOWN if number is None else _with_thousands(number, 2, sign=True)


def price(value: Number | None) -> str:
    """Return a price with the decimal places it has, four at least, such as 68.0210 or 1.07083."""
    number = exact_decimal(value)
    if number is None:
        return UNKNOWN
    exponent = number.as_tuple().exponent
    return _with_thousands(number, max(4, -exponent if isinstance(exponent, int) else 0))


def quantity(value: Number | None) -> str:
    """Return a quantity, such as 150; a fraction has four decimal places, such as 0.2500."""
    number = exact_decimal(value)
    if number is None:
        return UNKNOWN
    return _with_thousands(number, 0 if number == number.to_integral_value() else 4)


def percent(part: Number | None, base: Number | None) -> str:
    """Return `part` in per cent of `base`, such as +1.28 %; "" if one is unknown or base is 0."""
    part_number, base_number = exact_decimal(part), exact_decimal(base)
    if part_number is None or not base_number:
        return ""
    return f"{_with_thousands(100 * part_number / base_number, 2, sign=True)} %"


def direction(value: Number | None) -> str:
    """Return the CSS class `gain` or `loss` of an amount; "" for zero or unknown."""
    number = exact_decimal(value)
    if not number:
        return ""
    return "gain" if number > 0 else "loss"


def places(value: Number | None) -> str:
    """Return a load or capacity without trailing zeros, such as 5 or 2.5; – if unknown."""
    number = exact_decimal(value)
    if number is None:
        return UNKNOWN
    return f"{number.normalize():f}" if number else "0"


def pause(milliseconds: float | None) -> str:
    """Return a time as 18 ms; from a second on as 33.1 s; from 120 s on as `span`; – if unknown."""
    if milliseconds is None:
        return UNKNOWN
    if milliseconds < 999.5:  # from there on it would be rounded to 1000 ms
        digits = 1 if 0 < milliseconds < 0.95 else 0
        return _("%(number)s ms") % {"number": f"{milliseconds:.{digits}f}"}
    seconds = milliseconds / 1000
    return _("%(number)s s") % {"number": f"{seconds:.1f}"} if seconds < 120 else span(seconds)


def span(seconds: float | None) -> str:
    """Return a time in the coarsest unit precise enough: 0.6 s, 42 s, 23 min, 5 h or 3 d."""
    if seconds is None:
        return UNKNOWN
    if seconds < 120:
        return _("%(number)s s") % {"number": f"{seconds:.{1 if seconds < 10 else 0}f}"}
    if seconds < 7200:
        return _("%(number)s min") % {"number": f"{seconds / 60:.0f}"}
    if seconds < 172_800:
        return _("%(number)s h") % {"number": f"{seconds / 3600:.0f}"}
    return _("%(number)s d") % {"number": f"{seconds / 86_400:.0f}"}


def of_limit(seconds: float, limit_s: float) -> str:
    """Return a time and its limit, such as 1.3 of 5 s."""
    figures = {"elapsed": f"{max(seconds, 0):.1f}", "limit": f"{limit_s:.0f}"}
    return _("%(elapsed)s of %(limit)s s") % figures


#: Ends each time of a sentence: pages show other times in the viewer's zone.
ZONE = " UTC"


def clock(at: datetime | None) -> str:
    """Return the time of day, such as 14:05:12 UTC; – if unknown."""
    return UNKNOWN if at is None else at.astimezone(UTC).strftime("%H:%M:%S") + ZONE


def moment(at: datetime | None) -> str:
    """Return a time of day, such as 14:05:12 UTC, after its date unless today; – if unknown."""
    if at is None:
        return UNKNOWN
    at = at.astimezone(UTC)
    today = datetime.now(UTC).date()
    return at.strftime("%H:%M:%S" if at.date() == today else "%Y-%m-%d %H:%M:%S") + ZONE


def exact_moment(at: datetime | None) -> str:
    """Return date and time to the millisecond, such as 2026-03-02 14:05:12.123 UTC."""
    if at is None:
        return UNKNOWN
    text = at.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds")
    return text.removesuffix("+00:00") + ZONE


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Return the seconds from start to end, or None if either is unknown."""
    if start is None or end is None:
        return None
    return (end - start) / timedelta(seconds=1)


def value_text(value: Any) -> str:
    """Return a JSON value for display: a text without quotes, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def joined(parts: Iterable[str]) -> str:
    """Return the parts that are not empty, with commas of the active language between them."""
    return _(", ").join(part for part in parts if part)


def because(text: str, reason: str | None) -> str:
    """Return `text: reason`, or the text alone without a reason."""
    return f"{text}{_(': ')}{reason}" if reason else text
