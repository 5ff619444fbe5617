"""Schedules of the queue start a task once in each interval."""

from __future__ import annotations

import pytest
from croniter import croniter

from scheduling.apps import cron


@pytest.mark.parametrize("interval_s", [1, 10, 30, 60, 300, 1800, 3600, 7200, 43_200, 86_400])
def test_cron_line_starts_a_task_once_in_each_interval(interval_s: int) -> None:
    starts = croniter(cron(interval_s), 0.0)
    first, *others = (starts.get_next() for _ in range(4))
    assert others == [first + n * interval_s for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("interval_s", "even"), [(45, 30), (2_400, 1_800), (18_000, 14_400), (82_800, 43_200)]
)
def test_interval_that_divides_no_larger_unit_is_shortened_to_one_that_does(
    interval_s: int, even: int
) -> None:
    assert cron(interval_s) == cron(even)
