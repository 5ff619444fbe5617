"""Concurrent changes of a lease: a transaction that waited decides on the state after its wait.

A goodbye changes the node as well as the lease. A transaction that locked only the lease would read
the node as it was before the wait.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from portfolios.models import FeedSegment
from scheduling.db.statements import Statement
from scheduling.db.transaction import django_cursor, execute, query
from scheduling.enact.epoch_floor import raise_epoch_floor
from scheduling.enact.forget import forget
from scheduling.enact.lease import record_goodbye, renew_leases
from scheduling.enact.register import register
from scheduling.errors import Refused
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Event, Handoff, Lease, Node, NodeToken, Run
from scheduling.operations.tokens import revoke_node_tokens
from scheduling.timing import timing
from scheduling.wire.messages import Heartbeat
from tests.support.concurrency import Held, Row, behind, node_row, run_row
from tests.support.factories import (
    FakeNode,
    ago,
    expire_lease,
    make_node,
    make_trader,
    newest_handoff,
    owner,
    register_message,
    tick,
)
from tests.support.refusals import refused

pytestmark = pytest.mark.django_db(transaction=True)


def leaving(node: FakeNode) -> Held:
    """Return the goodbye of this daemon, not committed yet."""
    return Held(record_goodbye(node.row.pk, node.name, node.incarnation, "asked to stop"))


def test_register_that_waited_for_a_goodbye_is_not_an_attempt() -> None:
    hand = make_trader("p", make_node("node-1"))
    FeedSegment.objects.update(from_time=ago(3600))  # an event waits
    assert behind(leaving(hand.daemon), lambda: make_node("node-1")).owns() == ["p"]
    assert hand.run().attempts == 0
    assert Lease.objects.get().takeovers == []


def test_heartbeat_that_waited_for_a_goodbye_does_not_delay_failover() -> None:
    first, second = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", first)
    behind(leaving(first), first.beat, repeats=first)
    assert Node.objects.get(pk=first.row.pk).status == "left"
    tick()
    failover = newest_handoff(hand.portfolio)
    assert (failover.kind, second.ready(failover)) == ("failover", "activating")
    assert owner("p", second).commit(1) == "ok"


def test_no_handoff_targets_a_node_that_said_goodbye() -> None:
    first, second = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", first)
    behind(leaving(second), second.beat, repeats=second)
    assert refused(lambda: hand.move_to(second)).code == "node_lost"
    assert not Handoff.objects.filter(kind="migrate").exists()


def test_heartbeat_interrupted_by_a_goodbye_revives_no_node() -> None:
    node = make_node("node-1")
    Node.objects.update(status="lost")
    message = Heartbeat(incarnation=str(node.incarnation), have_version=0)
    steps = renew_leases([node.row.pk], [message], timing(), GATEWAY_ID)
    asked = next(steps)
    with django_cursor() as cursor:
        late = cursor.execute(asked.sql.encode(), asked.params).fetchall()
    asked = steps.send(late)  # the statement that makes it alive again, each in its own transaction
    execute(record_goodbye(node.row.pk, node.name, node.incarnation, "asked to stop"))
    with django_cursor() as cursor:
        cursor.execute(asked.sql.encode(), asked.params)
    assert Node.objects.get().status == "left"


def test_node_that_is_registering_is_not_forgotten() -> None:
    node = make_node("node-1")
    leaving(node).commit()
    held = Held(register(node.row.pk, node.name, register_message(uuid4()), timing(), GATEWAY_ID))
    refusal = behind(held, lambda: execute(forget("node-1", actor="olive", reason="")))
    assert isinstance(refusal, Refused)
    assert refusal.code == "lease_valid"
    assert Lease.objects.exists()


def test_forget_of_a_node_neither_changes_nor_counts_a_token_revoked_before() -> None:
    node = make_node("node-1")
    NodeToken.objects.create(node=node.row, sha256="a" * 64, revoked_at=ago(60))
    NodeToken.objects.create(node=node.row, sha256="b" * 64)
    expire_lease(node)
    execute(forget("node-1", actor="olive", reason=""))
    assert NodeToken.objects.filter(sha256="a" * 64, revoked_at__lt=ago(50)).exists()
    assert Event.objects.get(kind="node_forgotten").data == {"tokens_revoked": 1}


def test_token_revocation_that_waited_for_another_revokes_and_records_nothing() -> None:
    NodeToken.objects.create(node=make_node("node-1").row, sha256="a" * 64)
    sql = "UPDATE scheduling_nodetoken SET revoked_at = clock_timestamp()"
    held = Held(query(Statement("REVOKE", sql)))
    assert behind(held, lambda: revoke_node_tokens("node-1", actor="olive")) == 0
    assert not Event.objects.filter(kind="node_token_revoked").exists()


def lease_row(node: FakeNode) -> Row:
    return Row("scheduling_lease", "node_id", node.row.pk)


def test_a_register_locks_the_lease_before_its_runs() -> None:
    hand = make_trader("p", make_node("node-1"))
    again = partial(make_node, "node-1")
    assert lease_row(hand.daemon).held_while(again, run_row(hand)) == [True]


def test_the_epoch_floor_locks_leases_then_portfolios_then_runs() -> None:
    hand = make_trader("p", make_node("node-1"))
    portfolio = Row("portfolios_portfolio", "id", hand.portfolio.pk)

    def floor() -> Any:
        return execute(raise_epoch_floor(50, actor="ann"))

    assert lease_row(hand.daemon).held_while(floor, portfolio, run_row(hand)) == [True, True]
    assert portfolio.held_while(floor, run_row(hand)) == [True]


def test_forgetting_a_node_locks_its_lease_then_the_runs_pinned_to_it_then_its_row() -> None:
    hand, gone = make_trader("p", make_node("node-1")), make_node("node-2")
    Run.objects.update(pinned_node=gone.row)
    expire_lease(gone)

    def forgetting() -> Any:
        return execute(forget("node-2", actor="olive", reason=""))

    assert lease_row(gone).held_while(forgetting, run_row(hand), node_row(gone)) == [True, True]
    assert hand.run().pinned_node is None
    again = make_node("node-2")
    Run.objects.update(pinned_node=again.row)
    expire_lease(again)
    assert run_row(hand).held_while(forgetting, node_row(again)) == [True]
