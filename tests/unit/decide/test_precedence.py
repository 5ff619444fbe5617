"""Stop outranks failover, failover outranks the rest, and equal ranks never end each other."""

from __future__ import annotations

import pytest

from scheduling.decide.precedence import outranks
from scheduling.models import HandoffKind

HIGHER = {
    ("stop", "failover"),
    ("stop", "place"),
    ("stop", "migrate"),
    ("stop", "reload"),
    ("failover", "place"),
    ("failover", "migrate"),
    ("failover", "reload"),
}


@pytest.mark.parametrize("new", HandoffKind.values)
@pytest.mark.parametrize("active", HandoffKind.values)
def test_only_higher_ranks_supersede(new: str, active: str) -> None:
    assert outranks(new, active) is ((new, active) in HIGHER)
