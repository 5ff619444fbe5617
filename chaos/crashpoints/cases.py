"""Each step of the handoff protocol at which a process of the control plane dies, and how to get
there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chaos.crashpoints.cluster import FailpointCluster
from chaos.harness.cluster import (
    CANARIES,
    DEMO_NODES,
    PROCESS_MATCH,
    alive,
    family,
    frozen,
    wait_for,
)

FIRES_S = 120.0  #: until the point must have been met; a queue looks at its schedule every 30 s

EXTRA = "rehearsed"
HOLDS = {
    "strategy": "buy_and_hold",
    "config": {"quantity": "7"},
    "symbols": ["IBM", "GE", "HD"],
}


@dataclass
class CaseContext:
    """One time of one step: who it is about."""

    fleet: FailpointCluster
    turn: int
    portfolio: str = ""
    mark: int = 0  #: the newest handoff before it began

    def about(self, portfolio: str) -> None:
        """Say which portfolio's handoff is watched."""
        self.portfolio = portfolio
        ((self.mark,),) = self.fleet.query("SELECT coalesce(max(id), 0) FROM scheduling_handoff")

    def handoff(self) -> tuple[int, str, str] | None:
        """The first handoff that this brought about: number, kind, state."""
        rows = self.fleet.query(
            "SELECT h.id, h.kind, h.state FROM scheduling_handoff h"
            " JOIN portfolios_portfolio p ON p.id = h.portfolio_id"
            " WHERE h.id > %s AND p.name = %s ORDER BY h.id LIMIT 1",
            self.mark,
            self.portfolio,
        )
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else None

    def left(self, *states: str) -> None:
        """Wait until the handoff is in none of these states any more."""
        wait_for(
            self.handoff,
            lambda found: found is not None and found[2] not in states,
            FIRES_S,
            f"the handoff beyond {', '.join(states)}",
        )


#: Brings a process to its point and goes on when it has died there.
CaseAction = Callable[[CaseContext, str, str], None]


@dataclass(frozen=True)
class Step:
    """What dies where, and on what occasion."""

    name: str
    process: str
    point: str
    act: CaseAction


def _met(scene: CaseContext, process: str, point: str) -> None:
    scene.fleet.fired(FIRES_S, f"{process}/{point}")


def _armed(scene: CaseContext, process: str, point: str) -> None:
    scene.fleet.arm(f"{process}/{point}=exit")


def _move(scene: CaseContext) -> None:
    fleet = scene.fleet
    fleet.ask(
        "POST",
        f"/api/portfolios/{scene.portfolio}/migrate/",
        {"target_node": fleet.elsewhere(scene.portfolio)},
    )


def move(scene: CaseContext, process: str, point: str) -> None:
    """A move by hand."""
    scene.about(CANARIES[scene.turn % 3])
    _armed(scene, process, point)
    _move(scene)
    _met(scene, process, point)


def move_activating(scene: CaseContext, process: str, point: str) -> None:
    """A move that has just been granted."""
    scene.about(CANARIES[scene.turn % 3])
    scene.fleet.arm("web/handoff.release:committed=pause(0)")
    _move(scene)
    scene.fleet.fired(FIRES_S, "the grant")
    _armed(scene, process, point)
    _met(scene, process, point)


def move_from_the_silent(scene: CaseContext, process: str, point: str) -> None:
    """A move whose source falls silent before it releases."""
    scene.about(CANARIES[scene.turn % 3])
    source = scene.fleet.daemon(str(scene.fleet.run(scene.portfolio).node))
    scene.fleet.arm("web/handoff.prepared:after_touch=pause(0.6)")
    _move(scene)
    scene.fleet.fired(FIRES_S, "the report")
    with frozen(alive(family(source))):
        _dies_in_a_pass(scene, process, point)
        scene.left("preparing", "draining")


def move_to_the_silent(scene: CaseContext, process: str, point: str) -> None:
    """A move whose target falls silent before its first commit."""
    scene.about(CANARIES[scene.turn % 3])
    target = scene.fleet.daemon(scene.fleet.elsewhere(scene.portfolio))
    scene.fleet.arm("web/handoff.release:after_touch=pause(0.6)")
    _move(scene)
    scene.fleet.fired(FIRES_S, "the grant")
    with frozen(alive(family(target))):
        _dies_in_a_pass(scene, process, point)
        scene.left("preparing", "draining", "activating")


def stop(scene: CaseContext, process: str, point: str) -> None:
    """A stop by hand, started again afterwards."""
    scene.about("ge-sma")
    _armed(scene, process, point)
    scene.fleet.ask("POST", "/api/portfolios/ge-sma/stop/")
    _met(scene, process, point)


def stop_of_the_silent(scene: CaseContext, process: str, point: str) -> None:
    """A stop whose owner does not release in time."""
    scene.about("ge-sma")
    owner = scene.fleet.daemon(str(scene.fleet.run("ge-sma").node))
    with frozen(alive(family(owner))):
        scene.fleet.ask("POST", "/api/portfolios/ge-sma/stop/")
        _dies_in_a_pass(scene, process, point)
        scene.left("draining")


def place(scene: CaseContext, process: str, point: str) -> None:
    """A new portfolio."""
    scene.about(EXTRA)
    _armed(scene, process, point)
    scene.fleet.ask("POST", "/api/portfolios/", {"name": EXTRA, **HOLDS})
    _met(scene, process, point)


