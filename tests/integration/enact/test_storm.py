"""Storms: failover is held for one lease when many nodes are lost at once, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling import operations
from scheduling.db.transaction import django_cursor
from scheduling.enact import storm
from scheduling.models import Event, Handoff, Node, Storm
from scheduling.timing import timing
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    ago,
    expire_lease,
    make_node,
    make_portfolio,
    make_settled_nodes,
    make_trader,
    newest_handoff,
    owner,
    prove_revision,
    run_of,
    serving_since,
    tick,
)
from tests.support.kept_rows import KeptRows
from tests.support.patches import once_planned

pytestmark = pytest.mark.django_db

Nodes = list[FakeNode]
Owners = list[OwnerSession]


def make_fleet() -> Nodes:
    nodes = make_settled_nodes(5)
    for node in nodes[:3]:
        prove_revision(make_trader(f"p-{node.name}", node).portfolio)
    return nodes


FLEET = KeptRows(make_fleet)


@pytest.fixture
def nodes() -> Nodes:
    nodes = FLEET.get()
    serving_since(3600)
    for node in nodes:
        node.beat()
    return nodes


@pytest.fixture
def owners(nodes: Nodes) -> Owners:
    """Return the owners of a portfolio on each of the first three nodes."""
    return [owner(f"p-{node.name}", node) for node in nodes[:3]]


def expire_leases(*nodes: FakeNode, seconds_ago: float = 1) -> None:
    for node in nodes:
        expire_lease(node, seconds_ago)


def lose_three(nodes: Nodes) -> None:
    expire_leases(*nodes[:3])
    tick()


def count_failovers() -> int:
    return Handoff.objects.filter(kind="failover").count()


def reasons_of(kind: str) -> list[str]:
    return list(Event.objects.filter(kind=kind).order_by("id").values_list("reason", flat=True))


def end_hold() -> None:
    """Let the hold have lasted for one TTL."""
    Storm.objects.update(held_at=ago(31), until=ago(1))
    Node.objects.filter(status="lost").update(status_since=ago(31.5))


def test_loss_of_three_of_five_nodes_holds_failover_for_one_ttl(
    nodes: Nodes, owners: Owners
) -> None:
    before = [(hand.run().node_id, hand.run().epoch) for hand in owners]
    lose_three(nodes)
    tick("another watcher")
    assert count_failovers() == 0
    assert [(hand.run().node_id, hand.run().epoch) for hand in owners] == before
    held = Storm.objects.get()
    assert held.held_at is not None and held.until is not None
    assert (held.until - held.held_at).total_seconds() == pytest.approx(30, abs=0.01)
    assert (held.nodes, held.of_nodes) == (["node-1", "node-2", "node-3"], 5)
    told = "3 of 5 nodes were lost within 30 s; failover is held for 30 s"
    assert reasons_of("storm_held") == [told]
    assert "failover is held" in owners[0].run().reason


def test_node_that_returns_during_the_hold_keeps_its_portfolio(
    nodes: Nodes, owners: Owners
) -> None:
    expire_leases(*nodes[:3])
    epoch = owners[0].run().epoch
    tick()
    assert nodes[0].beat().renewed is True
    assert owners[0].commit(1) == "ok"
    end_hold()
    tick()
    assert (owners[0].run().node_id, owners[0].run().epoch) == (nodes[0].row.pk, epoch)
    assert count_failovers() == 2


def test_failover_waits_while_suspect_nodes_may_complete_a_storm(
    nodes: Nodes, owners: Owners
) -> None:
    expire_leases(nodes[0])
    expire_leases(*nodes[1:3], seconds_ago=-3)  # 3 s of their leases are left
    tick()
    assert count_failovers() == 0
    assert not Storm.objects.exists()
    assert "node-2, node-3 are late" in owners[0].run().reason
    nodes[1].beat()
    tick()
    assert count_failovers() == 1


def test_failover_continues_after_the_hold_and_losses_during_the_hold_begin_no_second_storm(
    nodes: Nodes,
) -> None:
    lose_three(nodes)
    expire_leases(nodes[3])
    tick()
    end_hold()
    Node.objects.filter(name="node-4").update(status_since=ago(5))
    for _ in range(2):
        tick()
        assert count_failovers() == 3
    assert len(reasons_of("storm_held")) == len(reasons_of("storm_over")) == 1


def test_operator_releases_the_hold_early(nodes: Nodes) -> None:
    lose_three(nodes)
    assert operations.release_storm(actor="ann", reason="they burned down") is True
    tick()
    assert count_failovers() == 3
    assert (reasons_of("storm_released"), reasons_of("storm_over")) == (["they burned down"], [])
    assert operations.release_storm(actor="ann") is False
    tick()
    assert len(reasons_of("storm_held")) == 1


def test_operator_extends_the_hold(nodes: Nodes, owners: Owners) -> None:
    lose_three(nodes)
    operations.hold_storm(actor="ann", reason="the switch is being replaced")
    Storm.objects.update(held_at=ago(600))
    tick()
    assert count_failovers() == 0
    held = Storm.objects.get()
    assert (held.until, held.held_by, held.of_nodes) == (None, "ann", 5)
    assert "ann holds failover" in owners[0].run().reason
    operations.release_storm(actor="bob")
    tick()
    assert count_failovers() == 3


def test_operator_release_during_a_storm_check_is_not_overwritten(nodes: Nodes) -> None:
    lose_three(nodes)
    stale = storm.update_storm_hold(timing())
    # The other watcher read the losses while the hold was not yet there …
    Storm.objects.update(held_at=None, ended_at=ago(3600))
    step = next(stale)
    rows: list[Any] = []
    while "INSERT INTO scheduling_storm" not in step.sql:
        with django_cursor() as cursor:
            cursor.execute(step.sql, step.params)
            rows = cursor.fetchall() if cursor.description else []
        step = stale.send(rows)
    # … and a person has held and released it since.
    operations.hold_storm(actor="ann", reason="")
    operations.release_storm(actor="ann")
    with django_cursor() as cursor:
        cursor.execute(step.sql, step.params)
        assert cursor.fetchall() == []


def test_hold_blocks_failover_only(nodes: Nodes, owners: Owners) -> None:
    lose_three(nodes)
    new = make_portfolio("new")
    tick()
    assert newest_handoff(new).kind == "place"
    operations.stop("p-node-1", actor="ann")
    assert newest_handoff(owners[0].portfolio).kind == "stop"
    operations.migrate("p-node-2", "node-5", actor="ann")
    # Its owner is lost, so what a person asks for is a failover, and it is done.
    assert newest_handoff(owners[1].portfolio).target_node == nodes[4].row
    assert make_node("node-3").owns() == ["p-node-3"]
    assert Node.objects.get(name="node-3").status == "alive"


def test_a_failover_that_was_planned_before_the_hold_is_refused_when_enacted(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expire_leases(nodes[0])
    once_planned(monkeypatch, lambda: operations.hold_storm(actor="ann", reason=""))
    assert tick().balance.requested == ()
    assert count_failovers() == 0
    assert Storm.objects.get().nodes == []


def test_storm_is_recorded_during_a_freeze_of_failover(nodes: Nodes, owners: Owners) -> None:
    operations.freeze(actor="ann", failover=True)
    lose_three(nodes)
    assert len(reasons_of("storm_held")) == 1
    assert run_of(owners[0].portfolio).reason.endswith("unfreeze, or migrate it manually")
    end_hold()
    tick()
    assert count_failovers() == 0
    operations.unfreeze(actor="ann")
    tick()
    assert count_failovers() == 3
