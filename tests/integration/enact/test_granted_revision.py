"""Placement considers the revision that would be granted."""

from __future__ import annotations

import pytest

from portfolios.models import Portfolio, Revision
from scheduling import operations
from scheduling.decide.types import Policy
from scheduling.models import Run
from scheduling.passes.balance import balance
from scheduling.passes.sweep import sweep
from scheduling.timing import timing
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    lose,
    make_running_portfolio,
    make_settled_nodes,
    newest_handoff,
    prove_revision,
)
from tests.support.refusals import refused

pytestmark = pytest.mark.django_db

Nodes = list[FakeNode]


@pytest.fixture
def nodes() -> Nodes:
    return make_settled_nodes(3)


def make_good_portfolio(node: FakeNode) -> OwnerSession:
    """Return a portfolio whose r1 is good and whose wanted r2 needs a version that no node has."""
    hand = OwnerSession(node, make_running_portfolio("p", node, events=1))
    prove_revision(hand.portfolio)
    good = Revision.objects.get()
    Revision.objects.create(
        portfolio=hand.portfolio, number=2, strategy=good.strategy, config=good.config,
        strategy_version=9, symbols=good.symbols, limits=good.limits,
    )  # fmt: skip
    Portfolio.objects.update(revision=2)
    return hand


def run_pass() -> None:
    sweep("s", timing())
    balance("s", timing(), Policy())


def complete_handoff(hand: OwnerSession, nodes: Nodes) -> int:
    """Complete the newest handoff at its target. Return the revision that then runs."""
    handoff = newest_handoff(hand.portfolio)
    (target,) = [node for node in nodes if node.row.pk == handoff.target_node_id]
    assert target.ready(handoff) == "activating"
    assert target.commit("p", 1) == "ok"
    return hand.run().revision


def test_a_wanted_revision_that_no_node_can_run_leaves_the_good_one_running(nodes: Nodes) -> None:
    hand = make_good_portfolio(nodes[0])
    for _ in range(3):
        run_pass()
    at = hand.run()
    assert (at.revision, at.phase, at.attempts) == (1, "running", 0)
    assert Revision.objects.get(number=2).status == "unproven"  # it can still be had
    assert at.reason == (
        "runs r1: node-1 lacks strategy canary 9, which the wanted r2 needs, and 0 of 3 nodes have "
        "it; install it on node-1"
    )


def test_failover_uses_the_good_revision_if_the_wanted_one_cannot_run(nodes: Nodes) -> None:
    hand = make_good_portfolio(nodes[0])
    lose(nodes[0])
    run_pass()
    assert complete_handoff(hand, nodes[1:]) == 1
    # Its process dies until it is taken from the node: what is placed is the good one.
    owner = next(node for node in nodes if node.row.pk == hand.run().node_id)
    on_there = OwnerSession(owner, hand.portfolio)
    for _ in range(2):
        on_there.die(before_first_event=True)
    assert hand.run().phase == "pending"
    Run.objects.update(phase_since="2000-01-01T00:00:00Z")
    run_pass()
    handoff = newest_handoff(hand.portfolio)
    assert (handoff.kind, handoff.to_revision) == ("place", 1)
    assert complete_handoff(hand, nodes[1:]) == 1
    run_pass()
    at = hand.run()
    assert (at.phase, at.attempts) == ("running", 0)
    assert "lacks strategy canary 9, which the wanted r2 needs" in at.reason


def test_start_uses_the_good_revision_if_the_wanted_one_cannot_run(nodes: Nodes) -> None:
    hand = make_good_portfolio(nodes[0])
    assert hand.release(operations.stop("p", actor="ann")).answer == "handed_over"
    operations.start("p", actor="ann")
    placed = newest_handoff(hand.portfolio)
    assert (placed.kind, placed.to_revision) == ("place", 1)


def test_reload_to_a_missing_strategy_is_refused_without_rejecting_it(nodes: Nodes) -> None:
    hand = make_good_portfolio(nodes[0])
    refusal = refused(lambda: operations.reload("p", actor="ann"))
    assert refusal.code == "node_lacks"
    assert refusal.message == (
        "node-1, which runs p, lacks strategy canary 9, which r2 needs; install it there first."
    )
    assert hand.run().phase == "running"