def delete(scene: CaseContext, process: str, point: str) -> None:
    """A portfolio that is deleted. A person whose request died asks again."""
    _extra(scene)
    scene.about(EXTRA)
    _armed(scene, process, point)
    scene.fleet.ask("DELETE", f"/api/portfolios/{EXTRA}/")
    _met(scene, process, point)


def bad_reload(scene: CaseContext, process: str, point: str, *, strategy: str) -> None:
    """A change of configuration to one that does not work."""
    _extra(scene)
    wait_for(
        lambda: scene.fleet.query(
            "SELECT r.good_revision FROM scheduling_run r JOIN portfolios_portfolio p"
            " ON p.id = r.portfolio_id WHERE p.name = %s AND p.archived_at IS NULL",
            EXTRA,
        ),
        lambda rows: rows and rows[0][0] is not None,
        FIRES_S,
        "a good revision",
    )
    scene.about(EXTRA)
    _armed(scene, process, point)
    # Soon enough that it raises before it is proven: one that is good has no way back.
    config = {"at_event": 1 + scene.turn % 4} if strategy == "raise_at" else {}
    scene.fleet.ask("PATCH", f"/api/portfolios/{EXTRA}/", {"strategy": strategy, "config": config})
    _met(scene, process, point)


def unloadable(scene: CaseContext, process: str, point: str) -> None:
    """A reload to a strategy that cannot be loaded."""
    bad_reload(scene, process, point, strategy="raise_on_load")


def raising(scene: CaseContext, process: str, point: str) -> None:
    """A reload to a strategy that raises at one of its first events."""
    bad_reload(scene, process, point, strategy="raise_at")


def lose(scene: CaseContext, process: str, point: str) -> None:
    """A node that falls silent for longer than its lease."""
    node = DEMO_NODES[scene.turn % 3]
    names = scene.fleet.on(node)
    scene.about(names[0])
    daemon = scene.fleet.daemon(node)
    with frozen(alive(family(daemon))):
        _dies_in_a_pass(scene, process, point)
        scene.fleet.commits_elsewhere(names, node, 60)


def restart(scene: CaseContext, process: str, point: str) -> None:
    """A daemon that is killed and starts again under its name."""
    node = DEMO_NODES[scene.turn % 3]
    scene.about(scene.fleet.on(node)[0])
    # Else the watcher may give all it had to others before it is back.
    with frozen(alive(scene.fleet.members("watcher"))):
        _armed(scene, process, point)
        scene.fleet.daemon(node).kill()
        _met(scene, process, point)


def _extra(scene: CaseContext) -> None:
    """Have one portfolio more, which runs."""
    fleet = scene.fleet
    fleet.ask("POST", "/api/portfolios/", {"name": EXTRA, **HOLDS})
    wait_for(
        lambda: fleet.runs().get(EXTRA),
        lambda run: run is not None and run.phase == "running" and run.last_seq > 0,
        FIRES_S,
        f"{EXTRA} running",
    )


def _dies_in_a_pass(scene: CaseContext, process: str, point: str) -> None:
    """Let a pass die at the point.

    A step is left to the worker by a watcher, which is quicker, that sleeps until then.
    """
    with frozen(alive(scene.fleet.members("watcher") if process == "worker" else [])):
        _armed(scene, process, point)
        _met(scene, process, point)
        if process == "worker":  # one of several processes died: the others do too
            scene.fleet.kill_all(process)


STEPS = (
    Step("requested, not yet durable", "web", "requests.migrate:after_insert", move),
    Step("requested, answer lost", "web", "requests.migrate:committed", move),
    Step("prepared report, before it counts", "web", "handoff.prepared:after_move", move),
    Step("prepared report, answer lost", "web", "handoff.prepared:committed", move),
    Step("release, before the grant", "web", "handoff.release:after_commit", move),
    Step("grant, not yet durable", "web", "handoff.release:after_grant", move),
    Step("grant, answer lost", "web", "handoff.release:committed", move),
    Step("activating, at a commit", "web", "commit.commit:begin", move_activating),
    Step("activating, a commit's answer lost", "web", "commit.commit:after_commit",
         move_activating),
    Step("drain deadline, the grant", "watcher", "handoff.expire:after_grant",
         move_from_the_silent),
    Step("drain deadline, the grant", "worker", "handoff.expire:after_grant",
         move_from_the_silent),
    Step("rollback, the grant back", "watcher", "handoff.expire:after_grant", move_to_the_silent),
    Step("rollback, the grant back", "worker", "handoff.expire:after_grant", move_to_the_silent),
    Step("reload that cannot prepare", "web", "handoff.step_failed:after_move", unloadable),
    Step("reload that raises, way back", "web", "deaths.died:after_grant", raising),
    Step("place, the grant", "web", "handoff.prepared:after_grant", place),
    Step("stop, the release", "web", "handoff.release:after_grant", stop),
    Step("stop past its deadline", "watcher", "handoff.expire:after_grant", stop_of_the_silent),
    Step("delete, not yet durable", "web", "requests.stop_run:after_insert", delete),
    Step("delete, the release's answer lost", "web", "handoff.release:committed", delete),
    Step("node marked lost", "watcher", "lease.mark_lost:after_mark_lost", lose),
    Step("node marked lost", "worker", "lease.mark_lost:after_mark_lost", lose),
    Step("failover requested", "watcher", "handoff.request_all:after_insert", lose),
    Step("failover requested", "worker", "handoff.request_all:after_insert", lose),
    Step("failover, the grant", "web", "handoff.prepared:after_grant", lose),
    Step("register, the grants", "web", "register.register:after_grant", restart),
)  # fmt: skip

assert all(step.process in PROCESS_MATCH for step in STEPS)
