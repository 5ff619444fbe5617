"""What the last look at the portfolios found, so that the next one reads only what changed.

Every row that a plan depends on carries the transaction that changed it last, stamped by a trigger,
so no statement can forget to raise a version; a commit changes nothing of that kind. A look keeps
the first transaction whose end its snapshot did not see. Whatever the next look has to read anew
was stamped by that one or by a later one, and an index finds it: what is read grows with what
changed, not with the fleet. A missed notification cannot make it wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from scheduling.db.statements import ACTIVE_HANDOFF_STATES, Statement
from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.types import PortfolioView, Snapshot

#: Where a look stands, a part of its first statement. Transactions count on while one server runs;
#: in another one, after a crash (which gives numbers out again that were not durable, and begins
#: its statistics anew) or in tables that were filled anew, as after a restore or a failover,
#: nothing that was seen counts. So it is where a feed, which every portfolio has, is another one.
MARK = """
pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS unsettled,
greatest(pg_snapshot_xmax(pg_current_snapshot()), pg_current_xact_id_if_assigned()
    )::text::bigint AS newest,
(SELECT (d.oid, pg_postmaster_start_time(),
         (SELECT stats_reset FROM pg_stat_bgwriter), pg_relation_filenode('scheduling_run'),
         pg_relation_filenode('portfolios_portfolio'), pg_relation_filenode('portfolios_revision')
        )::text
 FROM pg_database d WHERE d.datname = current_database())
|| (SELECT coalesce(string_agg((f.id, f.name, f.sha256)::text, '' ORDER BY f.id), '')
    FROM portfolios_feed f) AS of
"""

#: What changed since the mark (NULL: none of it), and every open handoff, of which there are few:
#: one that ends leaves nothing behind that an index could find. A stamp beyond `newest` is of
#: another server, from which this database was restored, and was read at the first look.
CHANGES = Statement(
    "CHANGES",
    f"""
SELECT portfolio_id, NULL::bigint AS handoff, NULL AS kind, NULL::bigint AS source,
       NULL::bigint AS target
FROM scheduling_run WHERE changed_in BETWEEN %(since)s AND %(newest)s
UNION ALL
SELECT id, NULL, NULL, NULL, NULL
FROM portfolios_portfolio WHERE changed_in BETWEEN %(since)s AND %(newest)s
UNION ALL
SELECT portfolio_id, NULL, NULL, NULL, NULL
FROM portfolios_revision WHERE changed_in BETWEEN %(since)s AND %(newest)s
UNION ALL
SELECT portfolio_id, id, kind, source_node_id, target_node_id FROM scheduling_handoff
WHERE state IN {ACTIVE_HANDOFF_STATES}
""",
)


class SnapshotCache:
    """The rows and views of the last look. One reader at a time."""

    def __init__(self) -> None:
        self.stock = FleetIndex()
        self.rows: dict[int, Any] = {}  #: portfolio id → its row
        self.with_reason: set[int] = set()  #: portfolios whose row carries a reason
        self.snapshot: Snapshot | None = None  #: the last look itself
        self.version = 0  #: another one once any portfolio is another than a plan saw
        self._of: str | None = None
        self._unsettled = 0
        self._handoffs: dict[int, Any] = {}  #: portfolio id → its open handoff, a row of CHANGES
        self._hurt: frozenset[int] = frozenset()  #: whose view depends on the time, too

    def forget(self) -> None:
        """Read everything anew at the next look."""
        self._of = None

    def since(self, of: str) -> int | None:
        """Return the first transaction that may have changed what is known; None: all is unknown.

        `of` is that of the present look's MARK.
        """
        return self._unsettled if of == self._of else None

    def ids_to_refresh(self, since: int | None, changes: Sequence[Any]) -> list[int] | None:
        """Return the ids to read anew by what CHANGES found. None: all of them."""
        if since is None:
            return None
        known, now = self._handoffs, _open(changes)
        moved = {n for n in known.keys() | now.keys() if known.get(n) != now.get(n)}
        return sorted(moved.union(row.portfolio_id for row in changes if row.handoff is None))

    def apply_changes(
        self,
        mark: Any,
        changes: Sequence[Any],
        stale: Iterable[int] | None,
        rows: Iterable[Any],
        hurt: Iterable[int],
        view_of: Callable[[Any], PortfolioView],
    ) -> None:
        """Follow the database: `rows` are all that there is now of what `stale` said.

        `mark` and `changes` are rows of MARK and CHANGES. `hurt` are portfolios whose view depends
        on what failed lately, so it changes with time.
        """
        fresh = {row.id: row for row in rows}
        asked = list(self.rows) if stale is None else stale
        gone = [number for number in asked if number in self.rows and number not in fresh]
        for number in gone:
            del self.rows[number]
        self.rows.update(fresh)
        self.with_reason.difference_update(gone, fresh)
        self.with_reason.update(number for number, row in fresh.items() if row.reason)
        now_hurt = frozenset(hurt)
        changed = {*fresh, *((self._hurt | now_hurt) & self.rows.keys())}
        views = [view_of(self.rows[number]) for number in sorted(changed)]
        if gone or any(view != self.stock.portfolios.get(view.id) for view in views):
            self.version += 1
        self.stock.update(views, gone)
        self._hurt = now_hurt
        self._of, self._unsettled, self._handoffs = mark.of, mark.unsettled, _open(changes)


def _open(changes: Iterable[Any]) -> dict[int, Any]:
    return {row.portfolio_id: row for row in changes if row.handoff is not None}
