"""The newest checkpoint of a portfolio, for its owner and for the node that takes it over."""

from __future__ import annotations

from uuid import UUID

from scheduling.db.statements import ACTIVE_HANDOFF_STATES, Statement
from scheduling.db.transaction import Row, Transaction, query_one

#: The run and its stored state, if the node owns the run or is the target of its handoff.
CHECKPOINT = Statement(
    "CHECKPOINT",
    f"""
SELECT r.epoch, r.revision, r.last_seq, r.state_seq, c.state,
       coalesce(c.revision, r.revision) AS state_revision
FROM scheduling_run r LEFT JOIN portfolios_checkpoint c ON c.portfolio_id = r.portfolio_id
WHERE r.portfolio_id = %(portfolio)s AND (
    (r.node_id = %(node)s AND r.incarnation = %(incarnation)s)
    OR EXISTS (SELECT FROM scheduling_handoff h WHERE h.id = %(handoff)s
               AND h.portfolio_id = r.portfolio_id AND h.target_node_id = %(node)s
               AND h.target_incarnation = %(incarnation)s
               AND h.state IN {ACTIVE_HANDOFF_STATES})
)
""",
)


def checkpoint(
    node: int, incarnation: UUID, portfolio: int, handoff: int | None
) -> Transaction[Row | None]:
    """Return a row of CHECKPOINT; None if the node is neither owner nor target of the handoff."""
    return (
        yield from query_one(
            CHECKPOINT, node=node, incarnation=incarnation, portfolio=portfolio, handoff=handoff
        )
    )
