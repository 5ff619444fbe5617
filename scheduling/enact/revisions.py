"""Prove revisions, try rejected ones again, and find runs whose revision is not the wanted one."""

from __future__ import annotations

from typing import NamedTuple

from scheduling.db.statements import ACTIVE_HANDOFF_STATES, PortfolioIdRow, Statement
from scheduling.db.transaction import Transaction, query
from scheduling.timing import Timing

PROVE = Statement(
    "PROVE",
    """
WITH ready AS MATERIALIZED (
    -- Lock the run first, as everywhere. A run whose row is locked (by a commit or a grant) is left
    -- to the next sweep, and so is one whose revision is locked by an operator's change: if this
    -- statement waited, the commits of all runs that it has locked would wait, too.
    SELECT r.portfolio_id, r.revision
    FROM scheduling_run r
    JOIN scheduling_tenure t ON t.portfolio_id = r.portfolio_id AND t.epoch = r.epoch
    JOIN portfolios_revision v ON v.portfolio_id = r.portfolio_id AND v.number = r.revision
    WHERE (v.status = 'unproven'
           -- The run returned to an earlier good revision: fall back to that one from now on.
           OR (v.status = 'good' AND r.good_revision IS DISTINCT FROM r.revision))
      -- Proven by a commit after that time, not by the time alone: while nodes cannot reach the
      -- gateway, no report says that the process has exited.
      AND r.last_commit_at > r.first_commit_at + make_interval(secs => %(good_after_s)s)
      AND r.last_seq > t.from_seq
    ORDER BY r.portfolio_id
    FOR UPDATE OF r SKIP LOCKED FOR NO KEY UPDATE OF v SKIP LOCKED
), noted AS (
    UPDATE scheduling_run r SET good_revision = ready.revision
    FROM ready WHERE r.portfolio_id = ready.portfolio_id
), proven AS (
    UPDATE portfolios_revision v SET status = 'good', status_reason = ''
    FROM ready WHERE v.portfolio_id = ready.portfolio_id AND v.number = ready.revision
    RETURNING v.portfolio_id, v.number
), audited AS (
    INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
    SELECT clock_timestamp(), 'revision_good', portfolio_id, NULL, 'sweep', '',
           jsonb_build_object('revision', number) FROM proven
)
SELECT portfolio_id FROM proven
""",
    row=PortfolioIdRow,
)


def mark_proven_revisions(timing: Timing) -> Transaction[int]:
    """Mark revisions good whose runs made progress and still commit after `good_after_s`.

    Each becomes the revision that its run falls back to. Return how many became good.
    """
    return len((yield from query(PROVE, good_after_s=timing.good_after_s)))


#: Concurrent writer: a sweep that proved it meanwhile; then it stays good.
TRY_AGAIN = Statement(
    "TRY_AGAIN",
    """
UPDATE portfolios_revision SET status = 'unproven'
WHERE portfolio_id = %(portfolio)s AND number = %(number)s AND status = 'rejected'
""",
)


def try_again(portfolio: int, number: int) -> Transaction[None]:
    """Make a revision unproven again, since an operator asks for it, if it is rejected."""
    yield from query(TRY_AGAIN, portfolio=portfolio, number=number)


class StaleRevisionRow(NamedTuple):
    portfolio_id: int
    epoch: int
    node_id: int
    wanted: int  #: the number of the wanted revision


#: Runs whose revision is not the wanted one. Level-triggered: two quick changes of a
#: configuration end at the last one.
STALE_REVISIONS = Statement(
    "STALE_REVISIONS",
    f"""
SELECT r.portfolio_id, r.epoch, r.node_id, p.revision AS wanted
FROM scheduling_run r
JOIN portfolios_portfolio p ON p.id = r.portfolio_id
JOIN portfolios_revision v ON v.portfolio_id = p.id AND v.number = p.revision
JOIN scheduling_tenure t ON t.portfolio_id = r.portfolio_id AND t.epoch = r.epoch
JOIN scheduling_lease l ON l.node_id = r.node_id AND l.incarnation = r.incarnation
JOIN scheduling_node n ON n.id = r.node_id
WHERE r.revision <> p.revision AND v.status <> 'rejected' AND r.phase = 'running'
  -- On a node that cannot run it the reload would fail, and the revision be blamed for it.
  AND CASE WHEN v.artifact_sha256 IS NULL
           THEN n.strategies -> v.strategy = to_jsonb(v.strategy_version)
           ELSE n.python = '' OR EXISTS (
               SELECT FROM portfolios_artifact a WHERE a.sha256 = v.artifact_sha256
                 AND (a.pythons = '[]' OR a.pythons ? n.python)) END
  AND l.expires_at > clock_timestamp()
  AND (t.cause <> 'failover'
       OR r.first_commit_at < clock_timestamp() - make_interval(secs => %(good_after_s)s))
  AND NOT EXISTS (SELECT FROM scheduling_handoff h WHERE h.portfolio_id = r.portfolio_id
                  AND (h.state IN {ACTIVE_HANDOFF_STATES}
                       -- A failed reload is not repeated at once.
                       OR (h.kind = 'reload' AND h.to_revision = p.revision
                           AND h.state IN ('failed', 'rolled_back')
                           AND h.finished_at > clock_timestamp()
                               - make_interval(secs => %(pause_s)s))))
  -- Nor is a reload that waits until positions are closed, as the reason of the run says.
  AND (r.why ->> 'code' IS DISTINCT FROM 'symbol_in_use'
       OR r.why #>> '{{params,wanted}}' IS DISTINCT FROM 'r' || p.revision
       OR coalesce((r.why ->> 'checked_at')::float8, 0)
           < extract(epoch FROM clock_timestamp()) - %(pause_s)s)
ORDER BY r.portfolio_id LIMIT 50
""",
    row=StaleRevisionRow,
)

#: Seconds between two automatic attempts to reload to the same revision.
RELOAD_PAUSE_S = 10.0


def find_stale_revisions(timing: Timing) -> Transaction[list[StaleRevisionRow]]:
    """Return at most 50 runs that should be reloaded to their wanted revision now."""
    limits = {"good_after_s": timing.good_after_s, "pause_s": RELOAD_PAUSE_S}
    return (yield from query(STALE_REVISIONS, **limits))
