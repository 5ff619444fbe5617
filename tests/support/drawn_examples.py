"""The number of examples that a property test draws."""

from __future__ import annotations

import os


def examples(number: int) -> int:
    """Return `number`, or a tenth of it for `bin/test --fast`."""
    return max(4, number // 10) if os.environ.get("HYPOTHESIS_PROFILE") == "fast" else number
