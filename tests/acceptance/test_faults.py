"""Killed, frozen and restarted processes, and what happens to the portfolios.

The first test has the product's time limits, the others short ones.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psutil

from chaos.faults.feeds import SYMBOL
from chaos.harness.cluster import PROCESS_MATCH, Cluster
from chaos.harness.installation import SLOW_MACHINE_S, budget_s
from chaos.harness.observation import DEMO_NODES, wait_for
from chaos.harness.processes import process_tree, still_running, suspended
from chaos.runner.live_feed import bar
from tests.acceptance.conftest import SHORT_LIMITS
from tests.support.undisturbed import assert_moves_nothing

TTL_S = float(SHORT_LIMITS["GINKGO_LEASE_TTL_S"])
NEW = "node-4"


def leftovers(daemon: int) -> list[list[str]]:
    """Return command lines of remaining children of a daemon, which carry its pid."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "scheduling.node_daemon.forkserver" in words and str(daemon) in words:
            found.append(words)
    return found


def test_portfolios_of_a_killed_daemon_fail_over_and_no_process_is_left(cluster: Cluster) -> None:
    had, daemon = cluster.wait_for_portfolios_on("node-2"), cluster.daemon("node-2")
    everything = process_tree(daemon)
    # The daemon, its forkserver, one process per portfolio.
    assert len(everything) >= 1 + 1 + len(had)
    ((newest,),) = cluster.query("SELECT coalesce(max(id), 0) FROM scheduling_handoff")
    daemon.kill()
    killed_at = time.monotonic()
    wait_for(
        lambda: still_running(everything),
        lambda left: not left,
        "all of its processes gone",
        budget_s(1),
    )
    cluster.wait_for_commits_elsewhere(had, "node-2", budget_s(5))
    took_s = time.monotonic() - killed_at
    print(f"\nkill -9 to the last first commit elsewhere: {took_s:.2f} s")
    assert leftovers(daemon.pid) == []
    # The first one of each: the balancer may have moved some back by now.
    firsts = cluster.query(
        "SELECT DISTINCT ON (h.portfolio_id) p.name, h.kind FROM scheduling_handoff h"
        " JOIN portfolios_portfolio p ON p.id = h.portfolio_id"
        " WHERE h.id > %s AND p.name = ANY(%s) ORDER BY h.portfolio_id, h.id",
        newest,
        had,
    )
    assert dict(firsts) == dict.fromkeys(had, "failover")
    cluster.assert_nothing_lost()
    # The launcher restarts it, and it gets portfolios again.
    wait_for(lambda: cluster.node("node-2")["status"], lambda s: s == "alive", "node-2 alive")
    assert cluster.daemon("node-2").pid != daemon.pid
    cluster.wait_until_converged()
    cluster.wait_for_portfolios_on("node-2")


def _newest_handoff_from(cluster: Cluster, name: str, node: str) -> dict:
    """Return the newest handoff of a portfolio from this node: others may have followed it."""
    handoffs = cluster.get(f"/api/handoffs/?portfolio={name}&limit=20")["results"]
    return dict(next(handoff for handoff in handoffs if handoff["source_node"] == node))


def test_a_daemon_frozen_beyond_its_lease_loses_its_portfolios_and_is_refused(
    quick_cluster: Cluster,
) -> None:
    had, since = quick_cluster.wait_for_portfolios_on("node-1"), quick_cluster.now()
    daemon = quick_cluster.daemon("node-1")
    # Without pushes, so that it reads no newer desired set before its commits.
    with quick_cluster.pushes_lost():
        with ExitStack() as frozen:
            with quick_cluster.commits_held_back(had[0]):
                frozen.enter_context(suspended(process_tree(daemon)))
            took_s = quick_cluster.wait_for_commits_elsewhere(had, "node-1", budget_s(TTL_S + 3))
            owners = {name: quick_cluster.run(name).epoch for name in had}
            quick_cluster.wait_for_progress()
            assert quick_cluster.node("node-1")["status"] == "lost"
        refused, _ = wait_for(
            lambda: quick_cluster.events("commit_refused", since, node="node-1"),
            bool,
            "refused commits of the resumed daemon in the audit log",
        )
    print(f"\nSIGSTOP to the last first commit elsewhere: {took_s:.2f} s, lease {TTL_S:g} s")
    assert {event["portfolio"] for event in refused} <= set(had)
    assert all(event["data"]["epoch"] < owners[event["portfolio"]] for event in refused)
    # The same daemon renews its lease and is alive again.
    wait_for(lambda: quick_cluster.node("node-1")["status"], lambda s: s == "alive", "alive")
    assert quick_cluster.daemon("node-1").pid == daemon.pid
    quick_cluster.converge_without_loss()


