"""Storms: loss of most nodes, a frozen control plane, a shifted clock."""

from __future__ import annotations

import time

from chaos.harness.cluster import PROCESS_MATCH, Cluster
from chaos.harness.observation import DEMO_NODES, wait_for
from chaos.harness.processes import process_tree, suspended
from tests.acceptance.conftest import SHORT_LIMITS

TTL_S = float(SHORT_LIMITS["GINKGO_LEASE_TTL_S"])


def storm_nodes(cluster: Cluster) -> list[str]:
    """Return two of the three nodes, to be frozen: a frozen daemon sends no goodbye and is not
    restarted by the launcher."""
    return [node for node in DEMO_NODES[:2] if cluster.portfolios_on(node)]


def test_failover_of_most_nodes_is_held_for_one_lease(quick_cluster: Cluster) -> None:
    since = quick_cluster.now()
    nodes = storm_nodes(quick_cluster)
    had = [name for node in nodes for name in quick_cluster.portfolios_on(node)]
    before = quick_cluster.runs()
    with suspended([p for node in nodes for p in process_tree(quick_cluster.daemon(node))]):
        held, _ = wait_for(lambda: quick_cluster.events("storm_held", since), bool, "a hold")
        after = quick_cluster.runs()
        assert all(after[name].ownership == before[name].ownership for name in had)
        wait_for(lambda: quick_cluster.events("storm_over", since), bool, "the end of the hold")
        wait_for(
            quick_cluster.runs,
            lambda runs: any(runs[name].node == DEMO_NODES[2] for name in had),
            "failover to the remaining node",
        )
        assert len(held) == 1
    opened = quick_cluster.events("alert_opened", since)
    assert sum(event["data"]["kind"] == "storm_hold" for event in opened) == 1
    quick_cluster.wait_until_converged()
    quick_cluster.assert_canaries_clean()
    quick_cluster.assert_history_whole()


def test_nodes_back_within_the_hold_keep_portfolios_and_epochs(quick_cluster: Cluster) -> None:
    before, since = quick_cluster.runs(), quick_cluster.now()
    nodes = storm_nodes(quick_cluster)
    with suspended([p for node in nodes for p in process_tree(quick_cluster.daemon(node))]):
        wait_for(lambda: quick_cluster.events("storm_held", since), bool, "a hold")
    wait_for(lambda: quick_cluster.events("storm_over", since), bool, "the end of the hold")
    quick_cluster.wait_for_progress()
    after = quick_cluster.runs()
    assert {n: r.ownership for n, r in after.items()} == {n: r.ownership for n, r in before.items()}
    quick_cluster.wait_until_converged()
    quick_cluster.assert_canaries_clean()


def test_a_control_plane_frozen_for_longer_than_the_lease_moves_nothing(
    quick_cluster: Cluster,
) -> None:
    before, since = quick_cluster.runs(), quick_cluster.now()
    control = [
        process for word in PROCESS_MATCH.values() for process in quick_cluster.processes_of(word)
    ]
    with suspended(control):
        time.sleep(TTL_S * 40 / 30)  # as 40 s are to 30
    wait_for(quick_cluster.is_ready, bool, "the API back")
    quick_cluster.wait_for_progress()
    quick_cluster.wait_until_converged()
    quick_cluster.assert_nothing_moved(before, since)
    quick_cluster.assert_canaries_clean()


def test_a_database_clock_that_is_set_moves_nothing(quick_cluster: Cluster) -> None:
    before, since = quick_cluster.runs(), quick_cluster.now()
    with quick_cluster.clock_jump(2 * TTL_S):  # as 60 s are to 30, forward and then back
        time.sleep(TTL_S)
    time.sleep(2 * TTL_S)  # feed time was shifted back as well: the head has to be reached again
    quick_cluster.wait_for_progress()
    quick_cluster.wait_until_converged()
    quick_cluster.assert_nothing_moved(before, since)
    quick_cluster.assert_canaries_clean()
    quick_cluster.assert_history_whole()
