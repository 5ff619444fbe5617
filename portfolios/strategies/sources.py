"""The sources of strategies from outside: an entry point group and an environment variable."""

from __future__ import annotations

import os

ENTRY_POINT_GROUP = "ginkgo.strategies"
MODULES_VARIABLE = "GINKGO_STRATEGIES"


def configured_modules() -> list[str]:
    """Return the modules named by the environment variable, in its order."""
    return [
        name for part in os.environ.get(MODULES_VARIABLE, "").split(",") if (name := part.strip())
    ]
