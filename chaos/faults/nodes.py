"""Nodes that flap, fight over a name, are drained without room, or are gone together."""

from __future__ import annotations

from chaos.faults.fault import Fault
from chaos.harness.cluster import family
from chaos.runner.fault_context import PATIENCE, FaultContext


def flapping(scene: FaultContext) -> None:
    """A node dies three times in a row, as soon as it is back."""
    node, _ = scene.far_node()
    for _ in range(3):
        scene.grounds.daemons[node].kill()
        scene.sleep(scene.rng.uniform(1, 4))
        scene.relaunch_far(node)
        scene.expect(lambda: _is_alive(scene, node), 20 * PATIENCE, f"{node} alive")


def _is_alive(scene: FaultContext, node: str) -> bool:
    ((status, pid),) = scene.fleet.query(
        "SELECT status, pid FROM scheduling_node WHERE name = %s", node
    )
    return status == "alive" and pid == scene.grounds.daemons[node].pid


def name_twice(scene: FaultContext) -> None:
    """A second daemon under the name of one that beats: the newer wins, the older ends."""
    node, _ = scene.far_node()
    older = scene.grounds.daemons[node]
    scene.grounds.launch(node)
    scene.expect(lambda: older.poll() is not None, 15 * PATIENCE, f"the older {node} ended")
    if older.poll() == 0:
        scene.report("fault", f"the superseded {node} ended with exit code 0", {})
    if older.poll() is None:
        older.kill()


def drained(scene: FaultContext) -> None:
    """A node is drained, and undrained."""
    node = scene.node()
    scene.undo.callback(scene.do, f"/api/nodes/{node}/undrain/")
    scene.do(f"/api/nodes/{node}/drain/", {"reason": "chaos"})
    scene.expect(lambda: not scene.fleet.on(node), 30 * PATIENCE, f"nothing left on {node}", "I8")


def drained_without_room(scene: FaultContext) -> None:
    """A node is drained while all others are cordoned: what has no place stays running."""
    node = scene.node()
    for other in scene.grounds.nodes:
        if other != node:
            scene.undo.callback(scene.do, f"/api/nodes/{other}/uncordon/")
            scene.do(f"/api/nodes/{other}/cordon/", {"reason": "chaos"})
    had = scene.fleet.on(node)
    scene.undo.callback(scene.do, f"/api/nodes/{node}/undrain/")
    scene.do(f"/api/nodes/{node}/drain/", {"reason": "chaos"})
    scene.sleep(6)
    for name in had:
        run = scene.fleet.run(name)
        if run.node != node or run.phase != "running":
            scene.report("I8", f"{name} had no other place and is {run.phase} on {run.node}", {})


def most_gone(scene: FaultContext) -> None:
    """Three of five nodes are frozen at once for longer than their lease."""
    chosen = scene.rng.sample(sorted(scene.grounds.nodes), 3)
    scene.touch_nodes(*chosen)
    scene.touch_everything("what is left may have no room")
    frozen = [process for node in chosen for process in family(scene.daemon(node))]
    with scene.held(frozen):
        scene.sleep(scene.ttl_s * 3)
    scene.note(f"{', '.join(chosen)} gone")


def most_killed(scene: FaultContext) -> None:
    """Three of five nodes are killed at once."""
    chosen = scene.rng.sample(sorted(scene.grounds.nodes), 3)
    scene.touch_nodes(*chosen)
    scene.touch_everything("what is left may have no room")
    for node in chosen:
        scene.kill_node(node)
    scene.sleep(scene.ttl_s)
    for node in chosen:
        scene.relaunch_far(node)


def restarted(scene: FaultContext) -> None:
    """A daemon is restarted at once under its name: it takes its portfolios back."""
    node, _ = scene.far_node()
    had = scene.fleet.on(node)
    scene.grounds.daemons[node].kill()
    scene.relaunch_far(node)
    scene.expect(lambda: _is_alive(scene, node), 20 * PATIENCE, f"{node} alive")
    scene.note(f"{len(set(had) & set(scene.fleet.on(node)))} of {len(had)} stayed")


FAULTS = (
    Fault("flapping-node", flapping, 20),
    Fault("name-twice", name_twice, 6),
    Fault("drain", drained, 6),
    Fault("drain-without-room", drained_without_room, 8, alone=True),
    Fault("most-nodes-gone", most_gone, 20, alone=True),
    Fault("most-nodes-killed", most_killed, 8, alone=True),
    Fault("daemon-restarted", restarted, 5),
)
