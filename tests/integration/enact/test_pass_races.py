"""Sweeps, passes, heartbeats and registrations at one moment: the invariants hold."""

# ruff: noqa: B023 (what is done at once is done before the loop goes on)

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest

from ginkgo_site.database import conninfo
from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.lease import mark_lost
from scheduling.enact.register import register
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Event, Handoff, Node
from scheduling.scheduler import Scheduler
from scheduling.timing import timing
from tests.support.concurrency import Held, assert_invariants, at_once, behind, draining
from tests.support.factories import (
    OwnerSession,
    expire_lease,
    make_node,
    make_portfolio,
    make_trader,
    owner,
    register_message,
    serving_since,
)

pytestmark = pytest.mark.django_db(transaction=True)


ROUNDS = 3


def test_two_sweeps_at_once_mark_a_node_lost_and_fail_over_once() -> None:
    first = make_node("node-1")
    make_node("node-2")
    hand = make_trader("p", first)
    serving_since(3600)
    expire_lease(first)
    at_once(lambda: Scheduler("a").tick(), lambda: Scheduler("b").tick())
    Scheduler("c").tick()
    assert Event.objects.filter(kind="node_lost").count() == 1
    assert Handoff.objects.filter(portfolio=hand.portfolio, kind="failover").count() == 1


def test_passes_that_overlap_after_the_pass_lock_expired_place_a_portfolio_once() -> None:
    make_node("node-1")
    portfolio = make_portfolio("p")
    at_once(*(Scheduler(name).assign_portfolios for name in "abc"))
    assert Handoff.objects.filter(portfolio=portfolio).count() == 1


def test_heartbeat_that_waited_for_the_sweep_revives_its_node() -> None:
    node = make_node("node-1")
    serving_since(3600)
    expire_lease(node)
    held = Held(mark_lost(timing()))
    assert [row.name for row in held.outcome] == ["node-1"]
    assert behind(held, node.beat, repeats=node).renewed is True
    assert Node.objects.get().status == "alive"


def test_sweep_during_a_heartbeat_marks_no_node_lost() -> None:
    node = make_node("node-1")
    serving_since(3600)
    expire_lease(node)
    with psycopg.connect(conninfo()) as beating:
        beating.execute("UPDATE scheduling_lease SET expires_at = clock_timestamp() + '30 s'")
        assert execute(mark_lost(timing())) == []


def test_heartbeat_that_waited_for_a_newer_registration_is_superseded() -> None:
    node, newer = make_node("node-1"), uuid4()
    held = Held(register(node.row.pk, node.name, register_message(newer), timing(), GATEWAY_ID))
    answer = behind(held, node.beat, repeats=node)
    # `unknown` is told to the holder only, who then registers, and would take it back.
    assert (answer.renewed, answer.held_by) == (False, newer)


def test_concurrent_register_and_commit_accept_or_fence_the_whole_commit() -> None:
    hand = make_trader("p", make_node("node-1"))
    for _ in range(ROUNDS):
        zombie = OwnerSession(hand.daemon, hand.portfolio)
        words, at = zombie.next_commit(3), hand.run()
        expire_lease(hand.daemon)
        answer, again = at_once(lambda: zombie.send(words).answer, lambda: make_node("node-1"))
        assert (answer, hand.run().last_seq - at.last_seq) in [("ok", 3), ("fenced", 0)]
        assert hand.run().epoch == at.epoch + 1
        hand = owner("p", again)
        assert hand.commit(1) == "ok"
        assert_invariants(hand)


def test_registers_of_both_nodes_during_a_release_leave_the_portfolio_with_an_owner() -> None:
    for _ in range(ROUNDS):
        hand, _, handoff = draining()
        words = hand.release_message(handoff)
        expire_lease(hand.daemon)
        outcomes = at_once(
            lambda: hand.daemon.release(words).answer,
            lambda: make_node("node-1"),
            lambda: make_node("node-2"),
        )
        assert outcomes[0] in ("handed_over", "keep", "fenced")
        daemons = {d.row.pk: d for d in outcomes[1:]}
        Scheduler("a").tick(rebalance=False)
        for daemon in daemons.values():
            daemon.prepare()
        assert owner("p", daemons[hand.run().node_id or 0]).commit(1) == "ok"
        assert_invariants(hand)
        operations.delete_portfolio("p", actor="ann")
