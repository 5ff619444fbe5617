"""Faults of node processes: killed, frozen, terminated."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Mapping
from datetime import datetime

import psutil

from chaos.faults.fault import Fault
from chaos.harness.observation import ClusterRun
from chaos.harness.processes import process_tree, still_running
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext, NotAvailable


def kill_daemon(context: FaultContext) -> None:
    """kill -9 of a daemon; its portfolios fail over and none of its processes remains."""
    node = context.choose_node()
    owned = context.cluster.portfolios_on(node)
    everything = process_tree(context.cluster.daemon(node))
    context.kill_node(node)
    context.expect(
        lambda: not still_running(everything), 2 * BUDGET_FACTOR, f"all processes of {node} gone"
    )
    for name in owned:
        context.expect(
            lambda name=name: (
                context.cluster.run(name).phase != "running"  # type: ignore[misc]
                or context.cluster.run(name).node != node
            ),
            (context.ttl_s + 3) * BUDGET_FACTOR,
            f"{name} away from {node}",
        )
    context.relaunch_if_proxied(node)


def kill_child(context: FaultContext) -> None:
    """kill -9 of one portfolio's process; it restarts on the same node."""
    run = context.choose_portfolio()
    answer = context.request("GET", f"/api/portfolios/{run.name}/")
    pid = answer.json["run"]["pid"] if answer and answer.status == 200 else None
    if pid:
        psutil.Process(pid).kill()
        context.expect(
            lambda: context.cluster.run(run.name).last_seq > run.last_seq,
            20,
            f"{run.name} going on",
        )


def kill_forkserver(context: FaultContext) -> None:
    """kill -9 of every direct child of a daemon: its forkservers, and builds of environments."""
    node = context.choose_node()
    for child in context.cluster.daemon(node).children():
        child.kill()
    context.sleep(1)


def freeze_daemon_short(context: FaultContext) -> None:
    """SIGSTOP of a daemon for 12 s of a lease of 30 s, of which 10 s may be over already."""
    node = context.choose_node()
    with context.suspended_node(node):
        context.sleep(context.ttl_s * 12 / 30)


def freeze_daemon_long(context: FaultContext) -> None:
    """SIGSTOP of a daemon beyond its lease; its commits after SIGCONT are refused."""
    node = context.choose_node()
    context.mark_all_affected(
        "pushes are lost, so that the frozen daemon is not told of its loss first"
    )
    since = context.cluster.now()
    with context.cluster.pushes_lost():
        owned = context.cluster.portfolios_on(node)
        if not owned:
            raise NotAvailable(f"{node} owns no portfolio any more")
        _wait_for_uncommitted_events(context, owned[0])
        with context.suspended_node(node):
            context.expect(
                lambda: are_elsewhere(context, owned, node),
                (context.ttl_s + 3) * BUDGET_FACTOR,
                f"{', '.join(owned)} elsewhere than on the frozen {node}",
            )
            context.sleep(1)
        # Usually the daemon sends its pending commits, which are refused. It sends none if it first
        # notices that its lease has expired. The monitor checks throughout that none is accepted.
        end = time.monotonic() + 5
        while not _count_refused_commits(context, since, node) and time.monotonic() < end:
            context.sleep(0.2)
        context.note(f"{_count_refused_commits(context, since, node)} late commits refused")


def are_taken_over(before: Iterable[ClusterRun], now: Mapping[str, ClusterRun]) -> bool:
    """Whether each portfolio has a new owner and runs or gives a reason. Deleted ones count.

    The new owner may be a daemon of the same name: the launcher restarts a dead one.
    """
    return all(
        now[run.name].ownership != run.ownership
        and bool(now[run.name].phase == "running" or now[run.name].reason)
        for run in before
        if run.name in now
    )


def are_elsewhere(context: FaultContext, names: list[str], node: str) -> bool:
    """Whether each portfolio has left `node` and runs or gives a reason. Deleted ones count."""
    runs = context.cluster.runs()
    return all(
        runs[name].node != node and (runs[name].phase == "running" or runs[name].reason)
        for name in names
        if name in runs
    )


def _count_refused_commits(context: FaultContext, since: datetime, node: str) -> int:
    ((count,),) = context.cluster.query(
        "SELECT count(*) FROM scheduling_event e JOIN scheduling_node n ON n.id = e.node_id"
        " WHERE e.kind = 'commit_refused' AND e.at >= %s AND n.name = %s",
        since,
        node,
    )
    return int(count)


def _wait_for_uncommitted_events(context: FaultContext, name: str) -> None:
    """Wait until the portfolio's node has processed events that it has not committed.
    That is so 0.1 s after a commit. Without a commit, return after 5 s."""
    seen = context.cluster.run(name).last_seq
    end = time.monotonic() + 5
    while context.cluster.run(name).last_seq == seen and time.monotonic() < end:
        time.sleep(0.01)
    context.sleep(0.1)  # commits are 0.25 s apart


def terminate_daemon(context: FaultContext) -> None:
    """SIGTERM of a daemon: it releases its portfolios and says goodbye."""
    node, _ = context.choose_proxied_node()
    daemon = context.topology.daemons[node]
    # A second fault may have started another daemon of this name, which owns the portfolios; and
    # a daemon that has only just started owns none yet.
    holder = context.cluster.query("SELECT pid FROM scheduling_node WHERE name = %s", node)
    held = context.cluster.runs_on(node) if holder == [(daemon.pid,)] else ()
    incarnations = {run.incarnation for run in held}
    daemon.send_signal(signal.SIGTERM)
    context.expect(lambda: daemon.poll() is not None, 15 * BUDGET_FACTOR, f"the end of {node}")
    context.expect(
        lambda: not incarnations & {run.incarnation for run in context.cluster.runs_on(node)},
        5,
        f"no portfolio owned by the ended daemon of {node}",
    )
    context.relaunch_if_proxied(node, daemon)


FAULTS = (
    Fault("kill-daemon", kill_daemon, 10),
    Fault("kill-child", kill_child, 3, moves_nothing=True),
    Fault("kill-forkserver", kill_forkserver, 3),
    Fault("freeze-daemon-short", freeze_daemon_short, 3, moves_nothing=True),
    Fault("freeze-daemon-long", freeze_daemon_long, 12, alone=True),
    Fault("terminate-daemon", terminate_daemon, 6),
)