def test_daemon_frozen_for_less_than_its_lease_keeps_its_portfolios(quick_cluster: Cluster) -> None:
    def freeze() -> None:
        with suspended(process_tree(quick_cluster.daemon("node-3"))):
            time.sleep(TTL_S * 12 / 30)  # as 12 s are to 30
        quick_cluster.wait_for_progress()

    assert_moves_nothing(quick_cluster, freeze)
    quick_cluster.assert_canaries_clean()


@contextmanager
def trading_on_a_growing_feed(cluster: Cluster, name: str) -> Iterator[None]:
    """Append rows to a recorded feed that portfolio `name` trades on, until the context ends.

    Then the portfolio has handled each row once and in order, as its reference run does.
    """
    feed = {"name": f"feed-of-{name}", "instruments": {SYMBOL: {"tick": "0.01"}}}
    answer = cluster.call("POST", "/api/feeds/", feed)
    assert answer.status == 201, answer.text
    config = {"fast": 1, "slow": 2, "quantity": "1"}
    follow = {"feed": feed["name"], "catch_up": "full"}
    cluster.create(name, "sma_cross", [SYMBOL], config=config, **follow)
    ending = threading.Event()

    def append() -> int:
        appended = 0
        while not ending.wait(0.1):
            row = {"source": "test", "number": appended + 1, "rows": [bar(appended + 1, SYMBOL)]}
            answer = cluster.call("POST", f"/api/feeds/{feed['name']}/append/", row)
            # A statement may meet the exchange of pg_notify (`pushes_lost`), or a database that the
            # machine keeps waiting. A source repeats then.
            assert answer.status in (200, 500, 503), answer.text
            appended += answer.status == 200
        return appended

    try:
        with ThreadPoolExecutor(1) as pool:
            appending = pool.submit(append)
            try:
                _wait_until_handled(cluster, name, 5)
                yield
            finally:
                ending.set()
            rows = appending.result()
        _assert_handled_once(cluster, name, rows)
    finally:
        # Later tests wait for events of every portfolio.
        wait_for(  # a failover may be under way
            lambda: cluster.delete(name).status, lambda status: status < 300, f"the end of {name}"
        )


def _assert_handled_once(cluster: Cluster, name: str, rows: int) -> None:
    _wait_until_handled(cluster, name, rows)
    path = f"/api/portfolios/{name}/verification/"
    wait_for(  # one in the background may be under way
        lambda: cluster.call("POST", path, {}).status,
        lambda status: status == 202,
        f"a verification of {name} accepted",
    )
    seen, _ = wait_for(
        lambda: cluster.get(path),
        lambda document: document["state"] not in ("waiting", "running"),
        f"a verdict on {name}",
    )
    assert (seen["state"], seen["to_seq"]) == ("identical", rows), seen["sentence"]
    assert (seen["events_counted_from"], seen["events"]) == (1, rows), seen["sentence"]
    assert cluster.get(f"/api/portfolios/{name}/fills/?limit=1")["results"]


def _wait_until_handled(cluster: Cluster, name: str, seq: int) -> None:
    wait_for(lambda: cluster.run(name).last_seq, lambda last: last >= seq, f"{name} at row {seq}")


def test_failover_without_pushes_is_in_time_and_handles_each_appended_row_once(
    quick_cluster: Cluster,
) -> None:
    with trading_on_a_growing_feed(quick_cluster, "grows"):
        node, _ = wait_for(lambda: quick_cluster.run("grows").node or "", bool, "its node")
        had = quick_cluster.portfolios_on(node)
        with quick_cluster.pushes_lost():
            quick_cluster.daemon(node).kill()
            took_s = quick_cluster.wait_for_commits_elsewhere(had, node, budget_s(TTL_S + 3))
        before = quick_cluster.run("grows").last_seq
        _wait_until_handled(quick_cluster, "grows", before + 5)
    print(f"\nkill -9 without pushes: {took_s:.2f} s, lease {TTL_S:g} s")
    quick_cluster.converge_without_loss()


def test_a_killed_database_moves_no_portfolio(quick_cluster: Cluster) -> None:
    def kill() -> None:
        server = quick_cluster.postgres_processes()[0]
        server.kill()
        wait_for(lambda: still_running([server]), lambda left: not left, "the old server ended")
        wait_for(lambda: _answers(quick_cluster), bool, "the database back")
        quick_cluster.wait_for_progress()
        quick_cluster.wait_until_converged()

    assert_moves_nothing(quick_cluster, kill)
    quick_cluster.assert_nothing_lost()


def _answers(cluster: Cluster) -> bool:
    try:
        cluster.now()
    except Exception:
        return False
    return True


def test_database_frozen_longer_than_the_lease_moves_no_portfolio(quick_cluster: Cluster) -> None:
    def freeze() -> None:
        with suspended(quick_cluster.postgres_processes()):
            time.sleep(TTL_S * 40 / 30)  # as 40 s are to 30
        quick_cluster.wait_for_progress()
        quick_cluster.wait_until_converged()
        time.sleep(TTL_S)  # until leases are judged again

    assert_moves_nothing(quick_cluster, freeze)
    quick_cluster.assert_nothing_lost()


