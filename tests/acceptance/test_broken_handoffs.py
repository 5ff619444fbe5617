"""Moves during which one of the parties dies or sleeps."""

from __future__ import annotations

import pytest

from chaos.harness.cluster import Cluster, family, frozen, wait_for
from chaos.harness.installation import SLOW_MACHINE_S
from tests.acceptance.conftest import QUICK

TTL_S = float(QUICK["GINKGO_LEASE_TTL_S"])


def begin_move(fleet: Cluster, name: str) -> tuple[int, str, str]:
    """Ask for a move and return (handoff, source, target) without waiting."""
    source, target = str(fleet.run(name).node), fleet.elsewhere(name)
    answer = fleet.call("POST", f"/api/portfolios/{name}/migrate/", {"target_node": target})
    assert answer.status == 202, answer.text
    return answer.json["id"], source, target


def test_a_target_that_sleeps_never_gets_the_portfolio(quick_fleet: Cluster) -> None:
    name = "canary-1"
    before = quick_fleet.run(name)
    target = quick_fleet.elsewhere(name)
    with frozen(family(quick_fleet.daemon(target))):
        number, _, chosen = begin_move(quick_fleet, name)
        assert chosen == target
        failed = quick_fleet.ended(number, 2 * (TTL_S + 3))
        assert failed["state"] == "failed"
        assert f"{target} was lost before it was ready" in failed["error"]
        run = quick_fleet.run(name)
        assert run.ownership == before.ownership
        assert run.last_seq > before.last_seq  # the source never stopped
    quick_fleet.wait_until_converged()
    quick_fleet.assert_canaries_clean()
    quick_fleet.assert_history_whole()


def test_a_source_that_sleeps_loses_the_portfolio_without_consent(quick_fleet: Cluster) -> None:
    name = "canary-2"
    before = quick_fleet.run(name)
    with frozen(family(quick_fleet.daemon(str(before.node)))):
        begin_move(quick_fleet, name)
        quick_fleet.commits_elsewhere([name], str(before.node), 2 * (TTL_S + 3))
    quick_fleet.wait_until_converged()
    quick_fleet.assert_canaries_clean()
    quick_fleet.assert_history_whole()


@pytest.mark.parametrize("who", ["source", "target"])
def test_a_party_killed_in_the_middle_of_a_move_costs_no_event(
    quick_fleet: Cluster, who: str
) -> None:
    name = "canary-3"
    number, source, target = begin_move(quick_fleet, name)
    quick_fleet.daemon(source if who == "source" else target).kill()
    quick_fleet.ended(number, 2 * (TTL_S + 3))
    wait_for(
        lambda: quick_fleet.run(name),
        lambda run: run.phase == "running",
        2 * (TTL_S + 3),
        f"{name} running",
    )
    quick_fleet.wait_until_converged()
    quick_fleet.assert_canaries_clean()
    quick_fleet.assert_history_whole()


def test_a_control_plane_killed_in_the_middle_of_a_move_goes_on_from_the_row(
    quick_fleet: Cluster,
) -> None:
    name = "canary-1"
    number, _, target = begin_move(quick_fleet, name)
    for words in (("run_watcher",), ("ginkgo_site.asgi:application",)):
        quick_fleet.process_of(*words).kill()
    ended, _ = wait_for(
        lambda: quick_fleet.query("SELECT state FROM scheduling_handoff WHERE id = %s", number)[0][
            0
        ],
        lambda state: state in ("done", "failed", "rolled_back", "superseded"),
        SLOW_MACHINE_S,
        f"the end of handoff {number}",
    )
    assert ended == "done"
    assert quick_fleet.run(name).node == target
    wait_for(lambda: quick_fleet.answers(), bool, SLOW_MACHINE_S, "the API back")
    quick_fleet.wait_until_converged()
    quick_fleet.assert_canaries_clean()
    quick_fleet.assert_history_whole()


def test_a_second_move_of_one_under_way_is_refused_and_changes_nothing(
    quick_fleet: Cluster,
) -> None:
    with quick_fleet.no_pushes():  # so that the first lasts long enough to be met
        target = quick_fleet.elsewhere("canary-2")
        first = quick_fleet.call(
            "POST", "/api/portfolios/canary-2/migrate/", {"target_node": target}
        )
        second = quick_fleet.call(
            "POST", "/api/portfolios/canary-2/migrate/", {"target_node": target}
        )
    assert first.status == 202
    assert second.status == 409
    assert second.json["code"] == "handoff_in_progress"
    assert second.json["handoff"] == first.json["id"]
    assert quick_fleet.ended(first.json["id"], SLOW_MACHINE_S)["state"] == "done"
