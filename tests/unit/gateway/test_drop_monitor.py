"""Detection of an overloaded gateway by its dropped heartbeats."""

from __future__ import annotations

import pytest

from scheduling.gateway.drop_monitor import DropMonitor


def drops(heard: int, dropped: int) -> DropMonitor:
    found = DropMonitor()
    found.stored_nodes.update(range(heard))
    found.dropped_nodes.update(range(1000, 1000 + dropped))
    return found


@pytest.mark.parametrize(
    ("heard", "dropped", "why"),
    [
        (0, 0, ""),
        (1000, 0, ""),
        (90, 10, ""),
        (89, 11, "the heartbeats of 11 of 100 nodes were dropped"),
        (0, 1, "the heartbeats of 1 of 1 nodes were dropped"),
    ],
)
def test_drop_of_heartbeats_of_over_a_tenth_of_the_nodes_is_overload(
    heard: int, dropped: int, why: str
) -> None:
    assert drops(heard, dropped).overload_reason() == why


def test_node_with_a_stored_heartbeat_is_not_counted_as_dropped() -> None:
    found = drops(3, 0)
    found.dropped_nodes.update(range(3))
    assert found.overload_reason() == ""


def test_counts_of_dropped_heartbeats_start_anew_with_each_pulse() -> None:
    found = drops(0, 5)
    assert found.overload_reason()
    assert found.overload_reason() == ""
    found = drops(5, 0)
    found.overload_reason()
    found.dropped_nodes.add(7)
    assert found.overload_reason()
