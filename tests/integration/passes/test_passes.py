"""Sweep, balance and the pass lock: what one tick does."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from psycopg.errors import DeadlockDetected, LockNotAvailable

from scheduling import operations, scheduler, tasks
from scheduling.db.statements import Statement
from scheduling.db.transaction import execute
from scheduling.enact import alerts, handoff, revisions, stalls, unheld_runs
from scheduling.enact.pass_lock import acquire, record_watcher_seen, release
from scheduling.errors import SnapshotUnavailable
from scheduling.models import Event, Handoff, Lease, PassLock, Run
from scheduling.observe import snapshot
from scheduling.observe.fleet_view import portfolios as portfolio_views
from scheduling.observe.fleet_view import read as fleet_read
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.observe.snapshot import observe
from scheduling.passes.sweep import sweep
from scheduling.timing import timing
from tests.support.api_client import counted_transactions
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    ago,
    begin_reload,
    expire_lease,
    lose,
    make_node,
    make_portfolio,
    make_trader,
    newest_handoff,
    owner,
    prove_revision,
    run_of,
    serving_since,
    tick,
)
from tests.support.patches import note_calls, raising

pytestmark = pytest.mark.django_db


# --- the lock ------------------------------------------------------------------------------------


def test_one_process_holds_the_pass_lock_and_may_renew_it() -> None:
    assert execute(acquire("a")) is True
    assert execute(acquire("b")) is False
    assert execute(acquire("a")) is True
    execute(release("b"))
    assert execute(acquire("b")) is False
    execute(release("a"))
    assert execute(acquire("b")) is True


def test_the_pass_lock_of_a_frozen_process_expires_after_five_seconds() -> None:
    execute(acquire("frozen"))
    assert ago(-4) < PassLock.objects.get().until <= ago(-5)
    assert tick().ran is False
    PassLock.objects.update(until=ago(0.001))
    assert tick().ran is True


def test_a_tick_that_fails_releases_the_pass_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("scheduling.scheduler.balance", raising(ZeroDivisionError))
        with pytest.raises(ZeroDivisionError):
            tick()
    assert tick().ran is True


def test_a_living_watcher_is_recorded_once_a_second_at_most() -> None:
    noted = PassLock.objects.filter(name="watcher")
    execute(record_watcher_seen("w"))
    first = noted.get().until
    execute(record_watcher_seen("w"))
    assert noted.get().until == first
    noted.update(until=ago(-3.9))
    execute(record_watcher_seen("w"))
    assert noted.get().until > first


def test_queue_tasks_run_sweep_and_balance_and_say_if_another_pass_was_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_node("node-1")
    make_portfolio("p")
    assert tasks.heartbeat_sweep() == "lost: none"
    assert tasks.balance() == "1 handoffs requested"
    execute(acquire("frozen"))
    monkeypatch.setattr(tasks, "LOCK_WAIT_S", 0.1)
    assert tasks.balance() == "another pass was under way"
    assert tasks.heartbeat_sweep() == "another pass was under way"


def test_queue_task_of_the_balance_waits_for_the_sweep_that_began_with_it() -> None:
    """Both are scheduled for the same second, and without a watcher the next try is 30 s away."""
    make_node("node-1")
    make_portfolio("p")
    execute(acquire("sweep"))
    PassLock.objects.update(until=ago(-0.2))
    assert tasks.balance() == "1 handoffs requested"


# --- what a tick does ----------------------------------------------------------------------------


def pinned_trader() -> tuple[FakeNode, FakeNode, OwnerSession]:
    """Return two nodes and the owner of a portfolio that is pinned to the first."""
    first, second = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", first)
    Run.objects.filter(pk=hand.portfolio.pk).update(pinned_node=first.row)
    return first, second, hand


def test_failover_of_a_pinned_portfolio_takes_its_good_revision_and_the_grant_unpins_it() -> None:
    first, second, hand = pinned_trader()
    prove_revision(hand.portfolio)
    reload = begin_reload("p")
    first.ready(reload)
    hand.release(reload)
    hand.commit(1)
    lose(first)
    tick()
    made = newest_handoff(hand.portfolio)
    assert (made.kind, made.to_revision, made.target_node) == ("failover", 1, second.row)
    assert hand.run().pinned_node == first.row
    second.prepare()
    assert hand.run().pinned_node is None
    told = Event.objects.get(
        portfolio=hand.portfolio, kind="unpinned", node=first.row, actor="balancer"
    )
    assert told.data == {"handoff": made.pk}


def test_drain_ends_the_pin_of_a_portfolio_with_the_grant_and_not_before() -> None:
    first, second, hand = pinned_trader()
    operations.drain("node-1", actor="ann")
    tick()
    second.prepare()
    assert hand.run().pinned_node == first.row
    hand.release(newest_handoff(hand.portfolio))
    assert hand.run().pinned_node is None


def test_a_move_of_a_portfolio_to_its_pinned_node_keeps_the_pin() -> None:
    first, second = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", first)
    moved = operations.migrate("p", "node-2", actor="ann")
    operations.drain("node-1", actor="ann")
    second.ready(moved)
    hand.release(moved)
    assert hand.run().pinned_node == second.row


def test_a_target_that_could_not_start_a_portfolio_is_not_asked_again_at_once() -> None:
    node = make_node("node-1")
    portfolio = make_portfolio("p")
    tick()
    node.fails(newest_handoff(portfolio))
    assert tick().balance.requested == ()
    assert run_of(portfolio).reason == "could not start on the node chosen (1 of 5): it broke"
    Handoff.objects.update(finished_at=ago(1.5))
    assert len(tick().balance.requested) == 1


def test_a_failed_stop_is_requested_again_by_the_sweep() -> None:
    hand = make_trader("p", make_node("node-1"))
    operations.stop("p", actor="ann")
    Handoff.objects.filter(kind="stop").update(state="failed", finished_at=ago(1))
    assert sweep("x", timing()).stops == 1
    assert newest_handoff(hand.portfolio).kind == "stop"


def test_portfolio_whose_owner_incarnation_has_no_lease_becomes_pending() -> None:
    hand = make_trader("p", make_node("node-1"))
    Lease.objects.update(incarnation="00000000-0000-4000-8000-000000000001")
    assert sweep("x", timing()).given_up == 1
    assert (hand.run().node_id, hand.run().phase) == (None, "pending")


def test_sweep_expires_other_handoffs_after_one_whose_expiry_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = make_node("node-1")
    first, second = make_portfolio("a"), make_portfolio("b")
    tick()
    Handoff.objects.update(deadline_at=ago(1))
    honest, broken = handoff.expire, newest_handoff(first).pk

    def expire(number: int, times: Any) -> Any:
        assert number != broken
        return honest(number, times)

    monkeypatch.setattr(handoff, "expire", expire)
    assert sweep("x", timing()).expired == 1
    assert newest_handoff(second).state == "failed"
    assert node.desired("prepare") != []


# --- not knowing is different from nothing -------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_an_unreadable_fleet_raises_and_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = make_trader("p", make_node("node-1"))
    before = hand.run()
    broken = Statement("PORTFOLIOS", "SELECT no_such_column FROM scheduling_run")
    monkeypatch.setattr(snapshot, "PORTFOLIOS", broken)
    with pytest.raises(SnapshotUnavailable):
        observe(timing())
    with pytest.raises(SnapshotUnavailable):
        tick()
    assert (hand.run().epoch, hand.run().node_id) == (before.epoch, before.node_id)
    assert Handoff.objects.filter(state="preparing").count() == 0


def test_an_unreadable_board_raises_snapshot_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_read, "NODES", "SELECT no_such_column FROM scheduling_node")
    with pytest.raises(SnapshotUnavailable), transaction.atomic():
        read_fleet_view()


# --- a constant number of statements -------------------------------------------------------------


def fleet_of(nodes: int, each: int, prefix: str = "p") -> list[FakeNode]:
    """Return so many nodes with so many portfolios each."""
    daemons = [make_node(f"{prefix}-node-{n}") for n in range(1, nodes + 1)]
    for number, daemon in enumerate(daemons):
        for index in range(each):
            make_trader(f"{prefix}-{number}-{index}", daemon)
    return daemons


def statements(look: Any) -> int:
    with counted_transactions() as said:
        look()
    return len(said)


def test_snapshot_and_board_take_the_same_number_of_statements_for_any_fleet() -> None:
    fleet_of(1, 1)
    small = [statements(look) for look in looks()]
    fleet_of(4, 4, "more")
    assert [statements(look) for look in looks()] == small
    assert small[0] == 5


def test_the_board_drops_cached_states_of_portfolios_that_are_gone() -> None:
    (node,) = fleet_of(1, 1)
    kept = owner(node.owns()[0], node)
    node.send(kept.next_commit(1))
    portfolio_views._states[kept.portfolio.pk + 1] = (1, {}, {})
    read_fleet_view()
    assert list(portfolio_views._states) == [kept.portfolio.pk]


def looks() -> list[Any]:
    """Return the two reads, the board's with nothing remembered."""

    def board_afresh() -> None:
        portfolio_views._states.clear()
        portfolio_views._sparklines = (float("-inf"), {})
        read_fleet_view()

    return [lambda: observe(timing()), board_afresh]


