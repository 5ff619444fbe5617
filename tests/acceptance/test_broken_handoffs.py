"""Migrations during which source, target or control plane is killed or frozen."""

from __future__ import annotations

import time
from typing import Any

from chaos.harness.cluster import Cluster
from chaos.harness.installation import SLOW_MACHINE_S, ApiResponse, budget_s
from chaos.harness.observation import ClusterRun, wait_for
from chaos.harness.processes import process_tree, suspended
from tests.acceptance.conftest import SHORT_LIMITS
from tests.support.undisturbed import starved_nodes

TTL_S = float(SHORT_LIMITS["GINKGO_LEASE_TTL_S"])
#: Twice what a quiet machine takes to have a killed web process back.
BUSY_S = 6.0


def begin_migration(cluster: Cluster, name: str) -> tuple[int, str, str]:
    """Request a migration. Return (handoff, source, target) without waiting for its end.

    Ask again where the balancer moves the portfolio just now, or a starved target is late.
    """

    def ask() -> tuple[ApiResponse, str, str]:
        source, target = str(cluster.run(name).node), cluster.other_node(name)
        address = f"/api/portfolios/{name}/migrate/"
        return cluster.call("POST", address, {"target_node": target}), source, target

    (answer, source, target), _ = wait_for(
        ask, lambda asked: asked[0].status != 409, f"a migration of {name}"
    )
    assert answer.status == 202, answer.text
    return answer.json["id"], source, target


def test_migration_to_a_frozen_target_fails_and_the_source_keeps_running(
    quick_cluster: Cluster,
) -> None:
    name = "canary-1"

    def migrate_to_a_frozen_target() -> tuple[str, dict[str, Any], ClusterRun, ClusterRun]:
        """Return the target, the ended handoff, and the run before and after."""
        for _ in range(5):
            target, before = quick_cluster.other_node(name), quick_cluster.run(name)
            with suspended(process_tree(quick_cluster.daemon(target))):
                answer = quick_cluster.call(
                    "POST", f"/api/portfolios/{name}/migrate/", {"target_node": target}
                )
                if answer.status == 202:
                    ended = quick_cluster.wait_for_handoff(answer.json["id"], budget_s(TTL_S + 3))
                    return target, ended, before, quick_cluster.run(name)
                # The balancer was faster, or the target lost before a slow machine asked.
                assert answer.status == 409, answer.text
            quick_cluster.wait_until_converged()
        raise AssertionError(answer.text)

    since = quick_cluster.now()
    target, ended, before, run = migrate_to_a_frozen_target()
    if str(before.node) in starved_nodes(quick_cluster, since):  # so that its portfolios moved
        quick_cluster.wait_until_converged()
        target, ended, before, run = migrate_to_a_frozen_target()
    assert ended["state"] == "failed"
    assert f"{target} was lost before it was ready" in ended["error"]
    assert run.ownership == before.ownership
    assert run.last_seq > before.last_seq  # the source kept running
    quick_cluster.converge_without_loss()


def test_migration_from_a_frozen_source_is_granted_without_its_release(
    quick_cluster: Cluster,
) -> None:
    name = "canary-2"
    before = quick_cluster.run(name)
    with suspended(process_tree(quick_cluster.daemon(str(before.node)))):
        begin_migration(quick_cluster, name)
        quick_cluster.wait_for_commits_elsewhere([name], str(before.node), budget_s(TTL_S + 3))
    quick_cluster.converge_without_loss()


def test_a_target_killed_during_a_migration_loses_no_event(quick_cluster: Cluster) -> None:
    name = "canary-3"
    number, _, target = begin_migration(quick_cluster, name)
    quick_cluster.daemon(target).kill()
    quick_cluster.wait_for_handoff(number, budget_s(TTL_S + 3))
    wait_for(
        lambda: quick_cluster.run(name),
        lambda run: run.phase == "running",
        f"{name} running",
        budget_s(TTL_S + 3),
    )
    quick_cluster.converge_without_loss()


def test_migration_continues_after_web_and_watcher_are_killed(cluster: Cluster) -> None:
    """With the product's limits: web and watcher are back before any of them has passed."""
    name = "canary-1"
    number, source, target = begin_migration(cluster, name)
    began = time.monotonic()
    for words in (("run_watcher",), ("ginkgo_site.asgi:application",)):
        cluster.process_of(*words).kill()
    wait_for(lambda: cluster.is_ready(), bool, "the API back")
    away_s = time.monotonic() - began
    ended = cluster.wait_for_handoff(number, SLOW_MACHINE_S)
    if ended["state"] != "done":  # the machine was so busy that a deadline passed
        assert away_s > BUSY_S, ended
        assert "could not prepare in" in ended["error"] or "did not commit in" in ended["error"]
        assert cluster.run(name).node == source
        cluster.migrate(name, target)
    assert cluster.run(name).node == target
    cluster.converge_without_loss()
