"""Locks of a process that freezes inside a transaction: what they delay, and for how long.

Commits and heartbeats wait for no row. A message about a locked row gets no answer and is repeated;
others in the same request or batch are answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection
from psycopg.errors import IdleInTransactionSessionTimeout

from ginkgo_site.database import conninfo
from portfolios.models import Revision
from scheduling.db import transaction
from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, execute, execute_autocommit, query
from scheduling.enact.commit import commit
from scheduling.enact.grant import lock_run
from scheduling.enact.lease import renew_leases
from scheduling.enact.revisions import mark_proven_revisions
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Handoff, Lease, Node, Run
from scheduling.timing import timing
from scheduling.wire.messages import Commit, Heartbeat
from tests.integration.enact.handoff.conftest import activating, draining, migrated
from tests.support.concurrency import Held, behind
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    ago,
    expire_lease,
    lose,
    make_node,
    make_trader,
    owner,
)

pytestmark = pytest.mark.django_db(transaction=True)

QUICK_S = 20.0  #: for what waits for nobody; the session would wait 25 s for a row


@pytest.fixture(autouse=True)
def patient_session() -> Iterator[None]:
    """Let a session that waits for a row do so for longer than a busy machine stands still."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '25s'")
    yield
    with connection.cursor() as cursor:
        cursor.execute("RESET lock_timeout")


@contextmanager
def hold_rows(table: str, where: str) -> Iterator[None]:
    """Lock rows, as a process that froze before its COMMIT does."""
    lock = "FOR NO KEY UPDATE" if table == "scheduling_node" else "FOR UPDATE"
    with psycopg.connect(conninfo()) as frozen:
        frozen.execute("SET idle_in_transaction_session_timeout = 0")  # it outlasts who waits
        assert frozen.execute(f"SELECT FROM {table} WHERE {where} {lock}".encode()).rowcount > 0
        yield
        frozen.rollback()


def answers_to(node: FakeNode, *commits: Commit) -> dict[int, str]:
    """Send one request, as it is, and return portfolio → answer. It must not take long."""
    began = time.monotonic()
    results = execute_autocommit(commit(node.row.pk, node.name, node.incarnation, commits))
    assert time.monotonic() - began < QUICK_S
    return {result.portfolio: result.answer for result in results}


def renew_all(*nodes: FakeNode, **said: Any) -> dict[str, tuple[bool, bool]]:
    """Write the beats of these nodes in one batch; return name → (renewed, lease_locked)."""
    began = time.monotonic()
    words = [Heartbeat(incarnation=str(n.incarnation), have_version=0, **said) for n in nodes]
    rows = execute_autocommit(renew_leases([n.row.pk for n in nodes], words, timing(), GATEWAY_ID))
    assert time.monotonic() - began < QUICK_S
    return {n.name: (rows[n.row.pk].renewed, rows[n.row.pk].lease_locked) for n in nodes}


# --- commits -------------------------------------------------------------------------------------


def test_commit_skips_a_locked_run_and_others_go_on() -> None:
    node = make_node("node-1")
    first, second = make_trader("a", node), make_trader("b", node)
    words = [first.next_commit(1), second.next_commit(1)]
    with hold_rows("scheduling_run", f"portfolio_id = {first.portfolio.pk}"):
        assert answers_to(node, *words) == {second.portfolio.pk: "ok"}
        assert answers_to(node, *words) == {second.portfolio.pk: "ok"}
    assert answers_to(node, *words) == {first.portfolio.pk: "ok", second.portfolio.pk: "ok"}
    assert (first.run().last_seq, second.run().last_seq) == (words[0].to_seq, words[1].to_seq)


def make_activating() -> tuple[OwnerSession, Handoff]:
    """Return a portfolio that was granted from node-2 to node-1 and has not committed there."""
    target, source = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", source)
    return owner("p", target), activating(hand, target)


@pytest.mark.parametrize("end", ["node-1", "node-2"])
def test_first_commit_gets_no_answer_while_a_node_of_its_handoff_is_locked(end: str) -> None:
    mine, handoff = make_activating()
    neighbour = make_trader("q", mine.daemon)
    words = [mine.next_commit(0), neighbour.next_commit(1)]
    versions = set(Node.objects.values_list("name", "desired_version"))
    with hold_rows("scheduling_node", f"name = '{end}'"):
        assert answers_to(mine.daemon, *words) == {neighbour.portfolio.pk: "ok"}
        assert mine.run().first_commit_at is None
    assert versions == set(Node.objects.values_list("name", "desired_version"))
    assert answers_to(mine.daemon, words[0]) == {mine.portfolio.pk: "ok"}
    handoff.refresh_from_db()
    assert handoff.state == "done"
    raised = dict(Node.objects.values_list("name", "desired_version"))
    assert raised == {name: version + 1 for name, version in versions}