def test_killed_control_plane_processes_come_back_and_move_no_portfolio(
    quick_cluster: Cluster,
) -> None:
    web, *others = PROCESS_MATCH.values()

    def kill() -> None:
        # The web process alone first: the watcher lives, and could take silence for the nodes'
        # death.
        for parts in ([web], others):
            _kill_until_replaced(quick_cluster, parts)
            quick_cluster.wait_for_progress()
        quick_cluster.wait_until_converged()

    assert_moves_nothing(quick_cluster, kill)
    quick_cluster.assert_canaries_clean()


def _kill_until_replaced(cluster: Cluster, parts: list[str]) -> None:
    """Kill these parts of the control plane at once, and wait until the launcher replaced them."""
    old = [cluster.process_of(word) for word in parts]
    for process in old:
        process.kill()
    wait_for(lambda: still_running(old), lambda left: not left, "their end")
    wait_for(
        lambda: [word for word in parts if not cluster.processes_of(word)],
        lambda missing: not missing,
        "another one in the place of each",
    )
    wait_for(cluster.is_ready, bool, "the API back")


def test_a_new_node_gets_portfolios_refuses_a_third_takeover_and_hands_off_at_its_end(
    quick_cluster: Cluster,
) -> None:
    token = quick_cluster.create_node_token(NEW)
    with quick_cluster.extra_node(NEW, token=token) as older:
        # A node that a slow machine starved is lost, comes back and gets its share again.
        wait_for(
            lambda: [quick_cluster.portfolios_on(node) for node in (*DEMO_NODES, NEW)],
            lambda shares: sorted(map(len, shares)) == [2, 2, 2, 3],
            f"an equal share for {NEW} and each other node",
        )
        quick_cluster.wait_until_converged((*DEMO_NODES, NEW))
        names, _ = wait_for(lambda: _freeze_with_share_of(quick_cluster, NEW), bool, "its share")
        before = quick_cluster.runs()
        with quick_cluster.extra_node(NEW, token=token) as newer:
            assert _end_of(older) not in (0, None)
            wait_for(
                lambda: [quick_cluster.run(name) for name in names],
                lambda runs: all(
                    run.phase == "running" and run.last_seq > before[run.name].last_seq
                    for run in runs
                ),
                "commits of the newer daemon",
                budget_s(5),
            )
            after = quick_cluster.runs()
            for name in names:
                assert after[name].node == NEW
                assert after[name].epoch == before[name].epoch + 1
                assert after[name].incarnation != before[name].incarnation
            with quick_cluster.extra_node(NEW, token=token) as third:
                assert _end_of(newer) not in (0, None)
                # Within a minute, which a slow machine needs for the three starts.
                quick_cluster.query(TAKEN_OVER_NOW)
                with quick_cluster.extra_node(NEW, token=token) as fourth:
                    assert _end_of(fourth) not in (0, None)
                said = (quick_cluster.home / "logs" / f"{NEW}.txt").read_text()
                assert f"pid {third.pid}" in said
                assert third.poll() is None
                wait_for(
                    lambda: [quick_cluster.run(name).phase for name in names],
                    lambda phases: set(phases) == {"running"},
                    "all of them running on the third daemon",
                )
                quick_cluster.call("POST", "/api/schedule/unfreeze/", {})
                third.send_signal(signal.SIGTERM)
                assert third.wait(SLOW_MACHINE_S) == 0
    assert quick_cluster.node(NEW)["status"] == "left"
    assert quick_cluster.portfolios_on(NEW) == []
    moves = [_newest_handoff_from(quick_cluster, name, NEW) for name in names]
    assert {(h["kind"], h["state"]) for h in moves} == {("migrate", "done")}
    quick_cluster.converge_without_loss()


TAKEN_OVER_NOW = """
UPDATE scheduling_lease SET takeovers = (
    SELECT jsonb_agg(extract(epoch FROM clock_timestamp())) FROM jsonb_array_elements(takeovers)
) WHERE takeovers <> '[]'
"""


def _freeze_with_share_of(cluster: Cluster, node: str) -> list[str]:
    """Freeze automatic moves and return the node's portfolios. Where it has none, as after a loss,
    end the freeze."""
    cluster.call("POST", "/api/schedule/freeze/", {"reason": "watch the takeover alone"})
    wait_for(cluster.open_handoffs, lambda found: not found, "no handoff")
    names = cluster.portfolios_on(node)
    if not names:
        cluster.call("POST", "/api/schedule/unfreeze/", {})
    return names


def _end_of(process: subprocess.Popen[str], limit_s: float = SLOW_MACHINE_S) -> int | None:
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
