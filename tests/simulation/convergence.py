"""Conditions that must hold a minute after the last fault (I8, I11)."""

from __future__ import annotations

from scheduling.decide.roll_out import OPEN_ITEMS, OPEN_ROLL_OUTS
from tests.simulation import rows
from tests.simulation.world import World

#: Longest time to the end of every roll-out, whose portfolios in turn may each be without an owner
#: for 120 s, change for 240 s and take 660 s to be proven.
ROLL_OUTS_END_S = 2400.0
FRESH_S = 75.0  #: after a grant a reload may still wait for a healthy minute for so long


def check_converged(world: World) -> None:
    """Assert that each portfolio is in its desired state, or its run has a reason."""
    for run in world.db.runs.values():
        portfolio = world.db.portfolios[run.portfolio_id]
        if portfolio.desired_state == "stopped" or portfolio.archived_at is not None:
            assert run.node_id is None, f"I8: a stopped portfolio has an owner: {run}"
        elif run.node_id is None:
            assert run.reason and run.phase in ("pending", "halted", "quarantined"), f"I8: {run}"
        else:
            check_runs(world, run)
            check_revision(world, run)


def check_runs(world: World, run: rows.Run) -> None:
    """Assert that the owner has a process of this epoch that keeps up, or the run has a reason."""
    daemon = world.daemon_of(run.node_id or 0)
    active = world.db.active(run.portfolio_id)
    if run.attempts or active is not None:
        return  # its process fails, or a handoff moves it: the run or the handoff says so
    assert daemon is not None and daemon.incarnation == run.incarnation, f"I8: no owner: {run}"
    hosted = [h for h in daemon.slots.values() if h.portfolio == run.portfolio_id]
    if hosted and hosted[0].phase == "waiting" and hosted[0].ended_at > world.now - 3:
        return  # the process has just exited, and the next heartbeat reports it
    assert [(h.epoch, h.phase) for h in hosted] == [(run.epoch, "running")], f"I8: {run} {hosted}"
    assert run.phase == "running", f"I8: {run}"
    assert run.last_seq >= world.head(age_s=3), (
        f"I8: the owner does not keep up with the feed: {run}"
    )


def check_revision(world: World, run: rows.Run) -> None:
    """Assert that the wanted revision runs, unless it was rejected or interrupted."""
    db, mine = world.db, run.portfolio_id
    wanted = db.revisions[mine, db.portfolios[mine].revision]
    recent = run.granted_at is not None and run.granted_at > db.now - FRESH_S
    if run.revision != wanted.number and wanted.status != "rejected":
        assert recent or db.active(mine) is not None, f"I8: r{wanted.number} is wanted: {run}"
    bad = (mine, run.revision) in world.unloadable
    good = run.good_revision is not None and run.first_commit_at is not None
    assert not (bad and good), f"I11: a revision that cannot be loaded runs: {run}"


def check_roll_outs_end(world: World) -> None:
    """Let time pass until every roll-out is over, and assert that none holds a portfolio."""
    db, began = world.db, world.now
    while any(row.state in OPEN_ROLL_OUTS for row in db.roll_outs.values()):
        assert world.now - began < ROLL_OUTS_END_S, (
            f"I8: a roll-out does not end: {db.roll_outs}, {db.roll_out_items}"
        )
        world.go_on(20)
    left = [item for item in db.roll_out_items.values() if item.state in OPEN_ITEMS]
    assert left == [], "I8: a portfolio of a roll-out that is over can be part of no other"
