"""Which strategies there are: built-ins, entry points, and modules named by GINKGO_STRATEGIES.

Entry points are of group `ginkgo.strategies`, their name the strategy's. GINKGO_STRATEGIES is a comma
list of dotted module names. Built-ins come first and import nothing from outside.
"""

from __future__ import annotations

from portfolios.strategies.base import Strategy

ENTRY_POINT_GROUP = "ginkgo.strategies"
MODULES_VARIABLE = "GINKGO_STRATEGIES"


class UnknownStrategy(LookupError):
    """No strategy has that name."""


def get(name: str) -> type[Strategy]:
    """Return the strategy class. Raise UnknownStrategy naming it and those known."""
    raise NotImplementedError


def names() -> list[str]:
    """Return every name `get` accepts, sorted."""
    return sorted(versions())


def versions() -> dict[str, int]:
    """Return name → version of every strategy that can be loaded. Imports those from outside."""
    raise NotImplementedError


def problems() -> list[str]:
    """Return a sentence for each module or entry point that cannot be loaded."""
    raise NotImplementedError
