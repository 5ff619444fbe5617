"""The schedule of a chaos run, determined by its seed."""

from __future__ import annotations

from collections import Counter

from chaos.faults.registry import FAULTS
from chaos.runner.schedule import PlannedFault, schedule

PLANNED = [fault.planned for fault in FAULTS.values()]
ALONE = {fault.name for fault in PLANNED if fault.alone}
LOAD = {fault.name for fault in PLANNED if fault.is_load}


def test_the_schedule_depends_on_the_seed_and_not_on_the_order_of_faults() -> None:
    assert schedule(7, 30, PLANNED) == schedule(7, 30, list(reversed(PLANNED)))
    assert schedule(7, 30, PLANNED) != schedule(8, 30, PLANNED)


def test_a_schedule_is_the_same_in_every_python_version() -> None:
    first = schedule(7, 1, [*map(PlannedFault, "abc"), PlannedFault("d", is_load=True)])
    assert [(step.faults, step.seed) for step in first[:4]] == [
        (("c",), 441272964),
        (("d",), 4214915865),
        (("a",), 3947476269),
        (("d",), 2009035746),
    ]


def test_a_longer_schedule_begins_with_the_shorter_one() -> None:
    short, long = schedule(7, 5, PLANNED), schedule(7, 60, PLANNED)
    assert long[: len(short)] == short
    assert len(long) > len(short)


def test_each_round_has_every_fault_once() -> None:
    done = [name for step in schedule(3, 60, PLANNED) for name in step.faults if name not in LOAD]
    rounds = len(FAULTS) - len(LOAD)
    assert set(Counter(done[:rounds]).values()) == {1}
    assert set(Counter(done[rounds : 2 * rounds]).values()) == {1}


def test_faults_that_must_run_alone_are_never_paired() -> None:
    pairs = [step.faults for step in schedule(3, 120, PLANNED) if len(step.faults) == 2]
    assert pairs
    assert not [pair for pair in pairs if set(pair) & (ALONE | LOAD)]


def test_schedule_of_a_single_fault_repeats_it_and_that_of_none_is_empty() -> None:
    assert schedule(1, 1, []) == []
    steps = schedule(1, 1, [PlannedFault("kill-web", 5)])
    assert {step.faults for step in steps} == {("kill-web",)}
    assert len(steps) > 5
    assert len({step.seed for step in steps}) == len(steps)
