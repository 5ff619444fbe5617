"""Acts at one moment, transactions that are not committed yet, and rows that are held."""

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
    """Do all acts at one moment, each on a connection of its own. Return outcomes or errors."""
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
    """A transaction that is not committed yet."""

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
        """Let the others see it."""
        self.connection.commit()
        self.connection.close()


def behind(held: Held, act: Callable[[], Any], repeats: FakeNode | None = None) -> Any:
    """Begin `act` while `held` is uncommitted, let it block on it, commit, return its outcome.

    What never blocks is repeated by a daemon: then `held` lasts until an answer left it out.
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
    """Return when an answer to this daemon left something out."""
    eventually(lambda: daemon.left_out, what="somebody who meets the row that is held")


def wait_until_blocked() -> None:
    """Return when some session of this database waits for a lock of another."""
    # Workers of the suite share the server: a session of another's database says nothing here.
    waiting = """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
    """
    with psycopg.connect(conninfo(), autocommit=True) as looking:
        eventually(lambda: looking.execute(waiting).rowcount, what="a session waiting for a lock")


def assert_invariants(hand: OwnerSession) -> None:
    """I1 and I5: one owner an epoch, epochs only rise. I2: tenures tile. I10: the trail agrees."""
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
    """Return a portfolio that drains on node-1, its target node-2, and the handoff."""
    Lease.objects.update(takeovers=[])
    source, target = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", source)
    prove_revision(hand.portfolio)
    handoff = operations.migrate("p", "node-2", actor="ann")
    target.ready(handoff)
    return hand, target, handoff


class Row:
    """One row that this session holds while another wants it."""

    def __init__(self, table: str, key: str, value: int) -> None:
        self.sql = f"SELECT FROM {table} WHERE {key} = {value} FOR UPDATE"

    def free(self) -> bool:
        """Return whether nobody holds it."""
        with psycopg.connect(conninfo()) as asking:
            try:
                asking.execute(f"{self.sql} NOWAIT".encode())
            except psycopg.errors.LockNotAvailable:
                return False
        return True

    def held_while(self, act: Callable[[], Any], *later: Row) -> list[bool]:
        """Hold it, let `act` block on it, and return which of `later` are still free then."""
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
