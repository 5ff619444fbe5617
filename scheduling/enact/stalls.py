"""Mark portfolios that are stalled or behind; a healthy heartbeat does not prove progress.

Their alerts are opened and closed in `alerts.py`, like all others.
"""

from __future__ import annotations

from scheduling.db.statements import (
    FEED_SEGMENTS,
    GATEWAY_FIT,
    NEXT_RELEASED_US,
    Statement,
    commits_blocked,
    gateway_served,
    head_seq,
    own_gateway_failed,
)
from scheduling.db.transaction import Transaction, query
from scheduling.timing import Timing

#: Set the mark of a stalled portfolio; clear it when the portfolio makes progress or has another
#: owner. Time in which no node could reach the gateway, or by which the clock was set forward, does
#: not count.
STALLS = Statement(
    "STALLS",
    f"""
WITH head AS (
    -- A change of rate is stored a second before it takes effect.
    SELECT DISTINCT ON (s.feed_id) s.feed_id, greatest(s.from_seq, {head_seq()}) AS seq
    FROM {FEED_SEGMENTS} s ORDER BY s.feed_id, s.id DESC
), judged AS MATERIALIZED (
    SELECT l.node_id FROM scheduling_lease l
    WHERE EXISTS (SELECT FROM scheduling_gateway g WHERE {gateway_served("stall_s")})
      AND NOT {own_gateway_failed("l", "stall_s")}
      -- If no commit gets through, that is one cause with one alert.
      AND NOT {commits_blocked("stall_s")}
), stalled AS (
    SELECT r.portfolio_id
    FROM scheduling_run r
    JOIN portfolios_portfolio p ON p.id = r.portfolio_id
    JOIN head ON head.feed_id = p.feed_id
    JOIN scheduling_node n ON n.id = r.node_id AND n.status = 'alive'
    JOIN judged ON judged.node_id = r.node_id
    WHERE r.phase = 'running' AND r.last_seq < head.seq
      AND r.last_commit_at < clock_timestamp() - make_interval(secs => %(stall_s)s)
      -- After a quiet hour, the first event has not waited for an hour; an event that has waited
      -- since an earlier segment still waits when the rate changes.
      AND coalesce((SELECT s.from_time + make_interval(secs => coalesce(
               greatest(r.last_seq + 1 - s.from_seq, 0) / nullif(s.rate, 0), 0))
           FROM portfolios_feedsegment s
           WHERE s.feed_id = p.feed_id AND s.from_seq <= greatest(r.last_seq, 1)
           ORDER BY s.id DESC LIMIT 1),
           to_timestamp({NEXT_RELEASED_US} / 1e6))
          < clock_timestamp() - make_interval(secs => %(stall_s)s)
), free AS MATERIALIZED (
    -- Locked rows (a commit, a grant) wait for the next sweep.
    SELECT r.portfolio_id FROM scheduling_run r
    WHERE r.stalled_at IS NOT NULL OR r.portfolio_id IN (SELECT portfolio_id FROM stalled)
    ORDER BY r.portfolio_id FOR UPDATE SKIP LOCKED
), opened AS (
    UPDATE scheduling_run r SET stalled_at = clock_timestamp()
    FROM stalled s JOIN free ON free.portfolio_id = s.portfolio_id
    WHERE r.portfolio_id = s.portfolio_id AND r.stalled_at IS NULL
    RETURNING r.portfolio_id
), closed AS (
    UPDATE scheduling_run r SET stalled_at = NULL
    FROM free WHERE free.portfolio_id = r.portfolio_id AND r.stalled_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM stalled s WHERE s.portfolio_id = r.portfolio_id)
      AND (r.node_id IN (SELECT node_id FROM judged) OR r.phase <> 'running'
           OR r.last_commit_at > r.stalled_at)
)
SELECT portfolio_id FROM opened
""",
)


def mark_stalls(timing: Timing) -> Transaction[int]:
    """Mark stalled portfolios, unmark the others. Return how many are newly stalled."""
    return len((yield from query(STALLS, stall_s=timing.stall_s, gap_s=timing.pulse_gap_s)))


#: Mark a portfolio while its next event is too old to trade on: it commits, but places no orders.
#: The seq is compared with the head of that age ago, one number per feed; of a recorded feed, the
#: next record's own release time counts.
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
    SELECT WHERE EXISTS (SELECT FROM scheduling_gateway g WHERE {GATEWAY_FIT})
), late AS MATERIALIZED (
    SELECT r.portfolio_id
    FROM scheduling_run r
    JOIN portfolios_portfolio p ON p.id = r.portfolio_id
    LEFT JOIN due ON due.feed_id = p.feed_id
    JOIN scheduling_node n ON n.id = r.node_id AND n.status = 'alive'
    WHERE r.phase = 'running' AND (r.last_seq < due.seq
      -- Records state when they were released.
      OR {NEXT_RELEASED_US}
         < extract(epoch FROM clock_timestamp()) * 1e6 - %(stale_s)s * 1e6)
), free AS MATERIALIZED (
    -- Locked rows (a commit, a grant) wait for the next sweep.
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
    """Mark portfolios that are behind, unmark those that caught up. Return how many changed."""
    rows = yield from query(BEHIND, stale_s=timing.stale_order_age_s, gap_s=timing.pulse_gap_s)
    return len(rows)
