"""Strategies that loop, eat, exit, raise or dawdle: their neighbours notice nothing."""

from __future__ import annotations

from typing import Any

from chaos.faults.fault import Fault
from chaos.runner.fault_context import PATIENCE, FaultContext, NotAvailable

SYMBOLS = ["IBM", "GE", "HD", "XOM", "CVX", "JPM", "MS", "WFC", "KO", "PEP"]


def _bad_neighbour(
    scene: FaultContext, strategy: str, config: dict[str, Any], seconds: float
) -> None:
    """Run a portfolio that misbehaves for a while, then delete it."""
    name = f"bad-{strategy.replace('_', '-')}-{scene.rng.getrandbits(20):05x}"
    scene.touch(name)
    _know(scene, strategy)
    scene.undo.callback(_delete, scene, name)
    made = scene.do(
        "/api/portfolios/",
        {"name": name, "strategy": strategy, "config": config, "symbols": SYMBOLS},
    )
    if not made:
        return
    scene.sleep(seconds)
    run = scene.fleet.run(name)
    scene.note(f"{run.phase} on {run.node}, epoch {run.epoch}: {run.reason[:200]}")


def _delete(scene: FaultContext, name: str) -> None:
    scene.do(f"/api/portfolios/{name}/", method="DELETE")


def _know(scene: FaultContext, strategy: str) -> None:
    """Raise NotAvailable where no node has the strategy."""
    ((count,),) = scene.fleet.query(
        "SELECT count(*) FROM scheduling_node WHERE strategies ? %s AND status = 'alive'", strategy
    )
    if not count:
        raise NotAvailable(f"no node has the strategy {strategy}")


def looping(scene: FaultContext) -> None:
    """A strategy that never comes back from an event."""
    _bad_neighbour(scene, "looper", {"at_event": 5}, 12)


def exiting(scene: FaultContext) -> None:
    """A strategy that ends its process."""
    _bad_neighbour(scene, "exiter", {"at_event": 5}, 8)


def raising(scene: FaultContext) -> None:
    """A strategy that raises at its n-th event."""
    _bad_neighbour(scene, "raise_at", {"at_event": 12}, 8)


def unloadable(scene: FaultContext) -> None:
    """A strategy that cannot be loaded."""
    _bad_neighbour(scene, "raise_on_load", {}, 6)


def eating(scene: FaultContext) -> None:
    """A strategy that eats memory."""
    _misbehave(scene, "eat_fast")


def killing_its_host(scene: FaultContext) -> None:
    """A strategy that kills the process that hosts it."""
    _misbehave(scene, "kill_its_parent")


def forking(scene: FaultContext) -> None:
    """A strategy that leaves looping grandchildren in sessions of their own."""
    _misbehave(scene, "fork_away")


def printing(scene: FaultContext) -> None:
    """A strategy that prints without end."""
    _misbehave(scene, "print_for_ever")


def deaf(scene: FaultContext) -> None:
    """A strategy that ignores every signal, and loops."""
    _misbehave(scene, "hear_no_signal")


def _misbehave(scene: FaultContext, what: str) -> None:
    _bad_neighbour(scene, "misbehaving", {"what": what, "at_event": 5}, 10)


def slow(scene: FaultContext) -> None:
    """A portfolio that takes half a second for each event."""
    _bad_neighbour(scene, "sleeper", {"seconds": 0.5}, 10)


def poisoned(scene: FaultContext) -> None:
    """A strategy that exits at each start until it is quarantined."""
    name = f"poisoned-{scene.rng.getrandbits(20):05x}"
    scene.touch(name)
    scene.undo.callback(_delete, scene, name)
    made = scene.do(
        "/api/portfolios/",
        {"name": name, "strategy": "exiter", "config": {"at_event": 1}, "symbols": SYMBOLS},
    )
    if made:
        scene.expect(
            lambda: scene.fleet.run(name).phase == "quarantined" and scene.fleet.run(name).reason,
            150,
            f"{name} quarantined, with a reason",
            "I8",
        )


def bad_revision(scene: FaultContext) -> None:
    """A revision that cannot be loaded: the old one runs on, untouched."""
    run = scene.portfolio(but=_canaries(scene))
    _know(scene, "raise_on_load")
    changed = scene.do(
        f"/api/portfolios/{run.name}/", {"strategy": "raise_on_load", "config": {}}, "PATCH"
    )
    if changed:
        _expect_rejected(scene, run.name, run.revision)


def failing_revision(scene: FaultContext) -> None:
    """A revision that fails at its first event: the good one comes back by itself."""
    run = scene.portfolio(but=_canaries(scene))
    changed = scene.do(
        f"/api/portfolios/{run.name}/", {"strategy": "raise_at", "config": {"at_event": 1}}, "PATCH"
    )
    if changed:
        _expect_rejected(scene, run.name, run.revision)


def _expect_rejected(scene: FaultContext, name: str, good: int) -> None:
    """I11: the good revision runs in the end, and the other is marked rejected."""
    before = scene.ask("GET", f"/api/portfolios/{name}/revisions/?limit=1000")
    wanted = (
        max(row["number"] for row in before.json["results"])
        if before and before.status == 200
        else good + 1
    )
    scene.expect(
        lambda: (
            _status(scene, name, wanted) == "rejected"
            and scene.fleet.run(name).revision == good
            and scene.fleet.run(name).phase == "running"
        ),
        30 * PATIENCE,
        f"{name} back on revision {good}, and revision {wanted} rejected",
        "I11",
    )
    # What is wanted is what ran before, under a number of its own.
    answer = scene.ask("GET", f"/api/portfolios/{name}/revisions/?limit=1000")
    if answer and answer.status == 200:
        row = next(row for row in answer.json["results"] if row["number"] == good)
        scene.do(
            f"/api/portfolios/{name}/",
            {"strategy": row["strategy"], "config": row["config"]},
            "PATCH",
        )


def _status(scene: FaultContext, name: str, number: int) -> str:
    found = scene.fleet.query(
        "SELECT v.status FROM portfolios_revision v JOIN portfolios_portfolio p"
        " ON p.id = v.portfolio_id WHERE p.name = %s AND p.archived_at IS NULL AND v.number = %s",
        name,
        number,
    )
    return str(found[0][0]) if found else ""


def _canaries(scene: FaultContext) -> list[str]:
    """Canaries keep their digest over the whole run, so their strategy is never changed."""
    return [name for name in scene.fleet.runs() if name.startswith("canary")]


FAULTS = (
    Fault("strategy-loops", looping, 13),
    Fault("strategy-exits", exiting, 9),
    Fault("strategy-raises", raising, 9),
    Fault("strategy-unloadable", unloadable, 7),
    Fault("strategy-eats-memory", eating, 11),
    Fault("strategy-kills-host", killing_its_host, 11),
    Fault("strategy-forks", forking, 11),
    Fault("strategy-prints", printing, 11),
    Fault("strategy-ignores-signals", deaf, 11),
    Fault("strategy-slow", slow, 11),
    Fault("poisoned-to-quarantine", poisoned, 70, alone=True),
    Fault("bad-revision", bad_revision, 5),
    Fault("failing-revision", failing_revision, 10),
)
