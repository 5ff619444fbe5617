"""A candidate pool stays sorted while loads change."""

from __future__ import annotations

from scheduling.decide.planner.candidate_pool import CandidatePool


def test_risen_load_is_sorted_in_again() -> None:
    load = [0.0, 1.0]
    pool = CandidatePool([0, 1], [5, 5], load, load)
    assert pool.best(1) == 0
    load[0] = 2
    assert (pool.best(1), pool.lowest_relative_load()) == (1, 0.2)


def test_fallen_load_counts_once_recorded() -> None:
    load = [3.0, 2.0]
    pool = CandidatePool([0, 1], [5, 5], load, [0, 0])
    assert pool.best(1) == 1
    load[0] = 1
    pool.load_decreased(0)
    assert (pool.best(1), pool.lowest_relative_load()) == (0, 0.2)


def test_avoided_node_stays_in_the_pool() -> None:
    load = [0.0, 1.0]
    pool = CandidatePool([0, 1], [5, 5], load, load)
    assert [pool.best(1, avoid={0}), pool.best(1)] == [1, 0]


def test_best_is_none_if_nothing_fits() -> None:
    load = [4.0, 3.0]
    pool = CandidatePool([0, 1], [5, 5], load, load)
    assert [pool.best(3), pool.best(2), pool.best(1)] == [None, 1, 1]


def test_best_compares_relative_loads() -> None:
    # With the portfolio: (1 + 1) / 2 = 1.0 against (4 + 1) / 10 = 0.5.
    load = [1.0, 4.0]
    assert CandidatePool([0, 1], [2, 10], load, load).best(1) == 1


def test_below_limits_the_candidates() -> None:
    load = [3.0, 4.0]
    pool = CandidatePool([0, 1], [10, 10], load, load)
    assert [pool.best(1, below=0.2), pool.best(1, below=0.3)] == [None, 0]
