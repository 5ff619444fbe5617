"""The target of a move crashes, restarts or is drained at each step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scheduling import operations
from scheduling.models import Handoff
from tests.integration.enact.handoff.conftest import activating, draining, migrated
from tests.support.crash_injection import World, make_world, resume, violations
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    expire_handoff,
    expire_lease,
    lose,
    make_node,
    make_trader,
    owner,
    run_of,
    state_of,
    tick,
)
from tests.support.refusals import refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return make_world()


Reach = Callable[[OwnerSession, FakeNode], Handoff]
BEFORE_THE_GRANT = pytest.mark.parametrize("reach", [migrated, draining])


def move(world: World, reach: Reach = activating) -> Handoff:
    """Return the move of the portfolio to node-2, at the step that `reach` takes it to."""
    return reach(owner("p", world.first), world.second)


def owner_and_epoch(world: World) -> tuple[str | None, int]:
    at = run_of(world.portfolio)
    return (at.node.name if at.node else None), at.epoch


@BEFORE_THE_GRANT
def test_a_target_that_dies_before_the_grant_leaves_the_portfolio_with_its_source(
    world: World, reach: Reach
) -> None:
    handoff, before = move(world, reach), owner_and_epoch(world)
    expire_lease(world.second)
    tick()
    assert state_of(handoff) == "failed"
    assert owner_and_epoch(world) == before
    assert owner("p", world.first).commit(1) == "ok"
    resume(world)
    assert violations(world) == []


def test_portfolio_returns_to_its_warm_source_if_the_target_dies_after_the_grant(
    world: World,
) -> None:
    handoff = move(world)
    _, granted = owner_and_epoch(world)
    expire_lease(world.second)
    tick()
    assert state_of(handoff) == "rolled_back"
    assert owner_and_epoch(world) == ("node-1", granted + 1)
    assert owner("p", world.first).commit(1) == "ok"
    resume(world)
    assert violations(world) == []


@BEFORE_THE_GRANT
def test_a_target_that_starts_again_before_the_grant_leaves_the_portfolio_with_its_source(
    world: World, reach: Reach
) -> None:
    handoff, before = move(world, reach), owner_and_epoch(world)
    world.second = make_node("node-2")
    assert state_of(handoff) == "failed"
    assert owner_and_epoch(world) == before
    resume(world)
    assert violations(world) == []


def test_a_target_that_starts_again_after_the_grant_goes_on_under_a_new_epoch(world: World) -> None:
    handoff = move(world)
    _, granted = owner_and_epoch(world)
    world.second = make_node("node-2")
    assert owner_and_epoch(world) == ("node-2", granted + 1)
    assert owner("p", world.second).commit(1) == "ok"
    assert state_of(handoff) == "done"
    resume(world)
    assert violations(world) == []


def test_portfolio_moved_to_a_draining_node_arrives_and_leaves(world: World) -> None:
    handoff = move(world, draining)
    operations.drain("node-2", actor="ann")
    resume(world)
    assert state_of(handoff) == "done"
    resume(world)
    # A drain takes what it finds: the move that was under way arrived, and was handed off again.
    assert owner_and_epoch(world)[0] == "node-1"
    assert violations(world) == []


def test_portfolio_of_a_draining_node_keeps_running_if_no_other_node_has_room(world: World) -> None:
    operations.cordon("node-2", actor="ann")
    before = owner_and_epoch(world)
    operations.drain("node-1", actor="ann")
    resume(world)
    assert owner_and_epoch(world) == before
    at = run_of(world.portfolio)
    assert at.phase == "running"
    assert "no room on 1 other node: node-2 cordoned" in at.reason
    assert owner("p", world.first).commit(1) == "ok"


def test_source_capacity_is_reserved_until_the_first_commit() -> None:
    source, target = make_node("node-1", capacity=1), make_node("node-2")
    hand, other = make_trader("p", source), make_trader("q", target)
    handoff = activating(hand, target)
    assert refused(lambda: other.move_to(source)).code == "node_full"
    assert expire_handoff(handoff) == "rolled_back"
    assert source.owns() == ["p"]
    assert hand.commit(1) == "ok"


def test_return_to_the_source_uses_its_reserved_capacity() -> None:
    source, target = make_node("node-1", capacity=1), make_node("node-2")
    handoff = activating(make_trader("p", source), target)
    lose(target)
    row = owner("p", target).fail_over_to(source)
    assert (state_of(handoff), row.target_node_id) == ("superseded", source.row.pk)