def test_a_heartbeat_is_one_statement_and_so_are_commits_whatever_their_number() -> None:
    (node,) = fleet_of(1, 5)
    hands = [owner(name, node) for name in node.owns()]
    words = [hand.next_commit(1) for hand in hands]
    assert statements(lambda: node.send(words[0])) == 1
    assert statements(lambda: node.send(*words[1:])) == 1
    assert statements(node.beat) == 1


def test_a_partial_tick_marks_lost_nodes_and_reads_every_run_only_to_plan() -> None:
    first, _ = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", first)
    serving_since(3600)
    expire_lease(first)
    with counted_transactions() as said:
        outcome = tick(full=False)
    assert outcome.sweep.lost == ("node-1",)
    assert newest_handoff(hand.portfolio).kind == "failover"
    fleet_wide: list[Statement[Any]] = [revisions.PROVE, revisions.STALE_REVISIONS]
    fleet_wide += [unheld_runs.ORPHANED, stalls.STALLS, stalls.BEHIND, alerts.COMPARE]
    texts = {statement.sql for statement in fleet_wide}
    assert not texts & {*said}
    with counted_transactions() as said:
        tick()
    assert texts <= {*said}


def test_a_tick_that_changed_something_wakes_boards_and_one_that_did_not_wakes_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wakes = note_calls(monkeypatch, scheduler, "notify_watchers")
    serving_since(3600)
    node = make_node("node-1")
    tick()
    assert len(wakes) == 0
    expire_lease(node)
    assert tick().sweep.lost == ("node-1",)
    assert len(wakes) == 1
    node.beat()
    make_portfolio("p")
    assert len(tick().balance.requested) == 1
    assert len(wakes) == 2


@pytest.mark.parametrize("error", [LockNotAvailable, DeadlockDetected])
def test_a_tick_succeeds_while_another_process_compares_the_alerts(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setattr(alerts, "update_alerts", raising(error))
    assert tick().ran is True


def test_a_tick_without_a_rebalance_leaves_running_portfolios_where_they_are() -> None:
    first = make_node("node-1")
    for number in range(4):
        make_trader(f"p-{number}", first)
    make_node("node-2")
    assert tick(rebalance=False).balance.requested == ()
    assert len(tick(rebalance=True).balance.requested) > 0
