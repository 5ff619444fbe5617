"""A healthy heartbeat says nothing of progress: a portfolio that stands still is told, once."""

from __future__ import annotations

from scheduling.enact.recipe import Recipe, call
from scheduling.enact.timing import Timing

#: One alert a cause: opened when it stands, closed when it moves again or is owned elsewhere.
STALLS = """
WITH head AS (
    SELECT DISTINCT ON (s.feed_id) s.feed_id, s.from_seq
        + floor(extract(epoch FROM clock_timestamp() - s.from_time) * s.rate)::bigint AS seq
    FROM portfolios_feedsegment s ORDER BY s.feed_id, s.id DESC
), standing AS (
    SELECT r.portfolio_id, r.node_id, head.seq - r.last_seq AS lag,
           extract(epoch FROM clock_timestamp() - r.last_commit_at) AS silent_s
    FROM scheduling_run r
    JOIN portfolios_portfolio p ON p.id = r.portfolio_id
    JOIN head ON head.feed_id = p.feed_id
    JOIN scheduling_node n ON n.id = r.node_id AND n.status = 'alive'
    WHERE r.phase = 'running' AND r.last_seq < head.seq
      AND r.last_commit_at < clock_timestamp() - make_interval(secs => %(stall_s)s)
), free AS MATERIALIZED (
    -- What somebody commits or grants just now is looked at next time.
    SELECT r.portfolio_id FROM scheduling_run r
    WHERE r.stalled_at IS NOT NULL OR r.portfolio_id IN (SELECT portfolio_id FROM standing)
    ORDER BY r.portfolio_id FOR UPDATE SKIP LOCKED
), opened AS (
    UPDATE scheduling_run r SET stalled_at = clock_timestamp()
    FROM standing s JOIN free ON free.portfolio_id = s.portfolio_id
    WHERE r.portfolio_id = s.portfolio_id AND r.stalled_at IS NULL
    RETURNING r.portfolio_id, r.node_id, s.lag, s.silent_s
), closed AS (
    UPDATE scheduling_run r SET stalled_at = NULL
    FROM free WHERE free.portfolio_id = r.portfolio_id AND r.stalled_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM standing s WHERE s.portfolio_id = r.portfolio_id)
    RETURNING r.portfolio_id, r.node_id
), audited AS (
    INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
    SELECT clock_timestamp(), 'stalled', portfolio_id, node_id, 'sweep',
           'no progress for ' || round(silent_s) || ' s while ' || lag || ' events wait, limit '
               || %(stall_s)s::float || ' s',
           jsonb_build_object('lag', lag, 'alert', 'open')
    FROM opened
    UNION ALL
    SELECT clock_timestamp(), 'stall_ended', portfolio_id, node_id, 'sweep', 'it moves again',
           jsonb_build_object('alert', 'closed')
    FROM closed
)
SELECT portfolio_id FROM opened
"""


def alert_stalls(timing: Timing) -> Recipe[int]:
    """Open an alert for each portfolio that stands still, close the others'. Return how many."""
    rows = yield from call(STALLS, stall_s=timing.stall_s)
    return len(rows)
