"""Checksums over the stored rows of a range of events, to detect changes of verified rows.

A sum is the number of rows and the total of their hashes, so that sums of adjacent ranges add up.
A change goes undetected with a probability of 2^-64. The hash is PostgreSQL's own, which is ten
times faster than comparing the rows again; if another version of PostgreSQL computed another hash,
the rows would count as changed and be verified again from an earlier anchor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from portfolios.verify.stored_rows import named_cursor

#: Seqs in one statement: one or two seconds if every event made an order.
BATCH_SEQS = 1_000_000
MODULUS = 1 << 64  #: of a total of hashes

#: How a placed order ended is covered by FILLS and ENDS, at the event that ended it. A column that
#: older versions did not have counts only if its value is not the default, so that the sums of rows
#: that they wrote stay the same.
ORDERS = """
SELECT count(*) AS rows,
       coalesce(sum(hashtextextended(concat_ws('|', o.id, o.seq, o.index, o.symbol, o.side,
           o.quantity, o.price, CASE WHEN o.ended_seq IS NULL THEN o.reason ELSE '' END, o.epoch,
           o.node, o.revision, (extract(epoch FROM o.decided_at) * 1000000)::bigint,
           CASE WHEN o.status IN ('open', 'filled')
                OR o.status IN ('cancelled', 'expired') AND o.ended_seq IS NOT NULL THEN 'placed'
                ELSE o.status END,
           nullif(o.kind, 'market'), o.limit_price, o.stop_price, nullif(o.time_in_force, 'gtc'),
           nullif(o.tag, '')), 0)), 0)
           AS total,
       coalesce(array_agg(ARRAY[o.seq, o.index::bigint]) FILTER (WHERE o.status = 'open'), '{}')
           AS open_orders
FROM portfolios_order o
WHERE o.portfolio_id = %(portfolio)s AND o.seq > %(from_seq)s AND o.seq <= %(to_seq)s
"""

#: Orders by the seq at which they ended, not were decided: one from before the range counts too.
ENDS = """
SELECT count(*) AS rows,
       coalesce(sum(hashtextextended(concat_ws('|', o.id, o.status, o.ended_seq, o.reason), 0)), 0)
           AS total
FROM portfolios_order o
WHERE o.portfolio_id = %(portfolio)s AND o.seq <= %(to_seq)s
  AND o.ended_seq > %(from_seq)s AND o.ended_seq <= %(to_seq)s
"""

FILLS = """
SELECT count(*) AS rows,
       coalesce(sum(hashtextextended(concat_ws('|', f.order_id, f.fill_seq, f.index, f.symbol,
           f.side, f.quantity, f.price, f.epoch,
           (extract(epoch FROM f.at) * 1000000)::bigint, nullif(f.fee, 0)), 0)), 0) AS total
FROM portfolios_fill f
WHERE f.portfolio_id = %(portfolio)s AND f.fill_seq > %(from_seq)s AND f.fill_seq <= %(to_seq)s
"""

EQUITY = """
SELECT count(*) AS rows,
       coalesce(sum(hashtextextended(concat_ws('|', e.seq,
           (extract(epoch FROM e.at) * 1000000)::bigint, e.equity), 0)), 0) AS total
FROM portfolios_equitypoint e
WHERE e.portfolio_id = %(portfolio)s AND e.seq > %(from_seq)s AND e.seq <= %(to_seq)s
"""

STATEMENTS = {"orders": ORDERS, "fills": FILLS, "equity": EQUITY, "ends": ENDS}


@dataclass(frozen=True, slots=True)
class RowSum:
    """Number of rows, and the total of their hashes modulo 2^64."""

    rows: int = 0
    total: int = 0

    def __add__(self, other: RowSum) -> RowSum:
        return RowSum(self.rows + other.rows, (self.total + other.total) % MODULUS)


@dataclass(frozen=True, slots=True)
class RangeSums:
    """The sums of a range, and its orders that are open now."""

    orders: RowSum = RowSum()
    fills: RowSum = RowSum()
    equity: RowSum = RowSum()
    ends: RowSum = RowSum()  #: orders that were cancelled or expired in the range
    open_orders: frozenset[tuple[int, int]] = field(default=frozenset())

    def __add__(self, other: RangeSums) -> RangeSums:
        return RangeSums(
            self.orders + other.orders, self.fills + other.fills, self.equity + other.equity,
            self.ends + other.ends, self.open_orders | other.open_orders,
        )  # fmt: skip


def sum_rows(
    portfolio: int, from_seq: int, to_seq: int, report_alive: Callable[[], None] = lambda: None
) -> RangeSums:
    """Return the sums over (from_seq, to_seq].

    `report_alive` is called after every four statements: it may report that the work goes on.
    """
    found = RangeSums()
    while from_seq < to_seq:
        end = min(from_seq + BATCH_SEQS, to_seq)
        found += _sum_batch({"portfolio": portfolio, "from_seq": from_seq, "to_seq": end})
        from_seq = end
        report_alive()
    return found


def _sum_batch(where: dict[str, int]) -> RangeSums:
    """Return the sums of one range, which `where` states as the parameters of STATEMENTS."""
    with named_cursor() as cursor:
        rows: dict[str, Any] = {
            kind: cursor.execute(statement.encode(), where).fetchone()
            for kind, statement in STATEMENTS.items()
        }
    found = {kind: RowSum(row.rows, int(row.total) % MODULUS) for kind, row in rows.items()}
    waiting = frozenset((seq, index) for seq, index in rows["orders"].open_orders)
    return RangeSums(**found, open_orders=waiting)
