"""delete and stop before failover before the rest; equals never end equals."""

from __future__ import annotations

import pytest

from scheduling.decide.precedence import RANK, outranks
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
def test_only_what_stands_higher_ends_what_is_under_way(new: str, active: str) -> None:
    assert outranks(new, active) is ((new, active) in HIGHER)


def test_every_kind_has_a_rank() -> None:
    assert set(RANK) == set(HandoffKind.values)
