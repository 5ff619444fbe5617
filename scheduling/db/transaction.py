"""Transactions: a change of state written once, run on Django's connection or the gateway's pool.

A `Transaction` is a generator. It yields `Query`s, receives the rows of each, and returns its
outcome; it never touches a connection. `execute` runs one on Django's connection, `aexecute` on an
async one, so no statement and no order of statements exists twice.

Locks are taken in one order everywhere; otherwise two transactions would deadlock:
idempotency key (only requests with that key lock it), then roll-out, then lease, then portfolio,
then run (by portfolio id), then handoff, then revision, then node (by id).

Node rows are locked FOR NO KEY UPDATE: every row that references a node takes a key share lock on
it at commit, and a full lock would conflict with that one, which is taken out of order.

A process can freeze between two statements of a transaction and keep its locks. Three rules bound
what that costs others. Commits and heartbeats never wait for a row lock (SKIP LOCKED; the caller
repeats). A transaction that is idle for IDLE_LIMIT loses its session, and with it its locks. A
transaction whose statements are each complete alone runs in autocommit mode
(`execute_autocommit`), so its process can freeze at any point without holding a lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import msgspec
import psycopg
from psycopg.abc import AdaptContext
from psycopg.errors import IdleInTransactionSessionTimeout
from psycopg.rows import namedtuple_row
from psycopg.types.json import set_json_loads

from scheduling.db import failpoints
from scheduling.db.statements import R, Statement
from scheduling.request_origin import current

#: The database defaults of the audit log take interface and address from these settings.
ORIGIN = """
SELECT set_config('ginkgo.interface', %s, true) AS interface,
       set_config('ginkgo.address', %s, true) AS address
"""

T = TypeVar("T")
Row = Any  #: a named tuple of the statement's columns
Transaction = Generator["Query", list[Row], T]


class Query(NamedTuple):
    """One statement with its parameters."""

    statement: Statement[Any]
    params: dict[str, Any]

    @property
    def sql(self) -> str:
        """Return the text of the statement."""
        return self.statement.sql


def query(statement: Statement[R], /, **params: Any) -> Transaction[list[R]]:
    """Yield one statement and return its rows: `rows = yield from query(STATEMENT, a=1)`."""
    return (yield Query(statement, params))


def query_one(statement: Statement[R], /, **params: Any) -> Transaction[R | None]:
    """Yield one statement and return its first row, or None if it returned none."""
    rows = yield Query(statement, params)
    return rows[0] if rows else None


def fetch(cursor: psycopg.Cursor[Any], statement: Statement[R], /, **params: Any) -> list[R]:
    """Execute one statement on `cursor` and return its rows."""
    # None instead of no parameters: psycopg then leaves each `%` of the SQL as it is.
    return cursor.execute(statement.sql.encode(), params or None).fetchall()


#: Longest time for which a transaction that may hold locks of the fence is idle between two
#: statements. A portfolio whose row is locked pauses for as long, and I7 allows 2 s. It is not the
#: limit of the session: a transaction that computes and holds no such lock may take longer.
IDLE_LIMIT = "1500ms"

#: Exceptions that mean a lost connection. PostgreSQL classifies its own idle limit as an internal
#: error, not as an operational one.
CONNECTION_LOST = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    IdleInTransactionSessionTimeout,
)

LIMIT_IDLE = "SELECT set_config('idle_in_transaction_session_timeout', %(limit)s, true)"


class FirstSteps(NamedTuple):
    """Steps that every transaction of a request begins with, and those that undo them."""

    steps: Callable[[], Transaction[None]]
    undoing: Callable[[], Transaction[None]]


_first_steps: ContextVar[FirstSteps | None] = ContextVar("ginkgo_first_steps", default=None)


@contextmanager
def beginning_with(
    steps: Callable[[], Transaction[None]], undone_by: Callable[[], Transaction[None]]
) -> Iterator[None]:
    """Let each transaction that Django's connection runs within the block begin with `steps`.

    Before an action outside of the database, `execute_first_steps` commits them alone; if the
    action then does nothing, `undo_first_steps` runs `undone_by`.
    """
    token = _first_steps.set(FirstSteps(steps, undone_by))
    try:
        yield
    finally:
        _first_steps.reset(token)


def execute_first_steps() -> None:
    """Commit the steps given to `beginning_with` now: an action outside of the database follows."""
    if (first := _first_steps.get()) is not None:
        execute_autocommit(first.steps())


def undo_first_steps() -> None:
    """Undo what `execute_first_steps` committed: the action outside of the database did nothing."""
    if (first := _first_steps.get()) is not None:
        execute_autocommit(first.undoing())


def execute(steps: Transaction[T]) -> T:
    """Run `steps` in one transaction on Django's connection and return its outcome."""
    from django.db import transaction

    tracer = failpoints.trace(steps)
    with transaction.atomic(), django_cursor() as cursor:
        cursor.execute(LIMIT_IDLE.encode(), {"limit": IDLE_LIMIT})
        _note_origin(cursor)
        if (first := _first_steps.get()) is not None:
            _run_steps(cursor, first.steps(), None)
        outcome = _run_steps(cursor, steps, tracer)
    if tracer is not None:
        time.sleep(tracer.pause_after_commit())
    return outcome


