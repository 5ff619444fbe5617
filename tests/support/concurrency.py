"""Acts at one moment, transactions that are not committed yet, and rows that are locked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import connection
from psycopg.rows import namedtuple_row

from chaos.harness.installation import eventually
from ginkgo_site.database import conninfo
from scheduling import operations
from scheduling.db.transaction import Transaction
from scheduling.models import Event, Handoff, Lease, Tenure
from tests.support.factories import FakeNode, OwnerSession, make_node, make_trader, prove_revision


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """Call all acts at one moment. Return the outcome of each, or the exception that it raised.

    Each runs in a thread with its own connection.
    """
    gate = threading.Barrier(len(acts))
    outcomes: list[Any] = [None] * len(acts)

    def work(number: int) -> None:
        connection.ensure_connection()
        gate.wait()
        try:
            outcomes[number] = acts[number]()
        except Exception as error:
            outcomes[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


class Held:
    """A transaction that has run and is not committed: it holds its locks, and `outcome`."""

    def __init__(self, steps: Transaction[Any]) -> None:
        self.connection = psycopg.connect(conninfo())
        self.outcome: Any = None
        with self.connection.cursor(row_factory=namedtuple_row) as cursor:
            try:
                asked = next(steps)
                while True:
                    cursor.execute(asked.sql.encode(), asked.params)
                    asked = steps.send(cursor.fetchall() if cursor.description else [])
            except StopIteration as stop:
                self.outcome = stop.value

    def commit(self) -> None:
        """Commit the transaction, and close its connection."""
        self.connection.commit()
        self.connection.close()


def behind(held: Held, act: Callable[[], Any], repeats: FakeNode | None = None) -> Any:
    """Call `act` while `held` is uncommitted, and commit `held` once `act` waits for its locks.

    Return the outcome of `act`, or the exception that it raised. If `act` sends a commit or a
    heartbeat, which wait for no lock, give the daemon that repeats it as `repeats`: then `held` is
    committed once an answer has left out the locked row.
    """
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(act())
        except Exception as error:
            outcome.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    if repeats is None:
        wait_until_blocked()
    else:
        wait_until_left_out(repeats)
    held.commit()
    thread.join()
    return outcome[0]


def wait_until_left_out(daemon: FakeNode) -> None:
    """Wait until an answer to this daemon has left out a row because it was locked."""
    eventually(lambda: daemon.left_out, what=f"an answer to {daemon.name} without the locked row")


def wait_until_blocked() -> None:
    """Wait until some session of this database waits for a lock of another session."""
    # Only this database: other workers of the test run use the same server.
    waiting = """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
    """
    with psycopg.connect(conninfo(), autocommit=True) as looking:
        eventually(lambda: looking.execute(waiting).rowcount, what="a session waiting for a lock")


def assert_invariants(hand: OwnerSession) -> None:
    """Assert invariants of one portfolio.

    Its epochs have one owner each and rise (I1, I5), its tenures tile (I2) and equal the grants of
    the audit log (I10), and at most one of its handoffs is active.
    """
    tenures = list(Tenure.objects.filter(portfolio=hand.portfolio).order_by("epoch"))
    assert len({t.epoch for t in tenures}) == len(tenures)
    assert [t.to_seq for t in tenures[:-1]] == [t.from_seq for t in tenures[1:]]
    at = hand.run()
    assert tenures[-1].epoch <= at.epoch
    granted = Event.objects.filter(portfolio=hand.portfolio, kind="granted").order_by("id")
    assert [e.data["epoch"] for e in granted] == [t.epoch for t in tenures]
    active = Handoff.objects.filter(portfolio=hand.portfolio).filter(
        state__in=("preparing", "draining", "activating")
    )
    assert active.count() <= 1


def draining() -> tuple[OwnerSession, FakeNode, Handoff]:
    """Return (owner session, target, handoff) of a portfolio that drains from node-1 to node-2."""
    Lease.objects.update(takeovers=[])
    source, target = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", source)
    prove_revision(hand.portfolio)
    handoff = operations.migrate("p", "node-2", actor="ann")
    target.ready(handoff)
    return hand, target, handoff


class Row:
    """One row of a table, to be locked by sessions of the test."""

    def __init__(self, table: str, key: str, value: int) -> None:
        self.sql = f"SELECT FROM {table} WHERE {key} = {value} FOR UPDATE"

    def free(self) -> bool:
        """Return whether no session has locked the row."""
        with psycopg.connect(conninfo()) as asking:
            try:
                asking.execute(f"{self.sql} NOWAIT".encode())
            except psycopg.errors.LockNotAvailable:
                return False
        return True

    def held_while(self, act: Callable[[], Any], *later: Row) -> list[bool]:
        """Lock the row until `act` waits for a lock. Return which of `later` were free then.

        `act` must not raise.
        """
        holding = psycopg.connect(conninfo())
        holding.execute(self.sql.encode())
        outcome: list[Any] = []
        thread = threading.Thread(target=lambda: outcome.extend(at_once(act)))
        thread.start()
        wait_until_blocked()
        free = [row.free() for row in later]
        holding.rollback()
        holding.close()
        thread.join()
        assert not isinstance(outcome[0], Exception), outcome
        return free


def run_row(hand: OwnerSession) -> Row:
    return Row("scheduling_run", "portfolio_id", hand.portfolio.pk)


def node_row(daemon: FakeNode) -> Row:
    return Row("scheduling_node", "id", daemon.row.pk)
