"""A candidate pool stays sorted while loads change."""

from __future__ import annotations

from scheduling.decide.planner.candidate_pool import CandidatePool


def test_candidate_pool_reorders_a_node_whose_load_has_risen() -> None:
    load = [0.0, 1.0]
    pool = CandidatePool([0, 1], [5, 5], load, load)
    assert pool.best(1) == 0
    load[0] = 2
    assert (pool.best(1), pool.lowest_relative_load()) == (1, 0.2)
