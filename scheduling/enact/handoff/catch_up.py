"""The time that a new owner needed to reach the head of its feed, for the page of a handoff."""

from __future__ import annotations

from collections.abc import Sequence

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query

CAUGHT_UP = Statement(
    "CAUGHT_UP",
    """
UPDATE scheduling_handoff h SET catchup_ms = x.ms
FROM unnest(%(portfolios)s::bigint[], %(epochs)s::bigint[], %(ms)s::float8[])
     AS x(portfolio, epoch, ms)
WHERE h.portfolio_id = x.portfolio AND h.to_epoch = x.epoch AND h.catchup_ms IS NULL
  AND h.state = 'done' AND h.target_node_id = %(node)s
  -- Up to eleven days. A node may report any number; a larger one may not fit into an interval.
  AND x.ms BETWEEN 0 AND 1e9
""",
)


def store_catch_up_times(node: int, reached: Sequence[tuple[int, int, float]]) -> Transaction[None]:
    """Store how long `node` took from its activation to the head, on each done handoff to it.

    `reached`: (portfolio, epoch, milliseconds). An epoch granted to another node is ignored.
    """
    yield from query(
        CAUGHT_UP,
        node=node,
        portfolios=[portfolio for portfolio, _, _ in reached],
        epochs=[epoch for _, epoch, _ in reached],
        ms=[ms for _, _, ms in reached],
    )
