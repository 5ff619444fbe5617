"""Let a process that repeats its statements keep their plans, for as long as the plans fit.

A pass runs the same thirty statements, and planning them costs five times what executing them does.
So the watcher's session prepares them, and PostgreSQL keeps a plan after five executions, unless it
expects a better one for particular parameters (docs/decisions/0016-kept-plans.md).

A kept plan fits the tables as they were. PostgreSQL makes another one after a table was analyzed,
which is up to a minute after it has grown. Until then, a nested loop that was planned for ten
portfolios may read ten thousand rows ten thousand times. So plans are discarded as soon as a table
that passes read has doubled.
"""

from __future__ import annotations

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query, query_one

#: Tables that passes read whole.
TABLES = [
    "scheduling_node",
    "scheduling_lease",
    "scheduling_run",
    "scheduling_handoff",
    "scheduling_tenure",
    "scheduling_alert",
    "portfolios_portfolio",
    "portfolios_revision",
    "portfolios_feedsegment",
]

#: Fewer rows than these need no other plan.
FEW_ROWS = 100

#: The size of each table in bytes, and in rows, as far as sessions have reported them. Rows count,
#: too: a table in which much was deleted takes new rows without growing in bytes.
SIZES = Statement(
    "SIZES",
    """
SELECT array_agg(pg_relation_size(name::regclass))
    || array_agg(greatest(pg_stat_get_live_tuples(name::regclass), %(few)s)) AS sizes
FROM unnest(%(tables)s::text[]) AS t (name)
""",
)

DISCARD = Statement("DISCARD", "DISCARD PLANS")


class KeptPlans:
    """The plans of one session, and the sizes of the tables that they were made for."""

    def __init__(self) -> None:
        self._made_for: list[int] = []

    def discard_outgrown(self) -> Transaction[bool]:
        """Discard all plans if a table has more than doubled since they were made.

        Return whether they were discarded. The first call only notes the sizes.
        """
        row = yield from query_one(SIZES, tables=TABLES, few=FEW_ROWS)
        assert row is not None
        made_for = self._made_for or row.sizes
        grown = any(new > 2 * old for old, new in zip(made_for, row.sizes, strict=True))
        if grown:
            yield from query(DISCARD)
        self._made_for = row.sizes if grown else made_for
        return grown
