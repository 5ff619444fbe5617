"""Store verification anchors: a bounded number per portfolio, however often it is verified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query

#: Number of newest anchors to keep, and of months with one older anchor each: old orders are
#: archived by then, and only an anchor lets a verification begin after them.
KEPT_NEWEST = 4
KEPT_MONTHS = 120

#: Concurrent writer: another verification that ended at the same event, with the same result.
KEEP = Statement(
    "KEEP",
    """
INSERT INTO scheduling_verificationanchor AS a
    (portfolio_id, seq, epoch, state, at, counts, open_orders, inputs, sums)
VALUES (%(portfolio)s, %(seq)s, %(epoch)s, %(state)s, clock_timestamp(), %(counts)s,
        %(open_orders)s, %(inputs)s, %(sums)s)
ON CONFLICT (portfolio_id, seq, epoch) DO UPDATE SET state = excluded.state, at = excluded.at,
    counts = excluded.counts, open_orders = excluded.open_orders, inputs = excluded.inputs,
    sums = excluded.sums
""",
)

#: Delete anchors whose evidence changed, and those beyond the bound.
THIN_OUT = Statement(
    "THIN_OUT",
    """
DELETE FROM scheduling_verificationanchor a
USING (
    SELECT id, row_number() OVER newest AS place,
           row_number() OVER (PARTITION BY date_trunc('month', at) ORDER BY seq DESC, epoch DESC)
               AS place_in_month
    FROM scheduling_verificationanchor WHERE portfolio_id = %(portfolio)s
    WINDOW newest AS (ORDER BY seq DESC, epoch DESC)
) x
WHERE a.id = x.id AND (
    x.id = ANY(%(invalid)s::bigint[])
    OR x.place > %(newest)s AND x.place_in_month > 1
    OR x.place > %(newest)s + %(months)s
)
""",
)


def keep_anchor(portfolio: int, invalid: Sequence[int], **anchor: Any) -> Transaction[None]:
    """Store the row `anchor`; delete the anchors `invalid` (ids), and those beyond the bound."""
    yield from query(
        THIN_OUT,
        portfolio=portfolio,
        invalid=list(invalid),
        newest=KEPT_NEWEST - 1,  # the anchor that is stored below is one of them
        months=KEPT_MONTHS,
    )
    documents = {name: Jsonb(anchor[name]) for name in ("counts", "open_orders", "sums")}
    yield from query(KEEP, portfolio=portfolio, **{**anchor, **documents})
