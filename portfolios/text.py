"""Validate and escape text.

Control characters break a page, a log line or a terminal; bidirectional characters make a text look
like another one. They are refused in input, and escaped when text of others is shown.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

from portfolios.sentences import sentence as _

#: C0 and C1 controls, line and paragraph separators, bidirectional marks and overrides, the byte
#: order mark, and halves of surrogate pairs.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def escape_unprintable(text: str) -> str:
    """Return `text` with every unprintable character as its escape, such as `\\n` or `\\u202e`."""
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def escape_lines(text: str) -> str:
    """Return `text` escaped except for line breaks and tabs, for a terminal."""
    return UNPRINTABLE.sub(
        lambda found: found[0] if found[0] in "\n\t" else ascii(found[0])[1:-1], text
    )


def escape_json(text: str) -> str:
    """Return a JSON document with all unprintable characters escaped, except for line breaks."""
    return UNPRINTABLE.sub(
        lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text
    )


def quoted(value: Any, longest: int = 80) -> str:
    """Return a value in quotes for an error message: escaped, at most `longest` characters."""
    text = str(value)
    return f"'{escape_unprintable(text[:longest])}{'…' if len(text) > longest else ''}'"


def unprintable_in(value: Any) -> str:
    """Return the first unprintable character of a text or JSON value; "" if there is none."""
    if isinstance(value, str):
        found = UNPRINTABLE.search(value)
        return found[0] if found else ""
    if isinstance(value, dict):
        inner: Any = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        inner = value
    else:
        return ""
    return next(filter(None, map(unprintable_in, inner)), "")


def text_errors(field: str, value: Any, *, longest: int) -> list[dict[str, str]]:
    """Return the errors of a text, as entries of a problem document's `errors`."""
    if not isinstance(value, str):
        return [
            error(
                field,
                "wrong_type",
                _("{field} is {value}; give a text.", field=field, value=quoted(value)),
            )
        ]
    if len(value) > longest:
        message = _(
            "{field} has {number:,} characters; give {longest} at most.",
            field=field,
            number=len(value),
            longest=longest,
        )
        return [error(field, "max_length", message)]
    return unprintable_errors(field, value)


def unprintable_errors(field: str, value: Any) -> list[dict[str, str]]:
    """Return an error if a text, or any text within a JSON value, has an unprintable character."""
    found = unprintable_in(value)
    if not found:
        return []
    message = _(
        "{field} has the character U+{found:04X}, which is a control or "
        "bidirectional character: leave it out.",
        field=field,
        found=ord(found),
    )
    return [error(field, "unprintable", message)]


def error(field: str, code: str, message: str) -> dict[str, str]:
    """Return one entry of a problem document's `errors`."""
    return {"field": field, "code": code, "message": message}


def exact_decimal(value: Any) -> Decimal | None:
    """Return a number, or a text of ASCII digits, as a finite Decimal; None if it is neither.

    Decimal itself also accepts the digits of every other script.
    """
    if isinstance(value, bool) or (isinstance(value, str) and not value.isascii()):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
