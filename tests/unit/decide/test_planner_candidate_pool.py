"""Nodes in order of load stay in order while loads go up and down."""

from __future__ import annotations

from scheduling.decide.planner.candidate_pool import CandidatePool


def test_a_load_that_rose_is_sorted_in_again() -> None:
    load = [0.0, 1.0]
    pool = CandidatePool([0, 1], [5, 5], load, load)
    assert pool.best(1) == 0
    load[0] = 2
    assert (pool.best(1), pool.lowest_relative_load()) == (1, 0.2)


def test_a_load_that_fell_is_seen_once_it_is_noted() -> None:
    load = [3.0, 2.0]
    pool = CandidatePool([0, 1], [5, 5], load, [0, 0])
    assert pool.best(1) == 1
    load[0] = 1
    pool.load_decreased(0)
    assert (pool.best(1), pool.lowest_relative_load()) == (0, 0.2)


def test_a_node_passed_over_once_is_there_the_next_time() -> None:
    load = [0.0, 1.0]
    pool = CandidatePool([0, 1], [5, 5], load, load)
    assert [pool.best(1, avoid={0}), pool.best(1)] == [1, 0]


def test_none_fits_is_none_and_a_lighter_one_still_fits() -> None:
    load = [4.0, 3.0]
    pool = CandidatePool([0, 1], [5, 5], load, load)
    assert [pool.best(3), pool.best(2), pool.best(1)] == [None, 1, 1]


def test_a_bigger_node_with_more_on_it_can_be_the_emptier_one() -> None:
    # With it: (1 + 1) / 2 = 1.0 against (4 + 1) / 10 = 0.5.
    load = [1.0, 4.0]
    assert CandidatePool([0, 1], [2, 10], load, load).best(1) == 1


def test_only_nodes_at_or_below_a_limit_are_asked() -> None:
    load = [3.0, 4.0]
    pool = CandidatePool([0, 1], [10, 10], load, load)
    assert [pool.best(1, below=0.2), pool.best(1, below=0.3)] == [None, 0]
