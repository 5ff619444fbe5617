"""The number of examples that a property test draws."""

from __future__ import annotations

import os

#: What `number` is divided by, by profile. Without one, the examples are the same every time.
_DIVISORS = {"explore": 1, "fast": 10}


def examples(number: int) -> int:
    """Return how many examples to draw, four at least.

    `number` with HYPOTHESIS_PROFILE=explore, a quarter in `bin/test`, a tenth in
    `bin/test --fast`.
    """
    return max(4, number // _DIVISORS.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 4))
