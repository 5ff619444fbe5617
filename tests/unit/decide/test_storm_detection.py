"""Detection of storms, and of situations in doubt."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.decide.liveness import LeasePolicy, NodeHistory, assess_losses

POLICY = LeasePolicy(interval_s=10, ttl_s=30, storm_fraction=0.5)
NOW = 10_000.0


def lost(name: str, ago_s: float = 1, **given: Any) -> NodeHistory:
    return NodeHistory(name, "lost", NOW - ago_s, **given)


def steady(*names: str, status: Any = "alive") -> list[NodeHistory]:
    return [NodeHistory(name, status, NOW - 5_000) for name in names]


def test_two_of_four_lost_within_one_ttl_are_a_storm() -> None:
    found = assess_losses([lost("a"), lost("b", 29), *steady("c", "d")], NOW, None, POLICY)
    assert (found.storm, found.gone, found.of) == (True, ("a", "b"), 4)


def test_two_of_five_and_one_of_two_are_not_a_storm() -> None:
    assert not assess_losses(
        [lost("a"), lost("b"), *steady("c", "d", "e")], NOW, None, POLICY
    ).storm
    assert not assess_losses([lost("a"), *steady("b")], NOW, None, POLICY).storm


def test_losses_more_than_one_ttl_apart_are_not_a_storm() -> None:
    assert not assess_losses([lost("a", 31), lost("b"), *steady("c")], NOW, None, POLICY).storm


def test_losses_of_the_last_storm_do_not_count_again() -> None:
    nodes = [lost("a", 20), lost("b", 12), *steady("c")]
    assert not assess_losses(nodes, NOW, NOW - 10, POLICY).storm
    assert assess_losses([lost("a", 9), lost("b", 8), *steady("c")], NOW, NOW - 10, POLICY).storm


def test_hold_end_in_the_future_hides_no_losses() -> None:
    assert assess_losses([lost("a"), lost("b"), *steady("c")], NOW, NOW + 50, POLICY).storm


@pytest.mark.parametrize(
    ("other", "of"),
    [
        (NodeHistory("x", "alive", NOW - 5), 3),  # it joined 5 s ago
        (NodeHistory("x", "alive", NOW - 5, lost_at=(NOW - 20,)), 4),  # lost and back since
        (NodeHistory("x", "left", NOW - 5), 4),  # it was alive, and left since
        (NodeHistory("x", "left", NOW - 500), 3),
        (NodeHistory("x", "lost", NOW - 500), 3),
    ],
)
def test_nodes_alive_one_ttl_ago_count(other: NodeHistory, of: int) -> None:
    assert assess_losses([lost("a"), *steady("b", "c"), other], NOW, None, POLICY).of == of


def test_late_nodes_beside_a_lost_one_leave_a_storm_in_doubt() -> None:
    late = steady("b", status="suspect")
    found = assess_losses([lost("a"), *late, *steady("c")], NOW, None, POLICY)
    assert (found.storm, found.doubtful, found.late) == (False, True, ("b",))
    assert not assess_losses([lost("a"), *steady("b", "c")], NOW, None, POLICY).doubtful
    # Late nodes alone do not count, and one lost with one late of five would be no storm.
    assert not assess_losses([*steady("a", "b", status="suspect")], NOW, None, POLICY).doubtful
    assert not assess_losses([lost("a"), *late, *steady("c", "d", "e")], NOW, None, POLICY).doubtful
