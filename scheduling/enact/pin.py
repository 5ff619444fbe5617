"""Set and clear the pin of a portfolio. The pin is written here only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query
from scheduling.enact.audit_log import Line, audit_all

PIN = Statement(
    "PIN",
    """
UPDATE scheduling_run r SET pinned_node_id = w.node
FROM unnest(%(portfolios)s::bigint[], %(nodes)s::bigint[]) AS w(portfolio, node)
WHERE r.portfolio_id = w.portfolio
""",
)


class UnpinnedRow(NamedTuple):
    portfolio_id: int
    node: int  #: that it was pinned to


UNPIN = Statement(
    "UNPIN",
    """
WITH pinned AS MATERIALIZED (
    SELECT portfolio_id, pinned_node_id FROM scheduling_run
    WHERE portfolio_id = ANY(%(portfolios)s::bigint[])
      AND pinned_node_id = coalesce(%(node)s::bigint, pinned_node_id)
    ORDER BY portfolio_id FOR UPDATE
)
UPDATE scheduling_run r SET pinned_node_id = NULL
FROM pinned p WHERE r.portfolio_id = p.portfolio_id
RETURNING r.portfolio_id, p.pinned_node_id AS node
""",
    row=UnpinnedRow,
)


def pin(portfolio: int, node: int, *, actor: str, reason: str) -> Transaction[None]:
    """Pin a portfolio to `node`. The caller has locked its run."""
    yield from pin_all([portfolio], [node], actor=actor, reason=reason)


def pin_all(
    portfolios: Sequence[int], nodes: Sequence[int], *, actor: str, reason: str
) -> Transaction[None]:
    """Pin each portfolio to the node at its index in `nodes`. The caller has locked their runs."""
    yield from query(PIN, portfolios=list(portfolios), nodes=list(nodes))
    lines = [Line(each, node, reason, {}) for each, node in zip(portfolios, nodes, strict=True)]
    yield from audit_all("pinned", lines, actor=actor)


def unpin(
    portfolios: Sequence[int], *, node: int | None = None, actor: str, reason: str = "", **data: Any
) -> Transaction[bool]:
    """Clear the pins of `portfolios`; with `node`, only pins to that node.

    Return whether any portfolio was pinned.
    """
    rows = yield from query(UNPIN, portfolios=list(portfolios), node=node)
    if rows:
        lines = [Line(row.portfolio_id, row.node, reason, data) for row in rows]
        yield from audit_all("unpinned", lines, actor=actor)
    return bool(rows)
