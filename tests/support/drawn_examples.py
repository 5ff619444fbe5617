"""The number of examples that a property test draws."""

from __future__ import annotations

import os

#: What `number` is divided by, by profile. Without one, the examples are the same every time.
_DIVISORS = {"explore": 1, "fast": 10}


def examples(number: int) -> int:
    """Return `number` where new examples are drawn (HYPOTHESIS_PROFILE=explore), a quarter of it in
    `bin/test`, and a tenth in `bin/test --fast`; four at least."""
    return max(4, number // _DIVISORS.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 4))
