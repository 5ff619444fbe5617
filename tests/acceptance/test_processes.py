"""Portfolio processes: restart in place, slow strategies, and the end of a daemon's children."""

from __future__ import annotations

import psutil

from chaos.harness.cluster import SHARES, Cluster
from chaos.harness.installation import SLOW_MACHINE_S, budget_s
from chaos.harness.observation import wait_for
from chaos.harness.processes import process_tree, still_running


def test_a_killed_portfolio_process_restarts_in_place(quick_cluster: Cluster) -> None:
    before, since = quick_cluster.runs(), quick_cluster.now()
    seen, _ = wait_for(
        lambda: quick_cluster.get("/api/portfolios/canary-2/"),
        lambda portfolio: portfolio["run"]["pid"],
        SLOW_MACHINE_S,
        "the pid of canary-2",
    )
    psutil.Process(seen["run"]["pid"]).kill()
    wait_for(
        lambda: quick_cluster.events("process_died", since, portfolio="canary-2"),
        bool,
        SLOW_MACHINE_S,
        "the death in the audit trail",
    )
    quick_cluster.wait_for_progress()
    quick_cluster.wait_until_converged()
    quick_cluster.assert_nothing_moved(before, since)
    assert quick_cluster.get("/api/portfolios/canary-2/")["run"]["attempts"] == 0
    quick_cluster.assert_canaries_clean()


def test_a_node_recovers_from_a_killed_forkserver(quick_cluster: Cluster) -> None:
    had = quick_cluster.portfolios_on("node-3")
    daemon = quick_cluster.daemon("node-3")
    (forkserver,) = daemon.children()
    forkserver.kill()
    wait_for(lambda: forkserver.is_running(), lambda lives: not lives, SLOW_MACHINE_S, "its end")
    quick_cluster.wait_for_progress()
    quick_cluster.wait_until_converged()
    assert {name for name in had if quick_cluster.run(name).phase == "running"} == set(had)
    quick_cluster.assert_canaries_clean()
    quick_cluster.assert_history_whole()


def test_a_slow_portfolio_does_not_delay_its_neighbours(quick_cluster: Cluster) -> None:
    body = {"name": "slow", "strategy": "sleeper", "config": {"seconds": 1.0}, "symbols": SHARES}
    assert quick_cluster.call("POST", "/api/portfolios/", body).status == 201
    two_seconds = 100 * budget_s(1)  # in events
    try:
        slow, _ = wait_for(
            lambda: quick_cluster.get("/api/portfolios/slow/")["run"],
            lambda run: run["phase"] == "running" and run["lag_events"] > two_seconds,
            SLOW_MACHINE_S,
            "a lag of two seconds",
        )
        neighbours = [
            portfolio
            for portfolio in quick_cluster.get("/api/portfolios/?limit=100")["results"]
            if portfolio["run"]["node"] == slow["node"] and portfolio["name"] != "slow"
        ]
        assert neighbours
        assert max(other["run"]["lag_events"] for other in neighbours) < two_seconds
        quick_cluster.assert_canaries_clean()
    finally:
        quick_cluster.call("DELETE", "/api/portfolios/slow/", {})


def user_seconds(pid: int) -> float:
    """Return the processor time that a process has used, 0 if it has ended."""
    try:
        return float(psutil.Process(pid).cpu_times().user)
    except psutil.NoSuchProcess:
        return 0.0


def test_a_looping_process_ends_with_its_daemon(quick_cluster: Cluster) -> None:
    body = {"name": "looping", "strategy": "looper", "config": {"at_event": 1}, "symbols": SHARES}
    assert quick_cluster.call("POST", "/api/portfolios/", body).status == 201
    try:
        busy, _ = wait_for(
            lambda: quick_cluster.get("/api/portfolios/looping/")["run"],
            lambda run: run["pid"] and user_seconds(run["pid"]) > 0.3,
            SLOW_MACHINE_S,
            "a process that loops",
        )
        daemon = quick_cluster.daemon(busy["node"])
        everything = process_tree(daemon)
        assert busy["pid"] in {process.pid for process in everything}
        daemon.kill()
        wait_for(
            lambda: still_running(everything),
            lambda left: not left,
            budget_s(1),
            "all of its processes gone",
        )
    finally:
        quick_cluster.call("DELETE", "/api/portfolios/looping/", {})
    quick_cluster.wait_until_converged()
    quick_cluster.assert_canaries_clean()
