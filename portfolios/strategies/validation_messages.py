"""Error messages for parameter values, in terms of the input instead of Python types."""

from __future__ import annotations

import re
from typing import Any

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "decimal": "a decimal number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
BOUNDS = {">=": "{} or more", ">": "over {}", "<=": "{} or less", "<": "under {}"}
NOT_A_DECIMAL = "Invalid decimal string"

_EXPECTED = re.compile(r"Expected `([\w| ]+)`(?:, got `\w+`| (>=|>|<=|<) ([-\d.]+))")


def describe(message: str, value: Any) -> str:
    """Translate a decoder message about `value`. An unknown message is returned as it is."""
    found = repr(value)
    shown = found if len(found) <= 40 else found[:37] + "…"
    expected = _EXPECTED.fullmatch(message)
    if expected is None:
        wanted = "a decimal number" if message == NOT_A_DECIMAL else ""
        return f"is {shown}; give {wanted}" if wanted else message.replace("`", "")
    kinds, bound, limit = expected.groups()
    wanted = " or ".join(KINDS.get(kind, kind) for kind in kinds.split(" | "))
    if bound:
        wanted += ", " + BOUNDS[bound].format(limit.removesuffix(".0"))
    return f"is {shown}; give {wanted}"
