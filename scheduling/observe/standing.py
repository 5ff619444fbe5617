"""What the last look at the portfolios found, so that the next one reads only what changed.

Rows are compared inside the database, in C: for every `BUCKET` portfolios one digest of all that a
plan may depend on. Where a digest is another one than at the last look, the portfolios of that
bucket are read anew; all others are as they were. A commit changes nothing that is digested, so a
fleet at work is a fleet at rest here. Nothing has to remember to raise a version, and a missed
notification cannot make it wrong: the digests are taken of the very snapshot that is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scheduling.decide.stock import Stock
from scheduling.decide.world import PortfolioView, Snapshot

#: Smaller ones would be more digests to compare, larger ones more rows read for one that changed.
BUCKET = 64

#: The feeds are no portfolios, but every portfolio has one.
FEEDS = -1

#: Runs are digested by what is written in them: every commit makes a new row version that says the
#: same to a plan. Of the others each new version counts: one transaction is never half seen, so
#: (ctid, xmin) names a version.
DIGESTS = f"""
SELECT bucket, bit_xor(digest) AS digest FROM (
    SELECT portfolio_id / {BUCKET} AS bucket, hash_record_extended(ROW(
        portfolio_id, node_id, phase, epoch, pinned_node_id, failures_by_node, revision,
        good_revision, reason, attempts), 0) AS digest
    FROM scheduling_run
    UNION ALL
    SELECT id / {BUCKET}, hashtidextended(ctid, xmin::text::bigint) FROM portfolios_portfolio
    UNION ALL
    SELECT portfolio_id / {BUCKET}, hashtidextended(ctid, xmin::text::bigint)
    FROM portfolios_revision
    UNION ALL
    SELECT portfolio_id / {BUCKET}, hash_record_extended(ROW(
        id, kind, source_node_id, target_node_id), 0)
    FROM scheduling_handoff WHERE state IN ('requested', 'preparing', 'draining', 'activating')
    UNION ALL
    SELECT {FEEDS}, hashtidextended(ctid, xmin::text::bigint) FROM portfolios_feed
) versions GROUP BY bucket
"""


class Standing:
    """The rows, views and digests of the last look. One reader at a time."""

    def __init__(self) -> None:
        self.stock = Stock()
        self.rows: dict[int, Any] = {}  #: portfolio id → its row
        self.with_reason: set[int] = set()  #: portfolios whose row carries a reason
        self.snapshot: Snapshot | None = None  #: the last look itself
        self.version = 0  #: another one once any portfolio is another than a plan saw
        self._digests: dict[int, int] = {}
        self._hurt: frozenset[int] = frozenset()  #: whose view depends on the time, too

    def forget(self) -> None:
        """Read everything anew at the next look."""
        self._digests = {}

    def stale(self, digests: Mapping[int, int]) -> list[int] | None:
        """Return the ids to read anew: of each bucket whose digest is not the one known. None: all
        of them.
        """
        known = self._digests
        if known.get(FEEDS) != digests.get(FEEDS):
            return None
        return [
            number
            for bucket in sorted({*known, *digests})
            if known.get(bucket) != digests.get(bucket)
            for number in range(bucket * BUCKET, (bucket + 1) * BUCKET)
        ]

    def take_in(
        self,
        digests: Mapping[int, int],
        stale: Iterable[int] | None,
        rows: Iterable[Any],
        hurt: Iterable[int],
        view_of: Callable[[Any], PortfolioView],
    ) -> None:
        """Follow the database: `rows` are all that there is now of what `stale` said.

        `hurt` are portfolios whose view depends on what failed lately, so it changes with time.
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
        self.stock.change(views, gone)
        self._hurt = now_hurt
        self._digests = dict(digests)
