"""What a fault waits for does not hold before anything has happened, and what it holds goes on."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import psutil
import pytest

from chaos.faults.daemons import taken_over
from chaos.fleet import RunNow, frozen

OLD = RunNow("ibm-sma", "node-1", "a", 3, 1, 100, "running", "", None)
OTHER = RunNow("ge-sma", "node-2", "b", 5, 1, 100, "running", "", None)


def test_a_dead_owner_that_nobody_has_noticed_yet_was_not_taken_over_from() -> None:
    assert not taken_over([OLD], {"ibm-sma": OLD, "ge-sma": OTHER})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"node": "node-2", "incarnation": "b", "epoch": 4}, True),
        ({"incarnation": "c", "epoch": 4}, True),  # the same name, started again
        ({"node": "node-2", "incarnation": "b", "epoch": 4, "phase": "starting"}, False),
        ({"node": None, "incarnation": None, "phase": "pending"}, False),
        ({"node": None, "incarnation": None, "phase": "pending", "reason": "no room"}, True),
    ],
)
def test_it_was_taken_over_when_another_owner_runs_it_or_a_reason_is_given(
    changes: dict, expected: bool
) -> None:
    assert taken_over([OLD], {"ibm-sma": replace(OLD, **changes)}) is expected


def test_one_that_is_gone_need_not_be_taken_over() -> None:
    assert taken_over([OLD], {"ge-sma": OTHER})


def test_who_is_held_goes_on_where_another_one_was_gone_already() -> None:
    living, gone = (
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
    )
    held = [psutil.Process(living.pid), psutil.Process(gone.pid)]
    try:
        gone.communicate()
        with pytest.raises(psutil.NoSuchProcess), frozen(held):
            pass
        assert living.communicate(b"here", timeout=5) == (b"here", None)
    finally:
        living.kill()
        living.wait()
