"""Node status from its lease, storms and flapping."""

from __future__ import annotations

import pytest

from scheduling.decide.liveness import (
    LeasePolicy,
    LeaseView,
    flapping_until,
    is_storm,
    status_of,
)

POLICY = LeasePolicy(interval_s=10, ttl_s=30, storm_fraction=0.5)
HEARTBEAT = 1_000.0
LEASE = LeaseView(expires_at=HEARTBEAT + 30)


@pytest.mark.parametrize(
    ("after_s", "status"), [(0, "alive"), (19, "alive"), (20, "alive"), (21, "suspect")]
)
def test_node_is_suspect_after_two_intervals(after_s: float, status: str) -> None:
    assert status_of(LEASE, HEARTBEAT + after_s, POLICY) == status


def test_expired_but_unmarked_lease_is_suspect() -> None:
    assert status_of(LEASE, HEARTBEAT + 300, POLICY) == "suspect"


def test_shortened_lease_is_suspect() -> None:
    assert status_of(LeaseView(HEARTBEAT + 3), HEARTBEAT, POLICY) == "suspect"


def test_lost_and_left_take_precedence_over_times() -> None:
    assert status_of(LeaseView(HEARTBEAT + 30, marked_lost=True), HEARTBEAT, POLICY) == "lost"
    assert status_of(LeaseView(HEARTBEAT + 30, left=True), HEARTBEAT, POLICY) == "left"
    assert status_of(LeaseView(None), HEARTBEAT, POLICY) == "left"


@pytest.mark.parametrize(
    ("lost", "alive", "expected"),
    [
        ("ab", "abcd", True),  # two of four are half
        ("ab", "abcde", False),  # two of five are 40 %
        ("a", "ab", False),  # one is no storm, though it is half
        ("xy", "abcd", False),  # they were not alive one TTL ago
        ("abc", "abc", True),
        ("", "", False),
    ],
)
def test_a_storm_is_two_or_more_and_at_least_half(lost: str, alive: str, expected: bool) -> None:
    assert is_storm(lost, alive, 0.5) is expected


def test_flapping_lasts_three_heartbeats_and_doubles_per_further_loss() -> None:
    assert flapping_until([900], 1_000, POLICY) is None
    assert flapping_until([399, 900], 1_000, POLICY) is None  # the first is 601 s ago
    assert flapping_until([500, 900], 1_000, POLICY) == 1_030
    assert flapping_until([500, 700, 900], 1_000, POLICY) == 1_060
    assert flapping_until([500, 600, 700, 900], 1_000, POLICY) == 1_120
