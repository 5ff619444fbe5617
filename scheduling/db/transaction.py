"""Recipes: a change of state written once, run by Django's connection or by the gateway's pool.

A recipe is a generator. It yields `Query`s, gets the rows of each back, and returns its outcome; it
never touches a connection. `run` drives one on Django's connection, `arun` on an async one, both in
one transaction, so there is no second copy of any statement or of the order they stand in.

Locks are taken in one order everywhere, or two recipes deadlock:
lease, then portfolio, then run (by portfolio id), then handoff, then revision, then node (by id).

Node rows are locked FOR NO KEY UPDATE: everything that names a node takes a key share of its row at
commit, and a full lock would make that one more lock, taken out of order.

A process can freeze between two statements of a transaction and keep its locks. Three rules bound
what that costs the others: commits and beats never wait for a row lock (SKIP LOCKED, and the caller
repeats); a transaction that stands idle for IDLE_LIMIT loses its session, and its locks with it;
a recipe whose statements are each complete alone runs without a transaction (`run_bare`), so that
its process can freeze at any point and holds nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

import msgspec
import psycopg
from psycopg.abc import AdaptContext
from psycopg.errors import IdleInTransactionSessionTimeout
from psycopg.rows import namedtuple_row
from psycopg.types.json import set_json_loads

from scheduling.db import failpoints
from scheduling.db.statements import Statement
from scheduling.request_origin import current

ORIGIN = """
SELECT set_config('ginkgo.interface', %s, true) AS interface,
       set_config('ginkgo.address', %s, true) AS address
"""

T = TypeVar("T")
Row = Any  #: a named tuple of the statement's columns
Transaction = Generator["Query", list[Row], T]


class Query(NamedTuple):
    """One statement with its parameters."""

    statement: Statement
    params: dict[str, Any]

    @property
    def sql(self) -> str:
        """Return the text of the statement."""
        return self.statement.sql


def query(statement: Statement, /, **params: Any) -> Transaction[list[Row]]:
    """Yield one statement and return its rows: `rows = yield from query(STATEMENT, a=1)`."""
    return (yield Query(statement, params))


def query_one(statement: Statement, /, **params: Any) -> Transaction[Row | None]:
    """Yield one statement and return its first row, or None if it returned none."""
    rows = yield Query(statement, params)
    return rows[0] if rows else None


def fetch(cursor: psycopg.Cursor[Any], statement: Statement, /, **params: Any) -> list[Row]:
    """Execute one statement on `cursor` and return its rows."""
    return cursor.execute(statement.sql.encode(), params or None).fetchall()


#: Longest time that a transaction which may hold locks of the fence stands idle between two of its
#: statements. A portfolio whose own row is held pauses for as long, and I7 allows 2 s. Not the
#: limit of the session: what computes inside a transaction and holds no such lock may take longer.
IDLE_LIMIT = "1500ms"

#: What the loss of a connection is raised as. Its own limit on idleness PostgreSQL counts as an
#: internal error, not as an operational one.
CONNECTION_LOST = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    IdleInTransactionSessionTimeout,
)

LIMIT_IDLE = "SELECT set_config('idle_in_transaction_session_timeout', %(limit)s, true)"


def execute(recipe: Transaction[T]) -> T:
    """Run `recipe` in one transaction on Django's connection and return its outcome."""
    from django.db import transaction

    walk = failpoints.walk(recipe)
    with transaction.atomic(), django_cursor() as cursor:
        cursor.execute(LIMIT_IDLE.encode(), {"limit": IDLE_LIMIT})
        _note_origin(cursor)
        outcome = _walk_through(cursor, recipe, walk)
    if walk is not None:
        time.sleep(walk.committed())
    return outcome


def execute_autocommit(recipe: Transaction[T]) -> T:
    """Run `recipe` on Django's connection, each statement in a transaction of its own.

    For recipes whose statements are each complete alone.
    """
    with django_cursor() as cursor:
        return _walk_through(cursor, recipe, failpoints.walk(recipe))


def _walk_through(
    cursor: psycopg.Cursor[Any], recipe: Transaction[T], walk: failpoints.FailpointTracer | None
) -> T:
    if walk is not None:
        time.sleep(walk.begin())
    rows: list[Row] = []
    try:
        step = next(recipe)
        while True:
            cursor.execute(step.sql.encode(), step.params)
            rows = cursor.fetchall() if cursor.description else []
            if walk is not None:
                time.sleep(walk.after(step.statement))
            step = recipe.send(rows)
    except StopIteration as stop:
        outcome: T = stop.value
        return outcome


def _note_origin(cursor: psycopg.Cursor[Any]) -> None:
    """Tell the session, until the transaction ends, whose lines of the audit log it writes."""
    origin = current()
    if origin is not None:
        cursor.execute(ORIGIN, (origin.interface, origin.address))


def django_cursor() -> psycopg.Cursor[Any]:
    """Return a cursor on Django's connection that reads as the gateway's do.

    Django has its connections leave JSON as text, since its fields parse it; here rows are read
    without fields.
    """
    from django.db import connection

    connection.ensure_connection()
    cursor = psycopg.Cursor(connection.connection, row_factory=namedtuple_row)
    read_json(cursor)
    return cursor


def read_json(context: AdaptContext) -> None:
    """Have a cursor, or a connection and its cursors, return JSON as Python's values."""
    # A look at a thousand nodes, or a node's desired set, reads thousands of small documents.
    set_json_loads(msgspec.json.decode, context)


async def aexecute(connection: psycopg.AsyncConnection[Any], recipe: Transaction[T]) -> T:
    """Run `recipe` in one transaction on an async connection and return its outcome."""
    walk = failpoints.walk(recipe)
    async with connection.transaction():
        outcome = await _drive(connection, recipe, walk)
    if walk is not None:
        await asyncio.sleep(walk.committed())
    return outcome


async def aexecute_autocommit(
    connection: psycopg.AsyncConnection[Any], recipe: Transaction[T]
) -> T:
    """Run `recipe` with each statement in a transaction of its own, where one statement is all."""
    return await _drive(connection, recipe, failpoints.walk(recipe))


async def _drive(
    connection: psycopg.AsyncConnection[Any],
    recipe: Transaction[T],
    walk: failpoints.FailpointTracer | None,
) -> T:
    if walk is not None:
        await asyncio.sleep(walk.begin())
    async with connection.cursor(row_factory=namedtuple_row) as cursor:
        rows: list[Row] = []
        try:
            step = next(recipe)
            while True:
                await cursor.execute(step.sql.encode(), step.params)
                rows = await cursor.fetchall() if cursor.description else []
                if walk is not None:
                    await asyncio.sleep(walk.after(step.statement))
                step = recipe.send(rows)
        except StopIteration as stop:
            outcome: T = stop.value
            return outcome
