"""The same tables in PostgreSQL under a clock that the test sets, read as simulated rows."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from scheduling.db.transaction import django_cursor
from tests.simulation import rows
from tests.simulation.database import Store
from tests.simulation.roll_outs import ARTIFACT

#: A function of this name in a schema before pg_catalog in the search path is called instead, so
#: every statement reads the clock of the test.
CLOCK = """
CREATE SCHEMA virtual;
CREATE FUNCTION virtual.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    $$ SELECT to_timestamp(current_setting('virtual.now')::float8) $$;
SET LOCAL search_path = virtual, pg_catalog, public;
"""

TABLES: dict[str, tuple[str, type, str, str]] = {
    # table of the model → (table, its row, what to order by, what to leave out)
    "nodes": ("scheduling_node", rows.Node, "id", ""),
    "leases": ("scheduling_lease", rows.Lease, "node_id", ""),
    "portfolios": ("portfolios_portfolio", rows.Portfolio, "id", "starting_cash uid"),
    "revisions": ("portfolios_revision", rows.Revision, "portfolio_id, number", ""),
    "runs": ("scheduling_run", rows.Run, "portfolio_id", ""),
    "tenures": ("scheduling_tenure", rows.Tenure, "portfolio_id, epoch", ""),
    "handoffs": ("scheduling_handoff", rows.Handoff, "id", ""),
    "checkpoints": ("portfolios_checkpoint", rows.Checkpoint, "portfolio_id", ""),
    "orders": ("portfolios_order", rows.Order, "portfolio_id, seq, index", ""),
    "suppressions": ("portfolios_suppression", rows.Suppression, "portfolio_id, from_seq", ""),
    "events": ("scheduling_event", rows.Event, "id", ""),
    "gateways": ("scheduling_gateway", rows.Gateway, "id", ""),
    "roll_outs": ("scheduling_rollout", rows.RollOut, "id", ""),
    "roll_out_items": ("scheduling_rolloutitem", rows.RollOutItem, "id", ""),
    "storm": ("scheduling_storm", rows.Storm, "id", ""),
    "locks": ("scheduling_passlock", rows.PassLock, "name", ""),
}


def install_clock(now: float) -> None:
    """Let the present transaction read the test's clock, starting at `now`."""
    with connection.cursor() as cursor:
        cursor.execute(CLOCK)
    set_clock(now)


def set_clock(now: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('virtual.now', %s, true)", [repr(now)])


def read(table: str) -> list[dict[str, Any]]:
    """Return the rows of one table with the simulated columns."""
    name, row, order, without = TABLES[table]
    columns = [f.name for f in fields(row) if f.name not in without.split()]
    listed = ", ".join(f'"{column}"' for column in columns)
    with django_cursor() as cursor:
        cursor.row_factory = dict_row  # type: ignore[assignment]
        text = f"SELECT {listed} FROM {name} ORDER BY {order}"
        found: Any = cursor.execute(text.encode()).fetchall()
    return [{key: plain(value) for key, value in line.items()} for line in found]


def of_simulation(store: Store, table: str) -> list[dict[str, Any]]:
    """Return the simulated rows in the same order."""
    without = TABLES[table][3].split()
    found = [getattr(store, table)[key] for key in sorted(getattr(store, table))]
    return [{k: plain(v) for k, v in vars(row).items() if k not in without} for row in found]


def plain(value: Any) -> Any:
    """Return a value in a comparable form: times as seconds, bytes as bytes."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value


def copy(store: Store) -> None:
    """Write the simulated rows into PostgreSQL, before the first step."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM scheduling_event")  # `migrate` wrote audit log lines
    feed = _insert("portfolios_feed", name=store.feed.name, sha256=store.feed.sha256, length=1000)
    _insert(
        "portfolios_feedsegment", feed_id=feed, from_seq=store.feed.from_seq,
        from_time=_time(store.feed.from_time), rate=store.feed.rate,
    )  # fmt: skip
    at = _time(store.now)
    for node in store.nodes.values():
        _insert("scheduling_node", drain_reason="", drain_actor="", **_written(node))
    for portfolio in store.portfolios.values():
        _insert("portfolios_portfolio", created_at=at, feed_id=feed, **_written(portfolio))
    for revision in store.revisions.values():
        _insert("portfolios_revision", note="", created_by="", created_at=at, **_written(revision))
    for run in store.runs.values():
        _insert("scheduling_run", **_written(run))
    for gateway in store.gateways.values():
        _insert("scheduling_gateway", host="", **_written(gateway))
    _insert(
        "portfolios_artifact", sha256=ARTIFACT, name="canary", version="2.0", filename="",
        wheel=b"", size=0, summary="", python_tag="py3", python_requirement="", pythons=Jsonb([]),
        lock="", env_sha256="", uploaded_by="", at=at,
    )  # fmt: skip
    _insert(
        "portfolios_strategy", artifact_id=ARTIFACT, name="canary", class_path="", version=1,
        state_version=1, schema=Jsonb({}), sees_every_symbol=True, checks=False, summary="",
    )  # fmt: skip
    for table, first in (
        ("scheduling_handoff", store.next_handoff),
        ("scheduling_rollout", store.next_roll_out),
        ("scheduling_rolloutitem", store.next_item),
    ):
        with connection.cursor() as cursor:
            sequence = "SELECT setval(pg_get_serial_sequence(%s, 'id'), %s, false)"
            cursor.execute(sequence, [table, first])


TIMES = ("_at", "_since", "until")


def _written(row: Any) -> dict[str, Any]:
    values = {}
    for name, value in vars(row).items():
        if isinstance(value, dict | list):
            value = Jsonb(value)
        elif name.endswith(TIMES) and value is not None:
            value = _time(value)
        values[name] = value
    return values


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _insert(table: str, **values: Any) -> Any:
    columns = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join(f"%({name})s" for name in values)
    with django_cursor() as cursor:
        text = f"INSERT INTO {table} ({columns}) VALUES ({marks}) RETURNING *"
        row: Any = cursor.execute(text.encode(), values).fetchone()
    return row[0]
