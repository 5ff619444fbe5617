"""Moves during which a party or the control plane dies, sleeps, restarts or is drained."""

from __future__ import annotations

from chaos.faults.fault import Fault
from chaos.harness.cluster import RunNow
from chaos.runner.fault_context import RESTART_LIMIT_S, WATCHER, WEB, FaultContext

STEPS = ("preparing", "draining", "activating")


def _begin(scene: FaultContext, run: RunNow, target: str) -> int | None:
    """Ask for a move and return at a step of it that the seed chooses, or a little later."""
    handoff = scene.migrate(run, target)
    if handoff is not None:
        scene.wait_for_step(handoff, scene.rng.choice(STEPS))
        scene.sleep(scene.rng.choice((0.0, 0.0, 0.01, 0.03, 0.1)))
        scene.note(f"struck when {scene.state_of(handoff)}")
    return handoff


def control_plane_killed_in_handoff(scene: FaultContext) -> None:
    """Web and watcher are killed at a step of a handoff; it goes on from its row."""
    scene.touch_everything("every commit goes through the web")
    run = scene.portfolio()
    handoff = _begin(scene, run, scene.target_for(run))
    for victim in (scene.parts(WATCHER)[0], scene.parts(WEB)[0]):
        victim.kill()
    scene.expect_end(handoff, 60)
    scene.expect(scene.fleet.answers, RESTART_LIMIT_S, "the API back")


def target_killed(scene: FaultContext) -> None:
    """The target of a handoff is killed at one of its steps."""
    run = scene.portfolio()
    target = scene.target_for(run)
    scene.touch_nodes(target)
    handoff = _begin(scene, run, target)
    scene.kill_node(target)
    scene.expect_end(handoff, 60)
    scene.relaunch_far(target)


def target_restarted(scene: FaultContext) -> None:
    """The target of a handoff is killed and starts anew at once under the same name."""
    run = scene.portfolio()
    target = scene.target_for(run, among=sorted(set(scene.grounds.daemons) - {run.node}))
    scene.touch_nodes(target)
    handoff = _begin(scene, run, target)
    scene.grounds.daemons[target].kill()
    scene.relaunch_far(target)
    scene.expect_end(handoff, 60)


def target_drained(scene: FaultContext) -> None:
    """The target of a handoff is drained at one of its steps."""
    run = scene.portfolio()
    target = scene.target_for(run)
    scene.touch_nodes(target)
    handoff = _begin(scene, run, target)
    scene.undo.callback(scene.do, f"/api/nodes/{target}/undrain/")
    scene.do(f"/api/nodes/{target}/drain/", {"reason": "chaos"})
    scene.expect_end(handoff, 60)
    scene.sleep(4)


def target_sleeps(scene: FaultContext) -> None:
    """The target of a handoff is frozen for longer than its lease."""
    run = scene.portfolio()
    target = scene.target_for(run)
    scene.touch_nodes(target)
    handoff = _begin(scene, run, target)
    with scene.node_held(target):
        scene.expect_end(handoff, 60)
        scene.sleep(scene.ttl_s)


def source_killed(scene: FaultContext) -> None:
    """The source of a handoff is killed at one of its steps."""
    run = scene.portfolio()
    assert run.node is not None
    scene.touch_nodes(run.node)
    handoff = _begin(scene, run, scene.target_for(run))
    scene.kill_node(run.node)
    scene.expect_end(handoff, 60)
    scene.relaunch_far(run.node)


def source_sleeps(scene: FaultContext) -> None:
    """The source of a handoff is frozen for longer than its lease."""
    run = scene.portfolio()
    assert run.node is not None
    scene.touch_nodes(run.node)
    handoff = _begin(scene, run, scene.target_for(run))
    with scene.node_held(run.node):
        scene.expect_end(handoff, 60)
        scene.sleep(scene.ttl_s)


def everything_at_once(scene: FaultContext) -> None:
    """migrate, reload, stop and kill of one portfolio at once, then start."""
    run = scene.portfolio()
    assert run.node is not None
    scene.touch_nodes(run.node)
    acts = [
        ("migrate/", {"target_node": scene.target_for(run)}),
        ("reload/", {}),
        ("stop/", {}),
    ]
    scene.rng.shuffle(acts)
    scene.undo.callback(scene.do, f"/api/portfolios/{run.name}/start/")
    for path, body in acts:
        scene.do(f"/api/portfolios/{run.name}/{path}", body)
    scene.kill_node(run.node)
    scene.expect(
        lambda: (
            scene.fleet.run(run.name).phase == "stopped" and scene.fleet.run(run.name).node is None
        ),
        60,
        f"{run.name} stopped",
        "I8",
    )
    scene.relaunch_far(run.node)


FAULTS = (
    Fault("control-plane-in-handoff", control_plane_killed_in_handoff, 6, alone=True),
    Fault("target-killed", target_killed, 8),
    Fault("target-restarted", target_restarted, 8),
    Fault("target-drained", target_drained, 7),
    Fault("target-sleeps", target_sleeps, 16),
    Fault("source-killed", source_killed, 8),
    Fault("source-sleeps", source_sleeps, 16),
    Fault("all-at-once", everything_at_once, 8),
)
