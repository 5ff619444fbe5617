"""Error messages for parameter values, in terms of the input instead of Python types."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from typing import Any

from portfolios.sentences import Sentence, short_repr
from portfolios.sentences import sentence as _

#: What a value should be, by the type in the message of msgspec.
KINDS = {
    "int": _("a whole number"),
    "float": _("a number"),
    "decimal": _("a decimal number"),
    "str": _("a text"),
    "bool": _("true or false"),
    "array": _("a list"),
    "object": _("an object"),
    "null": "null",
}
#: The bound of a number in words, by the operator in the message of msgspec.
BOUNDS = {
    ">=": lambda limit: _("{limit} or more", limit=limit),
    ">": lambda limit: _("over {limit}", limit=limit),
    "<=": lambda limit: _("{limit} or less", limit=limit),
    "<": lambda limit: _("under {limit}", limit=limit),
}
NOT_A_DECIMAL = "Invalid decimal string"  #: a message of msgspec

_EXPECTED = re.compile(r"Expected `([\w| ]+)`(?:, got `\w+`| (>=|>|<=|<) ([-\d.]+))")


def sentence_of_decoder(name: str, message: str, value: Any) -> str:
    """Return as a sentence what msgspec's `message` says of the value of parameter `name`."""
    expected = _EXPECTED.fullmatch(message)
    if expected is not None:
        kinds, bound, limit = expected.groups()
        limits = BOUNDS[bound](limit.removesuffix(".0")) if bound else None
        return wrong_value(
            name, value, [KINDS.get(kind, kind) for kind in kinds.split(" | ")], limits
        )
    if message == NOT_A_DECIMAL:
        return wrong_value(name, value, [KINDS["decimal"]])
    return f"{name} {message.replace('`', '')}."


def wrong_value(name: str, value: Any, kinds: Sequence[str], limits: str | None = None) -> Sentence:
    """Return a sentence such as "fast is 0; give a whole number, 1 or more."."""
    wanted = reduce(lambda one, other: _("{one} or {other}", one=one, other=other), kinds)
    if limits:
        return _(
            "{name} is {value}; give {wanted}, {limits}.",
            name=name,
            value=short_repr(value),
            wanted=wanted,
            limits=limits,
        )
    return _("{name} is {value}; give {wanted}.", name=name, value=short_repr(value), wanted=wanted)
