"""A node whose wire to the server is cut, while both go on living."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from chaos.harness.cluster import DEMO_NODES, Cluster, wait_for
from chaos.harness.installation import SLOW_MACHINE_S
from chaos.harness.tcp_proxy import Wire
from tests.acceptance.conftest import QUICK, SharedHouses, quick

TTL_S = float(QUICK["GINKGO_LEASE_TTL_S"])
FAR = "node-far"


@pytest.fixture(scope="module")
def far(shared_houses: SharedHouses) -> Iterator[Wire]:
    """The wire of a fourth node."""
    fleet = quick(shared_houses)
    with Wire(fleet.access["url"]).open() as wire, fleet.own_node(FAR, wire.url):
        yield wire


@pytest.fixture
def wire(quick_fleet: Cluster, far: Wire) -> Wire:
    """The wire of a fourth node, which was given its share."""
    quick_fleet.wait_until_converged((*DEMO_NODES, FAR))
    return far


def test_a_silence_shorter_than_the_lease_moves_nothing(quick_fleet: Cluster, wire: Wire) -> None:
    before, since = quick_fleet.runs(), quick_fleet.now()
    with wire.silent():
        time.sleep(TTL_S * 20 / 30)  # as 20 s are to 30
    quick_fleet.progress()
    quick_fleet.assert_nothing_moved(before, since)
    quick_fleet.assert_canaries_clean()


def test_a_silence_longer_than_the_lease_moves_and_what_arrives_late_is_refused(
    quick_fleet: Cluster, wire: Wire
) -> None:
    had, since = quick_fleet.on(FAR), quick_fleet.now()
    with wire.silent():
        took_s = quick_fleet.commits_elsewhere(had, FAR, 2 * (TTL_S + 3))
    print(f"\nsilence to the last first commit elsewhere: {took_s:.2f} s, lease {TTL_S:g} s")
    wait_for(
        lambda: quick_fleet.events("commit_refused", since, node=FAR),
        bool,
        SLOW_MACHINE_S,
        "the late commits refused, in the audit trail",
    )
    wait_for(
        lambda: quick_fleet.node(FAR)["status"],
        lambda s: s == "alive",
        SLOW_MACHINE_S,
        "alive again",
    )
    quick_fleet.progress()
    quick_fleet.assert_canaries_clean()
    quick_fleet.assert_history_whole()


def test_commits_whose_answer_is_lost_count_once(quick_fleet: Cluster, wire: Wire) -> None:
    before, since = quick_fleet.runs(), quick_fleet.now()
    log = quick_fleet.home / "logs" / f"{FAR}.txt"
    said_before = len(log.read_text())
    for _ in range(3):
        with wire.silent(to_server=False):
            time.sleep(0.5)  # commits arrive, and their answers do not
            wire.reset()
        quick_fleet.progress()
    quick_fleet.assert_nothing_moved(before, since)
    assert quick_fleet.events("commit_refused", since) == []
    # The same bytes again were answered as before: nobody had to start from the checkpoint.
    said = log.read_text()[said_before:]
    assert "commits are repeated" in said
    assert "goes back to the checkpoint" not in said
    quick_fleet.assert_canaries_clean()
    quick_fleet.assert_history_whole()
