"""Stop outranks failover, failover outranks the rest, and equal ranks never end each other."""

from __future__ import annotations

import pytest

from scheduling.decide.precedence import outranks
from scheduling.models import HandoffKind

HIGHER = {
    *(("stop", lower) for lower in ("failover", "place", "migrate", "reload")),
    *(("failover", lower) for lower in ("place", "migrate", "reload")),
}


@pytest.mark.parametrize("new", HandoffKind.values)
@pytest.mark.parametrize("active", HandoffKind.values)
def test_a_handoff_supersedes_only_those_of_lower_rank(new: str, active: str) -> None:
    assert outranks(new, active) is ((new, active) in HIGHER)
