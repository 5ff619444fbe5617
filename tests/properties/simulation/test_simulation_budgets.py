"""The time budgets in the simulated world, with every push lost (I6), and its bystanders (I7)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.wire.messages import Commit, CommitResult
from tests.simulation import operators
from tests.simulation.gateway import Away
from tests.simulation.rules import PHASES
from tests.simulation.world import QUANTUM_S, World
from tests.support.drawn_examples import examples

SOME = settings(max_examples=examples(8), phases=PHASES)
#: A step that ends within a quantum is seen at its end, and each process looks once a quantum.
SEEN_LATE_S = 2 * QUANTUM_S


def a_world(warm_up_s: float, pushes: str = "lost") -> World:
    """Return three nodes with five portfolios that run, at any phase of their beats."""
    world = World(3, 5)
    world.pushes = pushes
    for node in (1, 2, 3):
        world.start(node)
    world.go_on(15 + warm_up_s)
    assert all(run.phase == "running" for run in world.db.runs.values())
    return world


def longest_gap_s(world: World, portfolio: int, since: float) -> float:
    """Return the longest time between two commits of this portfolio after `since`."""
    times = [c.at for c in world.ledger.accepted[portfolio] if c.at >= since]
    times = [since, *times, world.db.now]
    return max(later - earlier for earlier, later in pairwise(times))


def moved(world: World, portfolios: Sequence[int], epochs: dict[int, int]) -> bool:
    """Return whether each has committed under a higher epoch."""
    runs = [world.db.runs[number] for number in portfolios]
    return all(r.epoch > epochs[r.portfolio_id] and r.first_commit_at is not None for r in runs)


def epochs_of(world: World) -> dict[int, int]:
    """Return portfolio → epoch."""
    return {run.portfolio_id: run.epoch for run in world.db.runs.values()}


def wait_until_moved(
    world: World, portfolios: Sequence[int], epochs: dict[int, int], limit_s: float
) -> None:
    """Let time pass until each has committed under a higher epoch, within `limit_s` (I6)."""
    began = world.db.now
    while not moved(world, portfolios, epochs):
        world.go_on(QUANTUM_S)
        assert world.db.now - began <= limit_s, "I6"


phases = st.sampled_from([n * QUANTUM_S for n in range(21)])


@given(phases, st.sampled_from((1, 2, 3)))
@SOME
def test_lost_node_is_failed_over_within_ttl_plus_3_s(warm_up_s: float, node: int) -> None:
    world = a_world(warm_up_s)
    epochs = epochs_of(world)
    mine = [run.portfolio_id for run in world.db.runs.values() if run.node_id == node]
    assert mine
    died_at = world.db.now
    world.kill(node, host=True)
    wait_until_moved(world, mine, epochs, world.timing.lease_ttl_s + 3 + SEEN_LATE_S)
    for portfolio in set(world.db.runs) - set(mine):
        assert longest_gap_s(world, portfolio, died_at) <= 2, "I7: a bystander paused"
        assert world.db.runs[portfolio].epoch == epochs[portfolio], "I7: a bystander moved"


@given(phases, st.sampled_from((0, 1, 2)), st.sampled_from((1, 2, 3)))
@SOME
def test_frozen_gateway_delays_no_failover_of_a_node_that_dies_meanwhile(
    warm_up_s: float, frozen: int, node: int
) -> None:
    world = a_world(warm_up_s)
    world.gateways[frozen].up = False
    world.go_on(world.timing.heartbeat_interval_s + 3)  # its nodes have found another
    epochs = epochs_of(world)
    mine = [run.portfolio_id for run in world.db.runs.values() if run.node_id == node]
    world.kill(node, host=True)
    wait_until_moved(world, mine, epochs, world.timing.lease_ttl_s + 3 + SEEN_LATE_S)
    for portfolio in set(world.db.runs) - set(mine):
        assert world.db.runs[portfolio].epoch == epochs[portfolio], "I9: another node was lost"


@given(phases, st.sampled_from((1, 2, 3)))
@SOME
def test_restarted_daemon_is_back_within_10_s(warm_up_s: float, node: int) -> None:
    world = a_world(warm_up_s)
    epochs = epochs_of(world)
    mine = [run.portfolio_id for run in world.db.runs.values() if run.node_id == node]
    world.kill(node, host=False)
    world.start(node)
    wait_until_moved(world, mine, epochs, 10)


@given(phases, st.sampled_from((1, 2, 3, 4, 5)), st.booleans())
@SOME
def test_move_takes_10_s_and_pauses_5_s_at_most(
    warm_up_s: float, portfolio: int, reloads: bool
) -> None:
    world = a_world(warm_up_s)
    world.db.frozen = True  # or the balancer evens out what this move makes uneven
    run, began = world.db.runs[portfolio], world.db.now
    epochs = epochs_of(world)
    assert run.node_id is not None
    node = run.node_id if reloads else run.node_id % 3 + 1
    kind = "reload" if reloads else "migrate"
    asked = world.db.execute(operators.move(kind, portfolio, node, None, world.timing))
    while world.db.handoffs[asked.id].state != "done":
        world.go_on(QUANTUM_S)
        assert world.db.now - began <= 10, "I6"
    pause_ms = world.db.handoffs[asked.id].pause_ms
    assert pause_ms is not None
    assert pause_ms <= 5000, "I6"
    for other in set(world.db.runs) - {portfolio}:
        assert longest_gap_s(world, other, began) <= 2, "I7: a bystander paused"
        assert world.db.runs[other].epoch == epochs[other], "I7: a bystander moved"


def cut_off_before_its_first_commit(world: World, portfolio: int, node: int) -> None:
    """Let the node be cut off with the first commit of this portfolio that it would send."""
    cut_off = world.daemon_of(node)
    assert cut_off is not None
    gateway = cut_off.gateway
    send = gateway.commit

    def lose(sender: int, incarnation: UUID, words: Commit) -> CommitResult:
        if (sender, words.portfolio) == (node, portfolio):
            cut_off.cut = True
            raise Away
        return send(sender, incarnation, words)

    gateway.commit = lose  # type: ignore[assignment, method-assign]
    while not cut_off.cut:
        world.go_on(QUANTUM_S)


@given(phases, st.sampled_from((1, 2, 3, 4, 5)))
@SOME
def test_handoff_whose_target_is_cut_off_before_its_first_commit_is_rolled_back_in_time(
    warm_up_s: float, portfolio: int
) -> None:
    world = a_world(warm_up_s)
    world.db.frozen = True
    run, source = world.db.runs[portfolio], world.db.runs[portfolio].node_id
    assert source is not None
    asked = world.db.execute(
        operators.move("migrate", portfolio, source % 3 + 1, None, world.timing)
    )
    handoff = world.db.handoffs[asked.id]
    cut_off_before_its_first_commit(world, portfolio, source % 3 + 1)
    assert (handoff.state, run.node_id) == ("activating", source % 3 + 1)
    began, epochs = world.db.now, epochs_of(world)
    wait_until_moved(world, [portfolio], epochs, world.timing.activate_deadline_s + 3)
    assert (handoff.state, run.node_id) == ("rolled_back", source)
    for other in world.db.runs.values():
        if other.portfolio_id != portfolio and other.node_id != source % 3 + 1:
            assert longest_gap_s(world, other.portfolio_id, began) <= 2, "I7: a bystander paused"
            assert other.epoch == epochs[other.portfolio_id], "I7: a bystander moved"


@given(phases, st.sampled_from((1, 2, 3, 4, 5)))
@SOME
def test_placement_on_a_partitioned_node_is_placed_again(warm_up_s: float, portfolio: int) -> None:
    world = a_world(warm_up_s)
    run = world.db.runs[portfolio]
    world.db.execute(operators.stop(portfolio))
    world.go_on(world.timing.drain_deadline_s + 3)
    assert run.phase == "stopped"
    world.db.execute(operators.start(portfolio))
    asked = world.db.execute(operators.move("place", portfolio, 1, None, world.timing))
    cut_off_before_its_first_commit(world, portfolio, 1)
    assert run.node_id == 1
    handoff, began, epoch = world.db.handoffs[asked.id], world.db.now, run.epoch
    while handoff.state == "activating":
        world.go_on(QUANTUM_S)
        assert world.db.now - began <= world.timing.activate_deadline_s + 3, "I6"
    assert (handoff.state, run.node_id) == ("rolled_back", None)
    # The next choice may be the same node: it is silent, and nobody knows before its lease is over.
    limit_s = world.timing.lease_ttl_s + 12 - (world.db.now - began)
    wait_until_moved(world, [portfolio], {portfolio: epoch}, limit_s)
    assert run.node_id in (2, 3)


@pytest.mark.parametrize("catch_up", ["full", "state_only"])
def test_a_bad_revision_leaves_the_good_one_running(catch_up: str) -> None:
    world = a_world(60)
    world.db.portfolios[1].catch_up = catch_up
    world.go_on(10)
    assert world.db.runs[1].good_revision == 1
    number = world.db.execute(operators.revise(1))
    world.unloadable.add((1, number))
    began = world.db.now
    world.go_on(30)
    assert (world.db.revisions[1, number].status, world.db.runs[1].revision) == ("rejected", 1)
    assert world.db.runs[1].epoch == 1, "I11: it was stopped for a revision that cannot be loaded"
    assert longest_gap_s(world, 1, began) <= 2, "I11"


def test_revision_that_fails_at_an_event_is_rolled_back() -> None:
    world = a_world(60)
    world.go_on(10)
    number = world.db.execute(operators.revise(1))
    world.poison[1, number] = world.head() + 60
    world.go_on(60)
    assert world.db.revisions[1, number].status == "rejected"
    assert (world.db.runs[1].revision, world.db.runs[1].phase) == (1, "running")
    assert world.db.runs[1].last_seq >= world.head(age_s=2), "I11"
