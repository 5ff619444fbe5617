"""More than half of the nodes gone at once, wires that carry one way, and clocks that are set."""

from __future__ import annotations

import time

from chaos.harness.cluster import DEMO_NODES, PROCESS_MATCH, Cluster, family, frozen, wait_for
from chaos.harness.installation import SLOW_MACHINE_S
from chaos.harness.tcp_proxy import Wire
from tests.acceptance.conftest import QUICK

TTL_S = float(QUICK["GINKGO_LEASE_TTL_S"])


def go_silent(fleet: Cluster) -> list[str]:
    """Return the two nodes of three whose daemons are about to be frozen, so that nothing says
    goodbye and the launcher starts none again."""
    return [node for node in DEMO_NODES[:2] if fleet.on(node)]


def test_most_nodes_frozen_at_once_are_held_for_one_ttl_and_then_failed_over(
    quick_fleet: Cluster,
) -> None:
    since = quick_fleet.now()
    nodes = go_silent(quick_fleet)
    had = [name for node in nodes for name in quick_fleet.on(node)]
    before = quick_fleet.runs()
    with frozen([p for node in nodes for p in family(quick_fleet.daemon(node))]):
        held, _ = wait_for(
            lambda: quick_fleet.events("storm_held", since), bool, SLOW_MACHINE_S, "a hold"
        )
        after = quick_fleet.runs()
        assert all(after[name].ownership == before[name].ownership for name in had)
        wait_for(lambda: quick_fleet.events("storm_over", since), bool, SLOW_MACHINE_S, "its end")
        wait_for(
            quick_fleet.runs,
            lambda runs: any(runs[name].node == DEMO_NODES[2] for name in had),
            SLOW_MACHINE_S,
            "failover to the one that is left",
        )
        assert len(held) == 1
    opened = quick_fleet.events("alert_opened", since)
    assert sum(event["data"]["kind"] == "storm_hold" for event in opened) == 1
    quick_fleet.wait_until_converged()
    quick_fleet.assert_canaries_clean()
    quick_fleet.assert_history_whole()


def test_released_early_by_hand_failover_goes_on_at_once(quick_fleet: Cluster) -> None:
    since = quick_fleet.now()
    nodes = go_silent(quick_fleet)
    had = [name for node in nodes for name in quick_fleet.on(node)]
    with frozen([p for node in nodes for p in family(quick_fleet.daemon(node))]):
        wait_for(lambda: quick_fleet.events("storm_held", since), bool, SLOW_MACHINE_S, "a hold")
        # Not by the command: on a busy machine it starts for longer than the hold lasts.
        why = {"reason": "they are gone"}
        released = quick_fleet.call("POST", "/api/schedule/storm/release/", why)
        assert released.json["held"] is False
        wait_for(
            quick_fleet.runs,
            lambda runs: any(runs[name].node == DEMO_NODES[2] for name in had),
            SLOW_MACHINE_S,
            "failover to the one that is left",
        )
    assert quick_fleet.events("storm_over", since) == []
    quick_fleet.wait_until_converged()
    quick_fleet.assert_canaries_clean()
    quick_fleet.assert_history_whole()


def test_nodes_that_come_back_within_the_hold_keep_portfolios_and_epochs(
    quick_fleet: Cluster,
) -> None:
    before, since = quick_fleet.runs(), quick_fleet.now()
    nodes = go_silent(quick_fleet)
    with frozen([p for node in nodes for p in family(quick_fleet.daemon(node))]):
        wait_for(lambda: quick_fleet.events("storm_held", since), bool, SLOW_MACHINE_S, "a hold")
    wait_for(lambda: quick_fleet.events("storm_over", since), bool, SLOW_MACHINE_S, "its end")
    quick_fleet.progress()
    after = quick_fleet.runs()
    assert {n: r.ownership for n, r in after.items()} == {n: r.ownership for n, r in before.items()}
    quick_fleet.wait_until_converged()
    quick_fleet.assert_canaries_clean()


def test_a_control_plane_frozen_for_longer_than_the_lease_moves_nothing(
    quick_fleet: Cluster,
) -> None:
    before, since = quick_fleet.runs(), quick_fleet.now()
    control = [
        process for word in PROCESS_MATCH.values() for process in quick_fleet.processes_of(word)
    ]
    with frozen(control):
        time.sleep(TTL_S * 40 / 30)  # as 40 s are to 30
    wait_for(quick_fleet.answers, bool, SLOW_MACHINE_S, "the API back")
    quick_fleet.progress()
    quick_fleet.wait_until_converged()
    quick_fleet.assert_nothing_moved(before, since)
    quick_fleet.assert_canaries_clean()


def test_a_node_whose_answers_are_lost_is_replaced_though_its_beats_arrive(
    quick_fleet: Cluster,
) -> None:
    with (
        Wire(quick_fleet.access["url"]).open() as wire,
        quick_fleet.own_node("node-deaf", wire.url),
    ):
        quick_fleet.wait_until_converged((*DEMO_NODES, "node-deaf"))
        had = quick_fleet.on("node-deaf")
        with wire.silent(to_server=False):
            # One lease from the last answer it heard, which a beat and its time limit may precede.
            took_s = quick_fleet.commits_elsewhere(had, "node-deaf", 3 * TTL_S + 8)
        print(f"\none way silent to the last first commit elsewhere: {took_s:.2f} s")
        quick_fleet.wait_until_converged((*DEMO_NODES, "node-deaf"))
    quick_fleet.wait_until_converged()
    quick_fleet.assert_canaries_clean()
    quick_fleet.assert_history_whole()


def test_a_database_clock_that_is_set_moves_nothing(quick_fleet: Cluster) -> None:
    before, since = quick_fleet.runs(), quick_fleet.now()
    with quick_fleet.clock_jump(2 * TTL_S):  # as 60 s are to 30, forward and then back
        time.sleep(TTL_S)
    time.sleep(2 * TTL_S)  # feed time was set back as well: the head has to be reached again
    quick_fleet.progress()
    quick_fleet.wait_until_converged()
    quick_fleet.assert_nothing_moved(before, since)
    quick_fleet.assert_canaries_clean()
    quick_fleet.assert_history_whole()
