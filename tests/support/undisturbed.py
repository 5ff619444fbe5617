"""Faults that move nothing, where the machine may starve a process for longer than a lease."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from chaos.harness.cluster import Cluster
from chaos.harness.installation import is_starved
from chaos.harness.observation import DEMO_NODES

ATTEMPTS = 3


def assert_moves_nothing(
    cluster: Cluster, fault: Callable[[], None], nodes: tuple[str, ...] = DEMO_NODES
) -> datetime:
    """Assert that no portfolio changes owner or epoch while `fault` runs.

    `fault` also ends what it breaks. If the machine starved a node for longer than its lease
    meanwhile, repeat the fault, at most twice. Return when the attempt began in which nothing
    moved, by the database's clock.
    """
    for left in reversed(range(ATTEMPTS)):
        before, since = cluster.runs(), cluster.now()
        fault()
        try:
            cluster.assert_nothing_moved(before, since)
        except AssertionError:
            if not left or not starved_nodes(cluster, since):
                raise
            cluster.wait_until_converged(nodes)
        else:
            return since
    raise AssertionError("the last attempt neither returned nor raised")


def starved_nodes(cluster: Cluster, since: datetime) -> set[str]:
    """Return the nodes that were lost because the machine starved their processes.

    None on a quiet machine, and none whose newest heartbeat was younger than the lease.
    """
    if not is_starved():
        return set()
    lost = cluster.events("node_lost", since)
    return {event["node"] for event in lost if _silence_s(event["data"]) > _limit_s(event["data"])}


def _silence_s(data: dict[str, Any]) -> float:
    """Return the age in seconds of the newest heartbeat that the node knew to be heard."""
    why = data["why"]["params"]
    unheard_s = why["unheard_s"] if why["cause"] == "unheard" else 0.0
    return float(data["silent_s"]) + float(unheard_s or 0.0)


def _limit_s(data: dict[str, Any]) -> float:
    return float(data["why"]["params"]["limit_s"])
