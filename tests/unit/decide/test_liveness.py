"""When a node is late, when it is lost, and when nobody may say so."""

from __future__ import annotations

import pytest

from scheduling.decide.liveness import (
    LeasePolicy,
    LeaseView,
    flapping_until,
    is_lost,
    is_storm,
    judgeable,
    status_of,
)

POLICY = LeasePolicy(interval_s=10, ttl_s=30)
BEAT = 1_000.0
LEASE = LeaseView(expires_at=BEAT + 30, renewed_at=BEAT)
LONG_AGO = 0.0


@pytest.mark.parametrize(
    ("after_s", "status"), [(0, "alive"), (19, "alive"), (20, "alive"), (21, "suspect")]
)
def test_a_node_is_suspect_once_two_intervals_went_by(after_s: float, status: str) -> None:
    assert status_of(LEASE, BEAT + after_s, POLICY) == status


def test_29_seconds_is_alive_and_30_is_lost() -> None:
    assert not is_lost(LEASE, LONG_AGO, BEAT + 29, POLICY)
    assert is_lost(LEASE, LONG_AGO, BEAT + 30, POLICY)


def test_an_expired_lease_nobody_marked_is_suspect_and_not_lost() -> None:
    assert status_of(LEASE, BEAT + 300, POLICY) == "suspect"


def test_a_shortened_lease_is_suspicion() -> None:
    assert status_of(LeaseView(BEAT + 3, BEAT), BEAT, POLICY) == "suspect"


def test_marked_left_and_never_registered_are_said_before_any_figure() -> None:
    assert status_of(LeaseView(BEAT + 30, BEAT, marked_lost=True), BEAT, POLICY) == "lost"
    assert status_of(LeaseView(BEAT + 30, BEAT, left=True), BEAT, POLICY) == "left"
    assert status_of(LeaseView(None), BEAT, POLICY) == "left"
    assert not is_lost(LeaseView(BEAT, BEAT, left=True), LONG_AGO, BEAT + 99, POLICY)
    assert not is_lost(LeaseView(None), LONG_AGO, BEAT, POLICY)


def test_nobody_is_lost_until_we_have_served_for_longer_than_one_ttl() -> None:
    # We were away from 1,005 to 1,100; the lease ran out at 1,030 through no fault of the node.
    assert not is_lost(LEASE, 1_100, 1_101, POLICY)
    assert not is_lost(LEASE, 1_100, 1_130, POLICY)
    assert is_lost(LEASE, 1_100, 1_131, POLICY)


def test_one_that_reached_us_since_and_then_stopped_is_judged_at_once() -> None:
    # Served since 990, beat at 1,000, socket closed: lease shortened to 1,006.
    shortened = LeaseView(expires_at=1_006, renewed_at=BEAT)
    assert is_lost(shortened, 990, 1_006, POLICY)


def test_nothing_is_judged_before_anything_was_served() -> None:
    assert not judgeable(None, LEASE, BEAT + 1_000, 30)


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


def test_two_losses_in_ten_minutes_cost_three_beats_and_each_further_one_doubles_it() -> None:
    assert flapping_until([900], 1_000, POLICY) is None
    assert flapping_until([399, 900], 1_000, POLICY) is None  # the first is 601 s ago
    assert flapping_until([500, 900], 1_000, POLICY) == 1_030
    assert flapping_until([500, 700, 900], 1_000, POLICY) == 1_060
    assert flapping_until([500, 600, 700, 900], 1_000, POLICY) == 1_120
