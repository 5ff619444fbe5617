"""Pushes that are lost, repeated, or late and out of order: they cost time and no truth."""

from __future__ import annotations

from chaos.faults.daemons import taken_over
from chaos.faults.fault import Fault
from chaos.harness.pg_notify import REORDERING, REPEATING
from chaos.runner.fault_context import PATIENCE, FaultContext


def lost_while_moving(scene: FaultContext) -> None:
    """Every push is lost while a portfolio moves and another reloads."""
    with scene.fleet.no_pushes():
        _move_and_reload(scene)


def lost_while_dying(scene: FaultContext) -> None:
    """Every push is lost while a daemon dies."""
    node = scene.node()
    had = scene.fleet.runs_on(node)
    with scene.fleet.no_pushes():
        scene.kill_node(node)
        scene.expect(
            lambda: taken_over(had, scene.fleet.runs()),
            (scene.ttl_s + 3) * PATIENCE,
            f"{', '.join(run.name for run in had)} taken over without pushes",
            "I6",
        )
    scene.relaunch_far(node)


def repeated(scene: FaultContext) -> None:
    """Every push arrives three times."""
    with scene.fleet.other_pushes(REPEATING):
        _move_and_reload(scene)
        scene.sleep(2)


def reordered(scene: FaultContext) -> None:
    """Pushes arrive late and out of order: each waits for the one after it."""
    with scene.fleet.other_pushes(REORDERING):
        _move_and_reload(scene)
        scene.sleep(2)


def _move_and_reload(scene: FaultContext) -> None:
    run = scene.portfolio()
    other = scene.portfolio(but=[run.name])
    handoff = scene.migrate(run, scene.target_for(run))
    begun = scene.do(f"/api/portfolios/{other.name}/reload/")
    scene.expect_end(handoff, 10 * PATIENCE)
    scene.expect_end(int(begun["id"]) if begun else None, 10 * PATIENCE)


FAULTS = (
    Fault("pushes-lost", lost_while_moving, 8, alone=True),
    Fault("pushes-lost-and-death", lost_while_dying, 12, alone=True),
    Fault("pushes-repeated", repeated, 5, alone=True),
    Fault("pushes-reordered", reordered, 6, alone=True),
)
