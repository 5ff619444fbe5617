"""A network partition between one node and the server, while both keep running."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from chaos.harness.cluster import Cluster
from chaos.harness.installation import budget_s
from chaos.harness.observation import DEMO_NODES, wait_for
from chaos.harness.tcp_proxy import TcpProxy
from tests.acceptance.conftest import SHORT_LIMITS, SharedInstallations, quick
from tests.support.undisturbed import assert_moves_nothing

TTL_S = float(SHORT_LIMITS["GINKGO_LEASE_TTL_S"])
FAR = "node-far"


@pytest.fixture(scope="module")
def far(shared_installations: SharedInstallations) -> Iterator[TcpProxy]:
    """The proxy of a fourth node."""
    cluster = quick(shared_installations)
    with TcpProxy(cluster.access["url"]).open() as proxy, cluster.extra_node(FAR, proxy.url):
        yield proxy


@pytest.fixture
def proxy(quick_cluster: Cluster, far: TcpProxy) -> TcpProxy:
    """The proxy of a fourth node that owns portfolios."""
    quick_cluster.wait_until_converged((*DEMO_NODES, FAR))
    return far


def test_a_partition_shorter_than_the_lease_moves_no_portfolio(
    quick_cluster: Cluster, proxy: TcpProxy
) -> None:
    def part() -> None:
        with proxy.hold_traffic():
            time.sleep(TTL_S * 20 / 30)  # as 20 s are to 30
        quick_cluster.wait_for_progress()

    assert_moves_nothing(quick_cluster, part, (*DEMO_NODES, FAR))
    quick_cluster.assert_canaries_clean()


def test_after_a_partition_longer_than_the_lease_late_commits_are_refused(
    quick_cluster: Cluster, proxy: TcpProxy
) -> None:
    had, since = quick_cluster.wait_for_portfolios_on(FAR), quick_cluster.now()
    with ExitStack() as parted:
        # A commit is certain to wait in the node: all that reached the server were answered.
        with quick_cluster.commits_held_back(had[0]):
            parted.enter_context(proxy.hold_traffic())
            quick_cluster.wait_for_newer_commits()
        took_s = quick_cluster.wait_for_commits_elsewhere(had, FAR, budget_s(TTL_S + 3))
    print(f"\npartition to the last first commit elsewhere: {took_s:.2f} s, lease {TTL_S:g} s")
    wait_for(
        lambda: quick_cluster.events("commit_refused", since, node=FAR),
        bool,
        "the late commits refused, in the audit trail",
    )
    wait_for(lambda: quick_cluster.node(FAR)["status"], lambda s: s == "alive", "alive again")
    quick_cluster.wait_for_progress()
    quick_cluster.assert_nothing_lost()


def test_a_node_without_answers_loses_its_portfolios_though_its_heartbeats_arrive(
    quick_cluster: Cluster, proxy: TcpProxy
) -> None:
    had = quick_cluster.wait_for_portfolios_on(FAR)
    with proxy.hold_traffic(to_server=False):
        # One lease after its last received answer, plus one heartbeat and its time limit.
        took_s = quick_cluster.wait_for_commits_elsewhere(had, FAR, budget_s(1.5 * TTL_S + 4))
    print(f"\none way silent to the last first commit elsewhere: {took_s:.2f} s")
    wait_for(
        lambda: quick_cluster.node(FAR)["status"], lambda status: status == "alive", "alive again"
    )
    quick_cluster.assert_nothing_lost()


def test_commits_with_lost_answers_are_applied_once(
    quick_cluster: Cluster, proxy: TcpProxy
) -> None:
    log = quick_cluster.home / "logs" / f"{FAR}.txt"
    log_length = 0

    def lose_answers() -> None:
        nonlocal log_length
        log_length = len(log.read_text())
        for _ in range(3):
            quick_cluster.wait_for_portfolios_on(FAR)
            with proxy.hold_traffic(to_server=False):
                # A commit arrives, and its answer does not.
                before = {run.name: run.last_seq for run in quick_cluster.runs_on(FAR)}
                wait_for(
                    quick_cluster.runs,
                    lambda runs: any(runs[name].last_seq > seq for name, seq in before.items()),  # noqa: B023
                    f"a commit of {FAR} or its loss",
                )
                proxy.reset()
            quick_cluster.wait_for_progress()

    since = assert_moves_nothing(quick_cluster, lose_answers, (*DEMO_NODES, FAR))
    assert quick_cluster.events("commit_refused", since) == []
    # The repeated bytes got the same answer: no process restarted from the checkpoint.
    new = log.read_text()[log_length:]
    assert "commits are repeated" in new
    assert "returns to the checkpoint" not in new
    quick_cluster.assert_nothing_lost()
