"""kill -9 at each step of a roll-out in the simulated world: it ends, and no owner is missed."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.properties.simulation.test_simulation_budgets import a_world, longest_gap_s
from tests.simulation import operators
from tests.simulation.convergence import check_converged, check_roll_outs_end
from tests.simulation.invariants import check_equals_uninterrupted
from tests.simulation.rules import PHASES
from tests.simulation.world import QUANTUM_S, World
from tests.support.drawn_examples import examples

ROLLED = (1, 2, 3)  #: the first is the canary; 4 and 5 are bystanders
VICTIMS = ("process", "daemon", "host", "web", "pass")
#: A release follows the request of it within a quantum; test_roll_out_crashes cuts that one.
STEPS = ("waiting", "preparing", "activating", "proving", "returning")
#: Until whatever was killed is started again; a host for longer than its lease.
AWAY_S = {"process": 8, "daemon": 8, "host": 40, "web": 8, "pass": 8}
#: A lease, the pass after it, and the time that a new process needs. A gateway that was away
#: judges no lease before it has served for one.
FAILOVER_S = 30 + 8


def is_at(world: World, portfolio: int, step: str) -> bool:
    """Return whether the roll-out has brought this portfolio to a step."""
    items = {i.portfolio_id: i for i in world.db.roll_out_items.values()}
    active = world.db.active(portfolio)
    if step in ("waiting", "proving", "returning"):
        return items[portfolio].state == step
    return items[portfolio].state == "changing" and active is not None and active.state == step


def kill(world: World, victim: str, portfolio: int, fuse: int) -> Callable[[], object]:
    """Kill something that this portfolio needs, a pass after `fuse` statements of its roll-outs.

    Return what starts it again.
    """
    node = world.db.runs[portfolio].node_id
    assert node is not None
    if victim == "web":
        world.set_gateways(up=False)
        return lambda: world.set_gateways(up=True)
    if victim == "pass":
        for number, watcher in enumerate(world.watchers):
            world.kill_in_roll_outs(number, fuse)
            watcher.up = False
        return lambda: [setattr(watcher, "up", True) for watcher in world.watchers]
    if victim == "process":
        daemon = world.daemon_of(node)
        assert daemon is not None
        daemon.child_dies(portfolio, world.now)
        return lambda: None
    world.kill(node, host=victim == "host")
    return lambda: world.start(node)


def check_outcome(world: World, number: int, step: str, victim: str, portfolio: int) -> None:
    """Check that it ended as it would have; or stopped, with the revision before, if a process of a
    revision that is not proven was killed: nobody knows that its code was not at fault."""
    db = world.db
    if (step, victim) == ("proving", "process"):
        assert (db.roll_outs[number].state, db.runs[portfolio].revision) == ("stopped", 1)
        return
    wanted = 1 if step == "returning" else 2
    assert db.roll_outs[number].state == ("back" if step == "returning" else "finished")
    assert [db.runs[each].revision for each in ROLLED] == [wanted] * 3
    assert [db.portfolios[each].revision for each in ROLLED] == [wanted] * 3
    assert all(max(n for whose, n in db.revisions if whose == each) == 2 for each in ROLLED)


@example("proving", "process", 2, 5)
@given(
    st.sampled_from(STEPS), st.sampled_from(VICTIMS), st.sampled_from(ROLLED), st.integers(2, 30)
)
@settings(max_examples=examples(8), phases=PHASES, deadline=None)
def test_a_roll_out_survives_kill_9_at_each_step(
    step: str, victim: str, portfolio: int, fuse: int
) -> None:
    world = a_world(0)
    db, began = world.db, world.db.now
    db.frozen = True  # or the balancer evens out what the death of a node made uneven
    number = db.execute(operators.roll_out([(each, 1) for each in ROLLED], 2, 0.0))
    while not is_at(world, portfolio, step):
        world.go_on(QUANTUM_S)
        proving = all(item.state == "proving" for item in db.roll_out_items.values())
        if step == "returning" and proving:
            db.execute(operators.begin_way_back(number))
        assert db.now - began < 120, f"{portfolio} never is {step}: {db.roll_out_items}"
    restart = kill(world, victim, portfolio, fuse)
    world.go_on(AWAY_S[victim])
    restart()
    world.go_on(60)
    check_roll_outs_end(world)
    check_outcome(world, number, step, victim, portfolio)
    for run in db.runs.values():
        limit_s = FAILOVER_S
        if run.portfolio_id not in ROLLED and victim in ("process", "pass"):
            limit_s = 2  # I7
        gap_s = longest_gap_s(world, run.portfolio_id, began)
        assert gap_s <= limit_s, f"{run.portfolio_id} committed nothing for {gap_s} s"
    check_converged(world)
    check_equals_uninterrupted(db)
