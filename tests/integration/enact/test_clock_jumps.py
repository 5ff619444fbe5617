"""Jumps of the database's clock by a minute, forward or back, move nothing and end no judgement.

The clock is set inside the database, so that every statement of the product reads it. It is right
again when the test's transaction is rolled back.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from django.db import connection

from chaos.harness.pg_clock import set_clock
from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.lease import record_gateway_alive
from scheduling.enact.pass_lock import acquire, record_pass, record_watcher_seen
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Alert, Event, Handoff, Lease, Node, PassLock, Run, Storm
from scheduling.timing import timing
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    make_node,
    make_trader,
    prove_revision,
    tick,
)
from tests.support.kept_rows import KeptRows

pytestmark = pytest.mark.django_db


def value_of(sql: str, *parameters: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0]  # type: ignore[index]


class Clock:
    def __init__(self) -> None:
        self._off_s = 0.0
        self.jump(0)
        with connection.cursor() as cursor:
            off = "make_interval(secs => current_setting('test.off_s')::float)"
            # Time of the machine counts for a hundredth: a busy one is slow with the steps.
            off += " - 0.99 * (pg_catalog.clock_timestamp_true() - transaction_timestamp())"
            for statement in set_clock(off, is_set=False):
                cursor.execute(statement)

    def jump(self, seconds: float) -> None:
        """Move the clock by `seconds`: in these tests, time passes in hardly any other way."""
        self._off_s += seconds
        value_of("SELECT set_config('test.off_s', %s, true)", str(self._off_s))

    def jump_to(self, when: datetime) -> None:
        self.jump((when - _database_now()).total_seconds())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nodes(clock: Clock) -> list[FakeNode]:
    """Return four nodes alive for more than two leases, each with a portfolio."""
    found, when = NODES.get(clock)
    clock.jump_to(when)
    return found


def make_beating_nodes(clock: Clock) -> tuple[list[FakeNode], datetime]:
    """Return the nodes of the fixture `nodes`, newly made, and the database's time afterwards."""
    execute(record_gateway_alive(timing(), GATEWAY_ID))
    found = [make_node(f"node-{n}") for n in range(1, 5)]
    for node in found:
        prove_revision(make_trader(f"p-{node.name}", node).portfolio)
    let_time_pass(clock, found, 70)
    return found, _database_now()


NODES = KeptRows(make_beating_nodes)


def let_time_pass(clock: Clock, beating: list[FakeNode], seconds: int) -> None:
    """Let time pass in steps of 5 s, with the writes of gateway, nodes and watcher."""
    for step in range(0, seconds, 5):
        for _ in range(5):
            clock.jump(1)
            execute(record_gateway_alive(timing(), GATEWAY_ID))
        for node in beating if step % 10 == 0 else ():
            node.beat()
            for name in node.owns():
                at = Run.objects.get(portfolio__name=name)
                OwnerSession(node, at.portfolio).commit(max(1, head() - at.last_seq))
        tick()


def head() -> int:
    """Return the newest released seq by the clock as it is set."""
    return int(value_of(
        "SELECT floor(from_seq + rate * extract(epoch FROM clock_timestamp() - from_time)) "
        "FROM portfolios_feedsegment ORDER BY id DESC LIMIT 1"
    ))  # fmt: skip


def ownership() -> list[tuple[Any, ...]]:
    return list(Run.objects.order_by("pk").values_list("node_id", "incarnation", "epoch"))


def lost_nodes() -> list[str]:
    return sorted(Node.objects.filter(status="lost").values_list("name", flat=True))


def count_moves() -> int:
    return Handoff.objects.filter(kind__in=("failover", "migrate", "stop")).count()


@pytest.mark.parametrize("jump", [60.0, -60.0])
def test_clock_jump_moves_no_portfolio_and_opens_no_alert(
    clock: Clock, nodes: list[FakeNode], jump: float
) -> None:
    before: tuple[Any, ...] = ownership(), [], count_moves()
    clock.jump(jump)
    tick()  # before the first heartbeat and pulse
    assert lost_nodes() == []
    let_time_pass(clock, nodes, 90)
    assert (ownership(), lost_nodes(), count_moves()) == before
    assert not Storm.objects.exists()
    assert list(Alert.objects.values_list("kind", "reason")) == []
    assert not Event.objects.filter(kind="node_lost").exists()


@pytest.mark.parametrize("jump", [60.0, -60.0])
def test_node_lost_at_a_clock_jump_is_detected_within_two_leases(
    clock: Clock, nodes: list[FakeNode], jump: float
) -> None:
    clock.jump(jump)
    let_time_pass(clock, nodes[1:], 25)
    assert lost_nodes() == []
    # 40 s: one TTL after the pulse that noticed the jump, and one heartbeat interval
    let_time_pass(clock, nodes[1:], 15)
    assert lost_nodes() == ["node-1"]
    assert Handoff.objects.filter(kind="failover").count() == 1


def test_no_lease_exceeds_its_ttl_after_a_jump_back(clock: Clock, nodes: list[FakeNode]) -> None:
    clock.jump(-60)
    tick()
    left_s = "SELECT max(extract(epoch FROM expires_at - clock_timestamp())) FROM scheduling_lease"
    assert value_of(left_s) <= 30


def test_pass_lock_expires_after_a_jump_back(clock: Clock, nodes: list[FakeNode]) -> None:
    execute(acquire("a worker that has dropped it"))
    PassLock.objects.filter(name="pass").update(until=_database_now())
    clock.jump(-60)
    assert tick().ran is True


def test_jump_forward_opens_no_missing_pass_alert(clock: Clock, nodes: list[FakeNode]) -> None:
    execute(record_watcher_seen("w"))
    execute(record_pass())
    clock.jump(60)
    execute(record_watcher_seen("w"))
    tick()
    assert list(Alert.objects.values_list("kind", "reason")) == []


def test_jump_back_does_not_extend_a_storm_hold(clock: Clock, nodes: list[FakeNode]) -> None:
    let_time_pass(clock, nodes[2:], 45)  # two of four are gone
    assert Storm.objects.get().held_at is not None
    clock.jump(-60)
    let_time_pass(clock, nodes[2:], 40)
    assert Storm.objects.get().held_at is None
    assert Event.objects.filter(kind="storm_held").count() == 1


def test_jump_back_does_not_end_an_operators_hold(clock: Clock, nodes: list[FakeNode]) -> None:
    operations.hold_storm(actor="ann")
    operations.release_storm(actor="ann")
    operations.hold_storm(actor="ann")
    clock.jump(-60)
    let_time_pass(clock, nodes, 40)
    assert (Storm.objects.get().held_at is None, Storm.objects.get().until) == (False, None)


def _database_now() -> datetime:
    now = value_of("SELECT clock_timestamp()")
    assert isinstance(now, datetime)
    return now


def test_statements_read_the_test_clock_of_the_database(
    clock: Clock, nodes: list[FakeNode]
) -> None:
    before = Lease.objects.get(node=nodes[0].row).expires_at
    clock.jump(1000)
    nodes[0].beat()
    after = Lease.objects.get(node=nodes[0].row).expires_at
    assert 995 < (after - before).total_seconds() < 1045
