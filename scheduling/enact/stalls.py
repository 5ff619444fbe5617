"""A healthy heartbeat says nothing of progress: a portfolio that stands still, or lags for long, is
marked.

The alert that follows is opened and closed with all others, in `alerts.py`.
"""

from __future__ import annotations

from scheduling.db.statements import GATEWAY_REACHABLE, Statement, head_seq
from scheduling.db.transaction import Transaction, query
from scheduling.timing import Timing

#: Marked when it stands, unmarked when it moves again or is owned elsewhere. A time in which nobody
#: could reach us, or in which the clock was set forward, is not counted as standing.
STALLS = Statement(
    "STALLS",
    f"""
WITH head AS (
    -- A change of rate is written down a second before it begins.
    SELECT DISTINCT ON (s.feed_id) s.feed_id, greatest(s.from_seq, {head_seq()}) AS seq
    FROM portfolios_feedsegment s ORDER BY s.feed_id, s.id DESC
), judging AS MATERIALIZED (
    SELECT FROM scheduling_gatewaypulse g
    WHERE g.serving_since < clock_timestamp() - make_interval(secs => %(stall_s)s)
      AND {GATEWAY_REACHABLE}
      -- Where no commit gets through, that is one cause and one alert.
      AND (g.commits_stood_at IS NULL OR g.commits_stood_at
           NOT BETWEEN clock_timestamp() - make_interval(secs => %(stall_s)s)
                   AND clock_timestamp() + interval '1 s')
), standing AS (
    SELECT r.portfolio_id
    FROM scheduling_run r
    JOIN portfolios_portfolio p ON p.id = r.portfolio_id
    JOIN head ON head.feed_id = p.feed_id
    JOIN scheduling_node n ON n.id = r.node_id AND n.status = 'alive'
    CROSS JOIN judging
    WHERE r.phase = 'running' AND r.last_seq < head.seq
      AND r.last_commit_at < clock_timestamp() - make_interval(secs => %(stall_s)s)
      -- After a quiet hour the first event has not waited an hour; and what has waited since an
      -- earlier segment still does when the rate changes.
      AND (SELECT s.from_time + make_interval(secs => coalesce(
               greatest(r.last_seq + 1 - s.from_seq, 0) / nullif(s.rate, 0), 0))
           FROM portfolios_feedsegment s
           WHERE s.feed_id = p.feed_id AND s.from_seq <= greatest(r.last_seq, 1)
           ORDER BY s.id DESC LIMIT 1)
          < clock_timestamp() - make_interval(secs => %(stall_s)s)
), free AS MATERIALIZED (
    -- What somebody commits or grants just now is looked at next time.
    SELECT r.portfolio_id FROM scheduling_run r
    WHERE r.stalled_at IS NOT NULL OR r.portfolio_id IN (SELECT portfolio_id FROM standing)
    ORDER BY r.portfolio_id FOR UPDATE SKIP LOCKED
), opened AS (
    UPDATE scheduling_run r SET stalled_at = clock_timestamp()
    FROM standing s JOIN free ON free.portfolio_id = s.portfolio_id
    WHERE r.portfolio_id = s.portfolio_id AND r.stalled_at IS NULL
    RETURNING r.portfolio_id
), closed AS (
    UPDATE scheduling_run r SET stalled_at = NULL
    FROM free WHERE free.portfolio_id = r.portfolio_id AND r.stalled_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM standing s WHERE s.portfolio_id = r.portfolio_id)
      AND (EXISTS (SELECT FROM judging) OR r.phase <> 'running' OR r.last_commit_at > r.stalled_at)
)
SELECT portfolio_id FROM opened
""",
)


def mark_stalls(timing: Timing) -> Transaction[int]:
    """Mark each portfolio that stands still, unmark the others. Return how many began to stand."""
    rows = yield from query(STALLS, stall_s=timing.stall_s, gap_s=timing.pulse_gap_s)
    return len(rows)


#: Marked while the next event of a portfolio is older than its decisions may be: it commits, and
#: yet it places no order. Compared with the head of that age ago, one figure for each feed.
BEHIND = Statement(
    "BEHIND",
    f"""
WITH due AS MATERIALIZED (
    SELECT DISTINCT ON (s.feed_id) s.feed_id,
           {head_seq("clock_timestamp() - make_interval(secs => %(stale_s)s)")} AS seq
    FROM portfolios_feedsegment s
    WHERE s.from_time <= clock_timestamp() - make_interval(secs => %(stale_s)s)
    ORDER BY s.feed_id, s.id DESC
), judging AS MATERIALIZED (
    SELECT FROM scheduling_gatewaypulse g
    WHERE {GATEWAY_REACHABLE}
), late AS MATERIALIZED (
    SELECT r.portfolio_id
    FROM scheduling_run r
    JOIN portfolios_portfolio p ON p.id = r.portfolio_id
    JOIN due ON due.feed_id = p.feed_id
    JOIN scheduling_node n ON n.id = r.node_id AND n.status = 'alive'
    WHERE r.phase = 'running' AND r.last_seq < due.seq
), free AS MATERIALIZED (
    -- What somebody commits or grants just now is looked at next time.
    SELECT r.portfolio_id, late.portfolio_id IS NOT NULL AS is_late
    FROM scheduling_run r LEFT JOIN late ON late.portfolio_id = r.portfolio_id
    WHERE (r.behind_since IS NULL) = (late.portfolio_id IS NOT NULL)
    ORDER BY r.portfolio_id FOR UPDATE OF r SKIP LOCKED
)
UPDATE scheduling_run r SET behind_since = CASE WHEN free.is_late THEN clock_timestamp() END
FROM free, judging WHERE r.portfolio_id = free.portfolio_id
RETURNING r.portfolio_id
""",
)


def mark_behind(timing: Timing) -> Transaction[int]:
    """Mark each portfolio that lags behind what its decisions allow, unmark those that caught up.

    Return how many marks changed.
    """
    rows = yield from query(BEHIND, stale_s=timing.stale_order_age_s, gap_s=timing.pulse_gap_s)
    return len(rows)
