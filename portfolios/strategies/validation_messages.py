"""What is wrong with a value, in the words of the person who typed it."""

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


def describe(said: str, value: Any) -> str:
    """Return the sentence for what the decoder `said` of `value`; what is not known, as it is."""
    found = repr(value)
    shown = found if len(found) <= 40 else found[:37] + "…"
    expected = _EXPECTED.fullmatch(said)
    if expected is None:
        wanted = "a decimal number" if said == NOT_A_DECIMAL else ""
        return f"is {shown}; give {wanted}" if wanted else said.replace("`", "")
    kinds, bound, limit = expected.groups()
    wanted = " or ".join(KINDS.get(kind, kind) for kind in kinds.split(" | "))
    if bound:
        wanted += ", " + BOUNDS[bound].format(limit.removesuffix(".0"))
    return f"is {shown}; give {wanted}"
