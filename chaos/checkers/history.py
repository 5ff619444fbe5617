"""Check the stored history (I1, I2, I5).

Tenures must tile the log: each begins where the one before it ended. Only owners may have written
orders and fills.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chaos.checkers import invariants
from chaos.checkers.invariants import Failures, TenureRow

#: Ordered by id: the times may come from a clock that jumped.
_TENURES = """
SELECT p.name || ' #' || p.id, p.first_seq, t.epoch, t.from_seq, t.to_seq
FROM scheduling_tenure t JOIN portfolios_portfolio p ON p.id = t.portfolio_id
ORDER BY t.id
"""

#: Orders that the owner of their epoch could not have committed.
_STRAY_ORDERS = """
SELECT o.id, o.epoch, o.seq, o.node FROM portfolios_order o
LEFT JOIN scheduling_tenure t ON t.portfolio_id = o.portfolio_id AND t.epoch = o.epoch
LEFT JOIN scheduling_node n ON n.id = t.node_id
JOIN portfolios_portfolio p ON p.id = o.portfolio_id
WHERE t.epoch IS NULL OR o.node <> n.name OR o.seq <= t.from_seq OR o.seq > t.to_seq
   OR o.id <> p.uid::text || '-' || o.seq || '-' || o.index OR o.revision <> t.revision
"""
#: Fills that the owner of their epoch could not have committed.
_STRAY_FILLS = """
SELECT f.order_id, f.epoch, f.fill_seq FROM portfolios_fill f
LEFT JOIN scheduling_tenure t ON t.portfolio_id = f.portfolio_id AND t.epoch = f.epoch
WHERE t.epoch IS NULL OR f.fill_seq <= t.from_seq OR f.fill_seq > t.to_seq
"""


def history_violations(ask: Callable[[str], Sequence[tuple[Any, ...]]]) -> Failures:
    """Return violations in the stored history. `ask` runs a query and returns its rows."""
    found = invariants.tiling_violations(TenureRow(*row) for row in ask(_TENURES))
    found += [
        ("I5", f"order {order} (seq {seq}) does not fit a tenure of epoch {epoch} on {node}")
        for order, epoch, seq, node in ask(_STRAY_ORDERS)
    ]
    found += [
        ("I5", f"the fill of {order} at seq {seq} is outside the tenure of epoch {epoch}")
        for order, epoch, seq in ask(_STRAY_FILLS)
    ]
    return found
