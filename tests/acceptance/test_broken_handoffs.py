"""Moves during which one of the parties dies or sleeps."""

from __future__ import annotations

import pytest

from chaos.harness.cluster import Cluster, process_tree, suspended, wait_for
from chaos.harness.installation import SLOW_MACHINE_S
from tests.acceptance.conftest import SHORT_LIMITS

TTL_S = float(SHORT_LIMITS["GINKGO_LEASE_TTL_S"])


def begin_move(cluster: Cluster, name: str) -> tuple[int, str, str]:
    """Ask for a move and return (handoff, source, target) without waiting."""
    source, target = str(cluster.run(name).node), cluster.other_node(name)
    answer = cluster.call("POST", f"/api/portfolios/{name}/migrate/", {"target_node": target})
    assert answer.status == 202, answer.text
    return answer.json["id"], source, target


def test_a_target_that_sleeps_never_gets_the_portfolio(quick_cluster: Cluster) -> None:
    name = "canary-1"
    before = quick_cluster.run(name)
    target = quick_cluster.other_node(name)
    with suspended(process_tree(quick_cluster.daemon(target))):
        number, _, chosen = begin_move(quick_cluster, name)
        assert chosen == target
        failed = quick_cluster.wait_for_handoff(number, 2 * (TTL_S + 3))
        assert failed["state"] == "failed"
        assert f"{target} was lost before it was ready" in failed["error"]
        run = quick_cluster.run(name)
        assert run.ownership == before.ownership
        assert run.last_seq > before.last_seq  # the source never stopped
    quick_cluster.wait_until_converged()
    quick_cluster.assert_canaries_clean()
    quick_cluster.assert_history_whole()


def test_a_source_that_sleeps_loses_the_portfolio_without_consent(quick_cluster: Cluster) -> None:
    name = "canary-2"
    before = quick_cluster.run(name)
    with suspended(process_tree(quick_cluster.daemon(str(before.node)))):
        begin_move(quick_cluster, name)
        quick_cluster.wait_for_commits_elsewhere([name], str(before.node), 2 * (TTL_S + 3))
    quick_cluster.wait_until_converged()
    quick_cluster.assert_canaries_clean()
    quick_cluster.assert_history_whole()


@pytest.mark.parametrize("who", ["source", "target"])
def test_a_party_killed_in_the_middle_of_a_move_costs_no_event(
    quick_cluster: Cluster, who: str
) -> None:
    name = "canary-3"
    number, source, target = begin_move(quick_cluster, name)
    quick_cluster.daemon(source if who == "source" else target).kill()
    quick_cluster.wait_for_handoff(number, 2 * (TTL_S + 3))
    wait_for(
        lambda: quick_cluster.run(name),
        lambda run: run.phase == "running",
        2 * (TTL_S + 3),
        f"{name} running",
    )
    quick_cluster.wait_until_converged()
    quick_cluster.assert_canaries_clean()
    quick_cluster.assert_history_whole()


def test_a_control_plane_killed_in_the_middle_of_a_move_goes_on_from_the_row(
    quick_cluster: Cluster,
) -> None:
    name = "canary-1"
    number, _, target = begin_move(quick_cluster, name)
    for words in (("run_watcher",), ("ginkgo_site.asgi:application",)):
        quick_cluster.process_of(*words).kill()
    ended, _ = wait_for(
        lambda: quick_cluster.query("SELECT state FROM scheduling_handoff WHERE id = %s", number)[
            0
        ][0],
        lambda state: state in ("done", "failed", "rolled_back", "superseded"),
        SLOW_MACHINE_S,
        f"the end of handoff {number}",
    )
    assert ended == "done"
    assert quick_cluster.run(name).node == target
    wait_for(lambda: quick_cluster.is_ready(), bool, SLOW_MACHINE_S, "the API back")
    quick_cluster.wait_until_converged()
    quick_cluster.assert_canaries_clean()
    quick_cluster.assert_history_whole()


def test_a_second_move_of_one_under_way_is_refused_and_changes_nothing(
    quick_cluster: Cluster,
) -> None:
    with quick_cluster.pushes_lost():  # so that the first lasts long enough to be met
        target = quick_cluster.other_node("canary-2")
        first = quick_cluster.call(
            "POST", "/api/portfolios/canary-2/migrate/", {"target_node": target}
        )
        second = quick_cluster.call(
            "POST", "/api/portfolios/canary-2/migrate/", {"target_node": target}
        )
    assert first.status == 202
    assert second.status == 409
    assert second.json["code"] == "handoff_in_progress"
    assert second.json["handoff"] == first.json["id"]
    assert quick_cluster.wait_for_handoff(first.json["id"], SLOW_MACHINE_S)["state"] == "done"
