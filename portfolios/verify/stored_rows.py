"""Read a portfolio's stored orders, fills and equity points, one window of events at a time.

Rows at or before a committed seq no longer change, so windows need no common snapshot. The status
of an order still changes; it is read as of the last event compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from django.db import connection
from psycopg.rows import namedtuple_row

from portfolios.runtime.results import EquityRow, FillRow, OrderRow
from portfolios.verify.types import OrderOutcome, StoredFill, StoredOrder, StoredRows

#: Status, end and `has_end` of an order as of the last event compared: a later fill or end does not
#: count yet.
OUTCOME = """
       CASE WHEN o.status = 'filled' AND EXISTS (
            SELECT FROM portfolios_fill f WHERE f.portfolio_id = o.portfolio_id
            AND f.fill_seq > %(as_of)s AND f.order_id = o.id
       ) OR o.ended_seq > %(as_of)s THEN 'open' ELSE o.status END AS status,
       CASE WHEN o.ended_seq <= %(as_of)s THEN o.ended_seq END AS ended_seq,
       o.ended_seq IS NOT NULL AS has_end
"""

ORDERS = f"""
SELECT o.id, o.seq, o.index, o.symbol, o.side, o.quantity, o.price, o.reason, o.epoch, o.node,
       o.revision, (extract(epoch FROM o.decided_at) * 1000000)::bigint AS decided_us,
       o.kind, o.limit_price, o.stop_price, o.time_in_force, o.tag,
       {OUTCOME}
FROM portfolios_order o
WHERE o.portfolio_id = %(portfolio)s AND o.seq > %(from_seq)s AND o.seq <= %(to_seq)s
ORDER BY o.seq, o.index
"""

#: Seq and index of the order are the last two of the seven parts of its id.
FILLS = """
SELECT f.order_id, split_part(f.order_id, '-', 6)::bigint AS order_seq,
       split_part(f.order_id, '-', 7)::int AS order_index, f.fill_seq, f.index, f.symbol,
       f.side, f.quantity, f.price, f.fee, f.epoch,
       (extract(epoch FROM f.at) * 1000000)::bigint AS at_us
FROM portfolios_fill f
WHERE f.portfolio_id = %(portfolio)s AND f.fill_seq > %(from_seq)s AND f.fill_seq <= %(to_seq)s
ORDER BY f.fill_seq, f.index
"""

EQUITY = """
SELECT seq, (extract(epoch FROM at) * 1000000)::bigint AS at_us, equity
FROM portfolios_equitypoint
WHERE portfolio_id = %(portfolio)s AND seq > %(from_seq)s AND seq <= %(to_seq)s
ORDER BY seq
"""

#: Status and end of the orders in a list, as of the last event compared.
STATUSES = f"""
SELECT o.seq, o.index, o.reason, {OUTCOME}
FROM unnest(%(seqs)s::bigint[], %(indexes)s::int[]) AS x(seq, index)
JOIN portfolios_order o ON o.portfolio_id = %(portfolio)s AND o.seq = x.seq AND o.index = x.index
"""


class StoredRowsReader:
    """Reads windows of one portfolio's rows, as of the last event compared."""

    def __init__(self, portfolio: int, as_of: int) -> None:
        """Prepare to read this portfolio; orders as they were after the event with seq `as_of`."""
        self._portfolio, self._as_of = portfolio, as_of

    def rows(self, from_seq: int, to_seq: int) -> StoredRows:
        """Return the orders, fills and equity points of (from_seq, to_seq]. Three statements."""
        where = {
            "portfolio": self._portfolio,
            "from_seq": from_seq,
            "to_seq": to_seq,
            "as_of": self._as_of,
        }
        with named_cursor() as cursor:
            return StoredRows(
                [_order(row) for row in cursor.execute(ORDERS, where)],
                [_fill(row) for row in cursor.execute(FILLS, where)],
                [_point(row) for row in cursor.execute(EQUITY, where)],
            )

    def outcomes(self, orders: Sequence[tuple[int, int]]) -> dict[tuple[int, int], OrderOutcome]:
        """Return the stored outcomes of these orders, each a (seq, index). One statement."""
        where = {
            "portfolio": self._portfolio,
            "as_of": self._as_of,
            "seqs": [seq for seq, _ in orders],
            "indexes": [index for _, index in orders],
        }
        with named_cursor() as cursor:
            rows = cursor.execute(STATUSES, where).fetchall()
        return {(row.seq, row.index): _outcome(row) for row in rows}


def named_cursor() -> psycopg.Cursor[Any]:
    """Return a cursor with rows by name; Django's own cursors return plain tuples."""
    connection.ensure_connection()
    return psycopg.Cursor(connection.connection, row_factory=namedtuple_row)


def _order(row: Any) -> StoredOrder:
    return StoredOrder(
        id=row.id,
        row=OrderRow(
            row.seq, row.index, row.symbol, row.side, row.quantity, row.price, row.status,
            None if row.has_end else row.reason or None,  # the reason of the end replaced it
            row.decided_us, row.kind, row.limit_price, row.stop_price, row.time_in_force, row.tag,
        ),
        outcome=_outcome(row), epoch=row.epoch, node=row.node, revision=row.revision,
    )  # fmt: skip


def _fill(row: Any) -> StoredFill:
    return StoredFill(
        order_id=row.order_id,
        row=FillRow(
            row.order_seq, row.order_index, row.fill_seq, row.index, row.symbol, row.side,
            row.quantity, row.price, row.at_us, row.fee,
        ),
        epoch=row.epoch,
    )  # fmt: skip


def _outcome(row: Any) -> OrderOutcome:
    if row.ended_seq is None:
        return OrderOutcome(row.status)
    return OrderOutcome(row.status, row.ended_seq, row.reason)


def _point(row: Any) -> EquityRow:
    return EquityRow(row.seq, row.at_us, row.equity)
