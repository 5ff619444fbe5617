"""Processes of a node that die or sleep."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Mapping
from datetime import datetime

import psutil

from chaos.faults.fault import Fault
from chaos.harness.cluster import RunNow, alive, family
from chaos.runner.fault_context import PATIENCE, FaultContext


def kill_daemon(scene: FaultContext) -> None:
    """kill -9 of a daemon; its portfolios go elsewhere and none of its processes stays."""
    node = scene.node()
    had = scene.fleet.on(node)
    everything = family(scene.daemon(node))
    scene.kill_node(node)
    scene.expect(lambda: not alive(everything), 2 * PATIENCE, f"all processes of {node} gone")
    for name in had:
        scene.expect(
            lambda name=name: (
                scene.fleet.run(name).phase != "running"  # type: ignore[misc]
                or scene.fleet.run(name).node != node
            ),
            (scene.ttl_s + 3) * PATIENCE,
            f"{name} away from {node}",
        )
    scene.relaunch_far(node)


def kill_child(scene: FaultContext) -> None:
    """kill -9 of one portfolio's process; it starts again in place."""
    run = scene.portfolio()
    answer = scene.ask("GET", f"/api/portfolios/{run.name}/")
    pid = answer.json["run"]["pid"] if answer and answer.status == 200 else None
    if pid:
        psutil.Process(pid).kill()
        scene.expect(
            lambda: scene.fleet.run(run.name).last_seq > run.last_seq, 20, f"{run.name} going on"
        )


def kill_forkserver(scene: FaultContext) -> None:
    """kill -9 of the process that a node's children are forked from."""
    node = scene.node()
    for child in scene.daemon(node).children():
        child.kill()
    scene.sleep(1)


def freeze_daemon_short(scene: FaultContext) -> None:
    """SIGSTOP of a daemon for less than its lease."""
    node = scene.node()
    with scene.node_held(node):
        scene.sleep(scene.ttl_s * 12 / 30)


def freeze_daemon_long(scene: FaultContext) -> None:
    """SIGSTOP of a daemon beyond its lease; what the woken one commits is refused."""
    node = scene.node()
    scene.touch_everything("pushes are lost, so that the zombie does not hear of it first")
    since = scene.fleet.now()
    with scene.fleet.no_pushes():
        had = scene.fleet.on(node)
        _wait_for_work_in_hand(scene, had[0])
        with scene.node_held(node):
            scene.expect(
                lambda: _left(scene, had, node),
                (scene.ttl_s + 3) * PATIENCE,
                f"{', '.join(had)} elsewhere than on the frozen {node}",
            )
            scene.sleep(1)
        # Most often it commits what it had in hand, and is refused; one that hears first that its
        # lease is over has nothing to say. That nothing of it counts is judged all along.
        end = time.monotonic() + 5
        while not _refused(scene, since, node) and time.monotonic() < end:
            scene.sleep(0.2)
        scene.note(f"{_refused(scene, since, node)} late commits refused")


def taken_over(before: Iterable[RunNow], now: Mapping[str, RunNow]) -> bool:
    """Whether each that is still there has another owner, and runs or says why not.

    The other one may be a daemon of the same name: the house starts a dead one again.
    """
    return all(
        now[run.name].ownership != run.ownership
        and bool(now[run.name].phase == "running" or now[run.name].reason)
        for run in before
        if run.name in now
    )


def _left(scene: FaultContext, names: list[str], node: str) -> bool:
    runs = scene.fleet.runs()
    return all(
        runs[name].node != node and (runs[name].phase == "running" or runs[name].reason)
        for name in names
        if name in runs
    )


def _refused(scene: FaultContext, since: datetime, node: str) -> int:
    ((count,),) = scene.fleet.query(
        "SELECT count(*) FROM scheduling_event e JOIN scheduling_node n ON n.id = e.node_id"
        " WHERE e.kind = 'commit_refused' AND e.at >= %s AND n.name = %s",
        since,
        node,
    )
    return int(count)


def _wait_for_work_in_hand(scene: FaultContext, name: str) -> None:
    """Return between two commits, when there is something that is not committed yet."""
    seen = scene.fleet.run(name).last_seq
    end = time.monotonic() + 5
    while scene.fleet.run(name).last_seq == seen and time.monotonic() < end:
        time.sleep(0.01)
    scene.sleep(0.1)  # commits are 0.25 s apart


def terminate_daemon(scene: FaultContext) -> None:
    """SIGTERM of a daemon: it hands everything over and says goodbye."""
    node, _ = scene.far_node()
    daemon = scene.grounds.daemons[node]
    # Another daemon of its name, which the other one of two faults may start, may hold them then;
    # and one that has only just been started holds nothing yet.
    holder = scene.fleet.query("SELECT pid FROM scheduling_node WHERE name = %s", node)
    held = scene.fleet.runs_on(node) if holder == [(daemon.pid,)] else ()
    its = {run.incarnation for run in held}
    daemon.send_signal(signal.SIGTERM)
    scene.expect(lambda: daemon.poll() is not None, 15 * PATIENCE, f"the end of {node}")
    scene.expect(
        lambda: not its & {run.incarnation for run in scene.fleet.runs_on(node)},
        5,
        f"nothing left with the daemon of {node} that ended",
    )
    scene.relaunch_far(node, daemon)


FAULTS = (
    Fault("kill-daemon", kill_daemon, 10),
    Fault("kill-child", kill_child, 3, moves_nothing=True),
    Fault("kill-forkserver", kill_forkserver, 3),
    Fault("freeze-daemon-short", freeze_daemon_short, 3, moves_nothing=True),
    Fault("freeze-daemon-long", freeze_daemon_long, 12, alone=True),
    Fault("terminate-daemon", terminate_daemon, 6),
)
