"""When so many nodes went at once that it is a storm, and when that is still in doubt."""

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
    seen = assess_losses([lost("a"), lost("b", 29), *steady("c", "d")], NOW, None, POLICY)
    assert (seen.storm, seen.gone, seen.of) == (True, ("a", "b"), 4)


def test_two_of_five_are_none_and_neither_is_one_of_two() -> None:
    assert not assess_losses(
        [lost("a"), lost("b"), *steady("c", "d", "e")], NOW, None, POLICY
    ).storm
    assert not assess_losses([lost("a"), *steady("b")], NOW, None, POLICY).storm


def test_losses_further_apart_than_one_ttl_are_none() -> None:
    assert not assess_losses([lost("a", 31), lost("b"), *steady("c")], NOW, None, POLICY).storm


def test_the_losses_of_the_last_storm_make_no_further_one() -> None:
    nodes = [lost("a", 20), lost("b", 12), *steady("c")]
    assert not assess_losses(nodes, NOW, NOW - 10, POLICY).storm
    assert assess_losses([lost("a", 9), lost("b", 8), *steady("c")], NOW, NOW - 10, POLICY).storm


def test_the_end_of_a_hold_that_a_clock_put_ahead_hides_nothing() -> None:
    assert assess_losses([lost("a"), lost("b"), *steady("c")], NOW, NOW + 50, POLICY).storm


@pytest.mark.parametrize(
    ("other", "of"),
    [
        (NodeHistory("x", "alive", NOW - 5), 3),  # it joined 5 s ago
        (NodeHistory("x", "alive", NOW - 5, lost_at=(NOW - 20,)), 4),  # lost and back since
        (NodeHistory("x", "left", NOW - 5), 4),  # it was there, and said goodbye since
        (NodeHistory("x", "left", NOW - 500), 3),
        (NodeHistory("x", "lost", NOW - 500), 3),
    ],
)
def test_those_count_that_were_alive_one_ttl_ago(other: NodeHistory, of: int) -> None:
    assert assess_losses([lost("a"), *steady("b", "c"), other], NOW, None, POLICY).of == of


def test_late_ones_beside_a_lost_one_leave_it_in_doubt_until_they_are_decided() -> None:
    late = steady("b", status="suspect")
    seen = assess_losses([lost("a"), *late, *steady("c")], NOW, None, POLICY)
    assert (seen.storm, seen.doubtful, seen.late) == (False, True, ("b",))
    assert not assess_losses([lost("a"), *steady("b", "c")], NOW, None, POLICY).doubtful
    # Late ones alone say nothing, and one lost with one late of five would be no storm.
    assert not assess_losses([*steady("a", "b", status="suspect")], NOW, None, POLICY).doubtful
    assert not assess_losses([lost("a"), *late, *steady("c", "d", "e")], NOW, None, POLICY).doubtful