def execute_autocommit(steps: Transaction[T]) -> T:
    """Run `steps` on Django's connection, each statement in its own transaction.

    Only for generators whose statements are each complete alone.
    """
    with django_cursor() as cursor:
        return _run_steps(cursor, steps, failpoints.trace(steps))


def _run_steps(
    cursor: psycopg.Cursor[Any], steps: Transaction[T], tracer: failpoints.FailpointTracer | None
) -> T:
    """Execute each statement that `steps` yields. Return the outcome of `steps`."""
    if tracer is not None:
        time.sleep(tracer.pause_at_begin())
    rows: list[Row] = []
    try:
        step = next(steps)
        while True:
            cursor.execute(step.sql.encode(), step.params)
            rows = cursor.fetchall() if cursor.description else []
            if tracer is not None:
                time.sleep(tracer.pause_after(step.statement))
            step = steps.send(rows)
    except StopIteration as stop:
        outcome: T = stop.value
        return outcome


def _note_origin(cursor: psycopg.Cursor[Any]) -> None:
    """Set the origin of audit log lines for the rest of the transaction, if there is a request."""
    origin = current()
    if origin is not None:
        cursor.execute(ORIGIN, (origin.interface, origin.address))


def django_cursor() -> psycopg.Cursor[Any]:
    """Return a cursor on Django's connection that returns rows as the gateway's cursors do.

    Django's connections return JSON as text, since its model fields parse it; these rows are read
    without model fields.
    """
    from django.db import connection

    connection.ensure_connection()
    cursor = psycopg.Cursor(connection.connection, row_factory=namedtuple_row)
    read_json(cursor)
    return cursor


def read_json(context: AdaptContext) -> None:
    """Let a cursor, or a connection and its cursors, return JSON as Python values."""
    # By msgspec: a snapshot of a thousand nodes, or a desired set, has thousands of documents.
    set_json_loads(msgspec.json.decode, context)


async def aexecute(connection: psycopg.AsyncConnection[Any], steps: Transaction[T]) -> T:
    """Run `steps` in one transaction on an async connection and return its outcome."""
    tracer = failpoints.trace(steps)
    async with connection.transaction():
        outcome = await _arun_steps(connection, steps, tracer)
    if tracer is not None:
        await asyncio.sleep(tracer.pause_after_commit())
    return outcome


async def aexecute_autocommit(connection: psycopg.AsyncConnection[Any], steps: Transaction[T]) -> T:
    """Run `steps` on an async connection, each statement in its own transaction."""
    return await _arun_steps(connection, steps, failpoints.trace(steps))


async def _arun_steps(
    connection: psycopg.AsyncConnection[Any],
    steps: Transaction[T],
    tracer: failpoints.FailpointTracer | None,
) -> T:
    """Do the same as `_run_steps`, on an async connection."""
    if tracer is not None:
        await asyncio.sleep(tracer.pause_at_begin())
    async with connection.cursor(row_factory=namedtuple_row) as cursor:
        rows: list[Row] = []
        try:
            step = next(steps)
            while True:
                await cursor.execute(step.sql.encode(), step.params)
                rows = await cursor.fetchall() if cursor.description else []
                if tracer is not None:
                    await asyncio.sleep(tracer.pause_after(step.statement))
                step = steps.send(rows)
        except StopIteration as stop:
            outcome: T = stop.value
            return outcome