def test_release_does_not_wait_for_a_locked_run() -> None:
    source, target = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", source)
    handoff = draining(hand, target)
    words = hand.release_message(handoff)
    held = Held(lock_run(hand.portfolio.pk))
    assert behind(held, lambda: source.release(words), repeats=source).answer == "handed_over"
    handoff.refresh_from_db()
    assert handoff.state == "activating"


# --- reports ---


def test_reports_of_a_portfolio_that_another_node_runs_lock_no_row_of_it() -> None:
    """Its commits would be left out as often as a hostile node repeats them."""
    source, hostile = make_node("node-1"), make_node("node-3")
    hand, own = make_trader("p", source), make_trader("q", hostile)
    handoff = migrated(hand, make_node("node-2"))
    of_others = OwnerSession(hostile, hand.portfolio)
    release = own.release_message(handoff)
    began = time.monotonic()
    with hold_rows("scheduling_run", f"portfolio_id = {hand.portfolio.pk}"):
        assert of_others.report_death(hand.death()) == "late"
        assert of_others.halts() == "late"
        assert hostile.ready(handoff) == "late"
        assert hostile.fails(handoff) == "late"
        assert hostile.release(release).answer == "keep"
    assert time.monotonic() - began < QUICK_S


# --- beats ---------------------------------------------------------------------------------------


def test_heartbeat_skips_a_locked_lease_and_others_are_renewed() -> None:
    first, second = make_node("node-1"), make_node("node-2")
    with hold_rows("scheduling_lease", f"node_id = {first.row.pk}"):
        assert renew_all(first, second) == {"node-1": (False, True), "node-2": (True, False)}
    assert renew_all(first, second) == {"node-1": (True, False), "node-2": (True, False)}
    assert sorted(Lease.objects.values_list("renewals", flat=True)) == [1, 2]


def test_leaving_flag_of_a_locked_node_changes_with_a_later_heartbeat() -> None:
    node = make_node("node-1")
    with hold_rows("scheduling_node", f"id = {node.row.pk}"):
        assert renew_all(node, leaving=True) == {"node-1": (True, False)}
        assert not Node.objects.get().leaving
    renew_all(node, leaving=True)
    assert Node.objects.get().leaving


def test_lost_node_with_a_locked_row_is_revived_by_a_later_heartbeat() -> None:
    node = make_node("node-1")
    lose(node)
    with hold_rows("scheduling_node", f"id = {node.row.pk}"):
        assert renew_all(node) == {"node-1": (True, False)}
        assert Node.objects.get().status == "lost"
    renew_all(node)
    assert Node.objects.get().status == "alive"


# --- for how long --------------------------------------------------------------------------------


def test_idle_transaction_loses_its_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "IDLE_LIMIT", "300ms")
    hand = make_trader("p", make_node("node-1"))
    locked, thaw = threading.Event(), threading.Event()
    ended: list[Exception] = []

    def freezing() -> Transaction[None]:
        yield from lock_run(hand.portfolio.pk)
        locked.set()
        thaw.wait(10)
        yield from query(Statement("PROBE", "SELECT 1"))

    def work() -> None:
        try:
            execute(freezing())
        except IdleInTransactionSessionTimeout as error:
            ended.append(error)
        finally:
            connection.close()

    frozen = threading.Thread(target=work)
    frozen.start()
    assert locked.wait(10)
    assert hand.commit(1) == "ok"  # repeated until the lock is gone
    assert hand.daemon.left_out > 0
    thaw.set()
    frozen.join()
    assert len(ended) == 1


def test_autocommit_holds_no_lock_between_statements() -> None:
    node = make_node("node-1")
    hand = make_trader("p", node)

    def two() -> Transaction[None]:
        yield from query(Statement("LOCK", "SELECT portfolio_id FROM scheduling_run FOR UPDATE"))
        with psycopg.connect(conninfo()) as other:
            other.execute("SELECT FROM scheduling_run FOR UPDATE NOWAIT")

    execute_autocommit(two())
    expire_lease(node)
    assert hand.commit(1) == "ok"


def test_locked_revision_does_not_block_proving_others() -> None:
    node = make_node("node-1")
    traders = [make_trader(name, node) for name in ("a", "b")]
    Run.objects.update(first_commit_at=ago(100), last_commit_at=ago(0))
    Revision.objects.update(status="unproven")
    with hold_rows("portfolios_revision", f"portfolio_id = {traders[0].portfolio.pk}"):
        began = time.monotonic()
        assert execute_autocommit(mark_proven_revisions(timing())) == 1
        assert time.monotonic() - began < QUICK_S
    assert execute_autocommit(mark_proven_revisions(timing())) == 1
