"""Which refusals are recorded: one for each (symbol, side), and again when its reason changes.

A strategy that asks at every event for what its limits forbid would write 2.5 million orders a day.
The rule is a function of the decisions alone, and what it remembers belongs to the account: however
a run is cut, the same refusals are recorded, and a verification records the same ones.
"""

from __future__ import annotations

import re
from typing import Literal

#: A reason without its figures: needing 101 and needing 102 of cash is one reason.
_FIGURES = re.compile(r"-?\d+(?:\.\d+)?")
#: A strategy may invent symbols. The oldest is forgotten, so that the state stays small.
MAX_REMEMBERED = 1_000


def key_of(symbol: str, side: Literal["buy", "sell"] | str) -> str:
    """Return the key of a remembered refusal."""
    return f"{side} {symbol}"


def is_new_refusal(remembered: dict[str, str], symbol: str, side: str, reason: str) -> bool:
    """Return whether a refusal has to be recorded, and remember it."""
    key, without_figures = key_of(symbol, side), _FIGURES.sub("", reason)
    if remembered.get(key) == without_figures:
        return False
    if key not in remembered and len(remembered) >= MAX_REMEMBERED:
        del remembered[next(iter(remembered))]
    remembered[key] = without_figures
    return True


def forget_refusal(remembered: dict[str, str], symbol: str, side: str) -> None:
    """Forget the refusal of what was placed now: the next one is news again."""
    if remembered:
        remembered.pop(key_of(symbol, side), None)
