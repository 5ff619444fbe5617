"""What tests of handoffs begin with: two nodes, a portfolio, and a handoff at one of its steps."""

from __future__ import annotations

import pytest

from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.handoff import expire
from scheduling.models import Handoff
from scheduling.timing import timing
from tests.support.factories import FakeNode, OwnerSession, begin_reload, make_node


@pytest.fixture
def source(node: FakeNode) -> FakeNode:
    return node


@pytest.fixture
def target() -> FakeNode:
    return make_node("node-2")


def migrated(hand: OwnerSession, target: FakeNode) -> Handoff:
    return operations.migrate(hand.portfolio.name, target.name, actor="ann")


def draining(hand: OwnerSession, target: FakeNode) -> Handoff:
    handoff = migrated(hand, target)
    assert target.ready(handoff) == "draining"
    return handoff


def activating(hand: OwnerSession, target: FakeNode) -> Handoff:
    handoff = draining(hand, target)
    assert hand.release(handoff).answer == "handed_over"
    return handoff


def failing_over(hand: OwnerSession, target: FakeNode) -> Handoff:
    row = hand.fail_over_to(target, to_revision=1, seen_epoch=hand.run().epoch)
    return Handoff.objects.get(pk=row.id)


def error(handoff: Handoff) -> str:
    return Handoff.objects.get(pk=handoff.pk).error


def revised(hand: OwnerSession) -> Handoff:
    """Return the reload to revision 2 that a change of the limits begins."""
    return begin_reload(hand.portfolio.name)


def expire_if_late(handoff: Handoff) -> None:
    """Expire a handoff that is late, as the sweep does. Its deadline is not moved."""
    execute(expire(handoff.pk, timing()))
