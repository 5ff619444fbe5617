"""Node status from its lease, flapping, storms, and situations in doubt."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.decide.liveness import (
    LeasePolicy,
    LeaseView,
    NodeHistory,
    assess_losses,
    flapping_until,
    is_storm,
    status_of,
)

POLICY = LeasePolicy(interval_s=10, ttl_s=30, storm_fraction=0.5)
HEARTBEAT = 1_000.0


@pytest.mark.parametrize(
    ("after_s", "status"),
    [(0, "alive"), (19, "alive"), (20, "alive"), (21, "suspect"), (300, "suspect")],
)  # 300: expired, and not marked yet
def test_node_is_suspect_after_two_intervals(after_s: float, status: str) -> None:
    assert status_of(LeaseView(HEARTBEAT + 30), HEARTBEAT + after_s, POLICY) == status


def test_node_marked_lost_or_left_has_that_status_whatever_its_lease() -> None:
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
def test_storm_is_the_loss_of_at_least_two_and_at_least_half_of_the_nodes(
    lost: str, alive: str, expected: bool
) -> None:
    assert is_storm(lost, alive, 0.5) is expected


def test_flapping_lasts_three_heartbeats_and_doubles_per_further_loss() -> None:
    assert flapping_until([900], 1_000, POLICY) is None
    assert flapping_until([399, 900], 1_000, POLICY) is None  # the first is 601 s ago
    assert flapping_until([500, 900], 1_000, POLICY) == 1_030
    assert flapping_until([500, 700, 900], 1_000, POLICY) == 1_060
    assert flapping_until([500, 600, 700, 900], 1_000, POLICY) == 1_120


NOW = 10_000.0


def lost_node(name: str, ago_s: float = 1, **given: Any) -> NodeHistory:
    return NodeHistory(name, "lost", NOW - ago_s, **given)


def steady(*names: str, status: Any = "alive") -> list[NodeHistory]:
    return [NodeHistory(name, status, NOW - 5_000) for name in names]


def test_two_of_four_lost_within_one_ttl_are_a_storm() -> None:
    found = assess_losses(
        [lost_node("a"), lost_node("b", 29), *steady("c", "d")], NOW, None, POLICY
    )
    assert (found.storm, found.gone, found.alive_before) == (True, ("a", "b"), 4)
    fewer_than_half = [lost_node("a"), lost_node("b"), *steady("c", "d", "e")]
    assert not assess_losses(fewer_than_half, NOW, None, POLICY).storm


@pytest.mark.parametrize(
    ("lost_ago_s", "hold_ended_at", "storm"),
    [
        ((31, 1), None, False),  # more than one TTL apart
        ((20, 12), NOW - 10, False),  # of the last storm
        ((9, 8), NOW - 10, True),
        ((1, 1), NOW + 50, True),  # an end in the future hides no losses
    ],
)
def test_only_losses_within_one_ttl_and_after_the_last_hold_count_as_a_storm(
    lost_ago_s: tuple[float, float], hold_ended_at: float | None, storm: bool
) -> None:
    nodes = [lost_node("a", lost_ago_s[0]), lost_node("b", lost_ago_s[1]), *steady("c")]
    assert assess_losses(nodes, NOW, hold_ended_at, POLICY).storm is storm


@pytest.mark.parametrize(
    ("other", "alive_before"),
    [
        (NodeHistory("x", "alive", NOW - 5), 3),  # it joined 5 s ago
        (NodeHistory("x", "alive", NOW - 5, lost_at=(NOW - 20,)), 4),  # lost and back since
        (NodeHistory("x", "left", NOW - 5), 4),  # it was alive, and left since
        (NodeHistory("x", "left", NOW - 500), 3),
        (NodeHistory("x", "lost", NOW - 500), 3),
    ],
)
def test_storm_fraction_counts_nodes_alive_one_ttl_ago(
    other: NodeHistory, alive_before: int
) -> None:
    found = assess_losses([lost_node("a"), *steady("b", "c"), other], NOW, None, POLICY)
    assert found.alive_before == alive_before


def test_late_nodes_beside_a_lost_one_leave_a_storm_in_doubt() -> None:
    late = steady("b", status="suspect")
    found = assess_losses([lost_node("a"), *late, *steady("c")], NOW, None, POLICY)
    assert (found.storm, found.doubtful, found.late) == (False, True, ("b",))
    assert not assess_losses([lost_node("a"), *steady("b", "c")], NOW, None, POLICY).doubtful
    # Late nodes alone do not count, and one lost with one late of five would be no storm.
    assert not assess_losses([*steady("a", "b", status="suspect")], NOW, None, POLICY).doubtful
    assert not assess_losses(
        [lost_node("a"), *late, *steady("c", "d", "e")], NOW, None, POLICY
    ).doubtful
