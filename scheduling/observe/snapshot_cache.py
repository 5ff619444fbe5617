"""Cache of the portfolios read by the last snapshot, so that the next one reads only changed rows.

A trigger stamps every row on which a plan depends with the transaction that changed it last, so no
statement can forget to raise a version. A commit changes no such row. The cache keeps the first
transaction whose end its snapshot did not see. Every row that the next snapshot has to read again
was stamped by that transaction or a later one, and an index finds it: the cost grows with the
number of changes, not with the fleet. A missed notification cannot make the cache wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from scheduling.db.statements import ACTIVE_HANDOFF_STATES, Statement
from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.types import PortfolioView, Snapshot

#: Columns of a snapshot's first statement that say which transactions the snapshot has seen. Their
#: numbers are comparable only while `numbering` stays the same. Another server, a crash (which
#: reuses numbers that were not durable and resets the statistics), or tables that were filled
#: again, as after a restore or a failover, change it and invalidate the cache. So does a change of
#: a feed, to which every portfolio refers.
SNAPSHOT_MARK = """
pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS first_unseen,
greatest(pg_snapshot_xmax(pg_current_snapshot()), pg_current_xact_id_if_assigned()
    )::text::bigint AS newest,
(SELECT (d.oid, pg_postmaster_start_time(),
         (SELECT stats_reset FROM pg_stat_bgwriter), pg_relation_filenode('scheduling_run'),
         pg_relation_filenode('portfolios_portfolio'), pg_relation_filenode('portfolios_revision')
        )::text
 FROM pg_database d WHERE d.datname = current_database())
|| (SELECT coalesce(string_agg((f.id, f.name, f.sha256)::text, '' ORDER BY f.id), '')
    FROM portfolios_feed f) AS numbering
"""

#: Rows changed by transaction `since` or a later one (none if NULL), and every open handoff: there
#: are few, and no index finds those that have ended. A stamp beyond `newest` comes from another
#: server, from which this database was restored; its row was read by the first snapshot.
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
    """The rows and views of the last snapshot. Not thread-safe."""

    def __init__(self) -> None:
        self.fleet_index = FleetIndex()
        self.rows: dict[int, Any] = {}  #: portfolio id → its row
        self.with_reason: set[int] = set()  #: ids of portfolios whose row has a reason
        self.snapshot: Snapshot | None = None  #: the last one
        self.version = 0  #: raised by every change of a portfolio that the planner sees
        self._numbering: str | None = None
        self._first_unseen = 0  #: the first transaction whose end the last snapshot did not see
        self._handoffs: dict[int, Any] = {}  #: portfolio id → its open handoff, a row of CHANGES
        #: Portfolios whose views also change with time.
        self._time_dependent: frozenset[int] = frozenset()

    def forget(self) -> None:
        """Make the next snapshot read everything."""
        self._numbering = None

    def since(self, numbering: str) -> int | None:
        """Return the first transaction whose changes the cache may lack; None: it lacks everything.

        `numbering` is from the SNAPSHOT_MARK of the current snapshot.
        """
        return self._first_unseen if numbering == self._numbering else None

    def ids_to_refresh(self, since: int | None, changes: Sequence[Any]) -> list[int] | None:
        """Return the portfolio ids to read again, given rows of CHANGES. None: all of them."""
        if since is None:
            return None
        old, new = self._handoffs, _open_handoffs(changes)
        in_changed_handoff = {
            id_ for id_ in old.keys() | new.keys() if old.get(id_) != new.get(id_)
        }
        changed = {row.portfolio_id for row in changes if row.handoff is None}
        return sorted(changed | in_changed_handoff)

    def apply_changes(
        self,
        mark: Any,
        changes: Sequence[Any],
        refreshed: Iterable[int] | None,
        rows: Iterable[Any],
        time_dependent: Iterable[int],
        view_of: Callable[[Any], PortfolioView],
    ) -> None:
        """Update the cache: `rows` are the current rows of the `refreshed` portfolios (None: all).

        `mark` is the row of SNAPSHOT_MARK, `changes` are those of CHANGES. The views of the
        portfolios whose ids are in `time_dependent` depend on recent failures, and so on the time.
        """
        fresh = {row.id: row for row in rows}
        expected = list(self.rows) if refreshed is None else refreshed
        gone = [id_ for id_ in expected if id_ in self.rows and id_ not in fresh]
        for id_ in gone:
            del self.rows[id_]
        self.rows.update(fresh)
        self.with_reason.difference_update(gone, fresh)
        self.with_reason.update(id_ for id_, row in fresh.items() if row.reason)
        now_dependent = frozenset(time_dependent)
        changed = {*fresh, *((self._time_dependent | now_dependent) & self.rows.keys())}
        views = [view_of(self.rows[id_]) for id_ in sorted(changed)]
        if gone or any(view != self.fleet_index.portfolios.get(view.id) for view in views):
            self.version += 1
        self.fleet_index.update(views, gone)
        self._time_dependent = now_dependent
        self._numbering, self._first_unseen = mark.numbering, mark.first_unseen
        self._handoffs = _open_handoffs(changes)


def _open_handoffs(changes: Iterable[Any]) -> dict[int, Any]:
    """Return portfolio id → its open handoff, given rows of CHANGES, which include all of these."""
    return {row.portfolio_id: row for row in changes if row.handoff is not None}
