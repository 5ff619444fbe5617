"""A node whose wire to the server is cut while both go on living."""

from __future__ import annotations

from chaos.faults.daemons import _left
from chaos.faults.fault import Fault
from chaos.runner.fault_context import PATIENCE, FaultContext


def silence_short(scene: FaultContext) -> None:
    """Silence on open connections for two thirds of a lease."""
    _, wire = scene.far_node()
    with wire.silent():
        scene.sleep(scene.ttl_s * 20 / 30)


def silence_long(scene: FaultContext) -> None:
    """Silence on open connections for three leases."""
    node, wire = scene.far_node()
    had = scene.fleet.on(node)
    with wire.silent():
        scene.expect(
            lambda: _left(scene, had, node),
            (scene.ttl_s + 3) * PATIENCE,
            f"{', '.join(had)} elsewhere than on the silent {node}",
        )
        scene.sleep(scene.ttl_s)


def silence_to_server(scene: FaultContext) -> None:
    """Nothing reaches the server, while its words reach the node."""
    _, wire = scene.far_node()
    with wire.silent(to_node=False):
        scene.sleep(scene.ttl_s * 1.5)


def silence_to_node(scene: FaultContext) -> None:
    """Nothing reaches the node: its beats and commits count, and it hears no answer."""
    _, wire = scene.far_node()
    with wire.silent(to_server=False):
        scene.sleep(scene.ttl_s * 1.5)


def resets(scene: FaultContext) -> None:
    """Every connection of a node is reset, again and again."""
    _, wire = scene.far_node()
    for _ in range(8):
        wire.reset()
        scene.sleep(scene.rng.uniform(0.1, 0.6))


def answers_lost(scene: FaultContext) -> None:
    """Commits arrive and their answers are lost; the repeats write nothing."""
    _, wire = scene.far_node()
    for _ in range(3):
        with wire.silent(to_server=False):
            scene.sleep(0.5)
            wire.reset()
        scene.sleep(1)


def release_answer_lost(scene: FaultContext) -> None:
    """A release arrives and its answer is lost."""
    node, wire = scene.far_node()
    run = scene.portfolio(on=node)
    handoff = scene.migrate(run, scene.target_for(run))
    if handoff is None:
        return
    scene.wait_for_step(handoff, "draining")
    with wire.silent(to_server=False):
        scene.sleep(scene.rng.uniform(0.05, 0.5))
        wire.reset()
    scene.expect_end(handoff, 20 * PATIENCE)


FAULTS = (
    Fault("silence-short", silence_short, 5, moves_nothing=True),
    Fault("silence-long", silence_long, 16),
    Fault("silence-to-server", silence_to_server, 10),
    Fault("silence-to-node", silence_to_node, 10),
    Fault("resets", resets, 5, moves_nothing=True),
    Fault("answers-lost", answers_lost, 6, moves_nothing=True),
    Fault("release-answer-lost", release_answer_lost, 4),
)
