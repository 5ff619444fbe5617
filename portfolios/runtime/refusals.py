"""Record a refusal once for each (symbol, side), and again when its reason changes.

A strategy that orders at every event what its limits forbid would write 2.5 million orders a day.
The rule depends on the decisions alone, and the remembered refusals are part of the account: the
same refusals are recorded however a run is divided into batches, and by a verification.
"""

from __future__ import annotations

import re

#: Numbers are removed from reasons: needing 101 and needing 102 of cash is one reason.
_FIGURES = re.compile(r"-?\d+(?:\.\d+)?")
#: A strategy may invent symbols: the oldest entry is dropped, so that the state stays small.
MAX_REMEMBERED = 1_000


def remember_refusal(remembered: dict[str, str], symbol: str, side: str, reason: str) -> bool:
    """Remember a refusal. Return whether it is new, so that it has to be recorded."""
    key, without_figures = f"{side} {symbol}", _FIGURES.sub("", reason)
    if remembered.get(key) == without_figures:
        return False
    if key not in remembered and len(remembered) >= MAX_REMEMBERED:
        del remembered[next(iter(remembered))]  # the oldest
    remembered[key] = without_figures
    return True


def forget_refusal(remembered: dict[str, str], symbol: str, side: str) -> None:
    """Forget the refusal, since an order was placed: the next refusal is recorded again."""
    if remembered:
        remembered.pop(f"{side} {symbol}", None)
