"""Drop old rows of the control plane, in batches. Assignment histories are never dropped.

`docs/retention.md` has every table that grows, with its bound or the reason why it has none.
"""

from __future__ import annotations

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query_one
from scheduling.decide.ownership_history import EVENT_KINDS

BATCH = 5_000  #: rows of one statement: milliseconds, so that nothing waits behind it
#: Of each portfolio and outcome: however many fail, the last that differs stays, and its alert.
KEPT_VERIFICATIONS = 20

#: The concurrent writer, in all of these: none. A row of this age is only read.
EVENTS = Statement(
    "EVENTS",
    """
WITH old AS (
    SELECT id FROM scheduling_event
    WHERE at < clock_timestamp() - make_interval(secs => %(keep_s)s) AND kind <> ALL(%(history)s)
    ORDER BY at LIMIT %(batch)s
), gone AS (
    DELETE FROM scheduling_event e USING old WHERE e.id = old.id RETURNING e.id
) SELECT count(*) AS rows FROM gone
""",
)

ALERTS = Statement(
    "ALERTS",
    """
WITH old AS (
    SELECT id FROM scheduling_alert
    WHERE closed_at < clock_timestamp() - make_interval(secs => %(keep_s)s) LIMIT %(batch)s
), gone AS (
    DELETE FROM scheduling_alert a USING old WHERE a.id = old.id RETURNING a.id
) SELECT count(*) AS rows FROM gone
""",
)

#: Handoffs that granted nothing. A tenure names the one that granted it, and keeps it.
HANDOFFS = Statement(
    "HANDOFFS",
    """
WITH old AS (
    SELECT h.id FROM scheduling_handoff h
    WHERE h.finished_at < clock_timestamp() - make_interval(secs => %(keep_s)s)
      AND h.state IN ('failed', 'superseded')
      AND NOT EXISTS (SELECT FROM scheduling_tenure t WHERE t.handoff_id = h.id)
    LIMIT %(batch)s
), gone AS (
    DELETE FROM scheduling_handoff h USING old WHERE h.id = old.id RETURNING h.id
) SELECT count(*) AS rows FROM gone
""",
)

VERIFICATIONS = Statement(
    "VERIFICATIONS",
    """
WITH old AS (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY portfolio_id, state ORDER BY id DESC) AS place
        FROM scheduling_verification WHERE state NOT IN ('waiting', 'running')
    ) x WHERE place > %(kept)s LIMIT %(batch)s
), gone AS (
    DELETE FROM scheduling_verification v USING old WHERE v.id = old.id RETURNING v.id
) SELECT count(*) AS rows FROM gone
""",
)


def prune_events(keep_s: float) -> Transaction[int]:
    """Drop a batch of lines outside assignment histories; return how many were dropped."""
    return _rows(
        (yield from query_one(EVENTS, keep_s=keep_s, history=list(EVENT_KINDS), batch=BATCH))
    )


def prune_alerts(keep_s: float) -> Transaction[int]:
    """Drop a batch of closed alerts; return how many."""
    return _rows((yield from query_one(ALERTS, keep_s=keep_s, batch=BATCH)))


def prune_handoffs(keep_s: float) -> Transaction[int]:
    """Drop a batch of handoffs that granted nothing; return how many."""
    return _rows((yield from query_one(HANDOFFS, keep_s=keep_s, batch=BATCH)))


def prune_verifications() -> Transaction[int]:
    """Drop a batch of verdicts beyond the newest of each portfolio; return how many."""
    return _rows((yield from query_one(VERIFICATIONS, kept=KEPT_VERIFICATIONS, batch=BATCH)))


def _rows(row: object) -> int:
    assert row is not None
    return int(row.rows)  # type: ignore[attr-defined]
