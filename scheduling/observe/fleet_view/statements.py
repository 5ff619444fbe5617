"""The statements of a view of the fleet. Their number does not depend on its size."""

from scheduling.db.statements import ACTIVE_HANDOFF_STATES, FEED_SEGMENTS

#: The time, with the freeze and the hold of failover, if there are any.
CLOCK = """
SELECT clock_timestamp() AS now, c.frozen_at, c.frozen_by, c.frozen_reason, c.freeze_failover,
       s.held_at, s.until, s.held_by, s.reason AS held_reason, s.nodes, s.of_nodes
FROM (SELECT 1) one LEFT JOIN scheduling_control c ON true LEFT JOIN scheduling_storm s ON true
"""
#: Open alerts, with the data of their reason where the cause's own row has it.
ALERTS = """
SELECT a.id, a.kind, p.name AS portfolio, n.name AS node, a.reason, a.times, a.opened_at,
       CASE WHEN a.kind IN ('pending', 'quarantined', 'halted') AND r.reason = a.reason
            THEN r.why
            WHEN a.kind = 'node_lost' THEN jsonb_build_object(
           'code', 'node_lost', 'params', jsonb_build_object(
               'node', n.name, 'loss', n.lost_why -> 'params',
               'since', to_char(n.status_since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))
       END AS why, a.acknowledged_by
FROM scheduling_alert a LEFT JOIN portfolios_portfolio p ON p.id = a.portfolio_id
LEFT JOIN scheduling_run r ON r.portfolio_id = a.portfolio_id
LEFT JOIN scheduling_node n ON n.id = a.node_id
WHERE a.closed_at IS NULL ORDER BY a.id
"""
#: Segments of all feeds, from which their heads are computed.
SEGMENTS = f"""
SELECT s.feed_id, s.from_seq, (extract(epoch FROM s.from_time) * 1e6)::bigint AS from_time_us,
       s.rate
FROM {FEED_SEGMENTS} s ORDER BY s.feed_id, s.id
"""
#: Nodes with their lease, their last report and, while alive, their node-loss forecast.
NODES = """
SELECT n.*, l.incarnation, l.renewed_at, l.expires_at, l.cut_by,
       l.cut_at AT TIME ZONE 'UTC' AS cut_at, r.metrics, r.portfolios AS reported,
       x.as_of, x.runs, x.fit, x.homeless, x.waiting, x.suspects
FROM scheduling_node n
LEFT JOIN scheduling_lease l ON l.node_id = n.id
LEFT JOIN scheduling_nodereport r ON r.node_id = n.id
LEFT JOIN scheduling_resilience x ON x.node_id = n.id AND n.status = 'alive'
WHERE n.status <> 'new' ORDER BY n.name
"""
#: Portfolios, or the one named `name`, with run `r`, wanted revision `w` and running revision `v`.
PORTFOLIOS = """
SELECT p.id, p.name, p.weight, p.priority, p.selector, p.spread_group, p.spread_hard, p.catch_up,
       p.desired_state, p.revision, p.first_seq, p.starting_cash, p.feed_id, f.name AS feed,
       w.strategy, w.strategy_version, w.artifact_sha256 AS artifact,
       (SELECT a.name || ' ' || a.version FROM portfolios_artifact a
        WHERE a.sha256 = w.artifact_sha256) AS artifact_label,
       w.config, w.symbols, w.limits,
       v.status AS rev_status, w.status AS wanted_status, w.status_reason,
       r.node_id, r.epoch, r.revision AS running_revision, r.phase,
       r.phase_since, r.last_seq, r.state_seq, r.last_commit_at, r.first_commit_at, r.attempts,
       r.orders_refused, r.orders_suppressed, r.unplaced_orders, r.behind_since,
       r.reason, r.why, r.good_revision, r.pinned_node_id, r.python, r.accept_python,
       c.seq AS checkpoint_seq
FROM portfolios_portfolio p
JOIN portfolios_feed f ON f.id = p.feed_id
JOIN scheduling_run r ON r.portfolio_id = p.id
JOIN portfolios_revision w ON w.portfolio_id = p.id AND w.number = p.revision
JOIN portfolios_revision v ON v.portfolio_id = p.id AND v.number = r.revision
LEFT JOIN portfolios_checkpoint c ON c.portfolio_id = p.id
WHERE p.archived_at IS NULL AND (%(name)s::text IS NULL OR p.name = %(name)s::text)
ORDER BY p.name
"""
#: Stored states. They are large, so only those that have changed are read.
STATES = """
SELECT portfolio_id, seq, state FROM portfolios_checkpoint WHERE portfolio_id = ANY(%(ids)s)
"""
HANDOFF = """
SELECT h.*, p.name AS portfolio, s.name AS source_node, t.name AS target_node, p.weight
FROM scheduling_handoff h JOIN portfolios_portfolio p ON p.id = h.portfolio_id
LEFT JOIN scheduling_node s ON s.id = h.source_node_id
LEFT JOIN scheduling_node t ON t.id = h.target_node_id
"""
ACTIVE_HANDOFFS = (
    HANDOFF
    + f"""
WHERE h.state IN {ACTIVE_HANDOFF_STATES} ORDER BY h.id
"""
)
#: The newest ended handoffs, and the newest of those that no listed loss of a node counts.
RECENT_HANDOFFS = f"""
WITH newest AS (
    SELECT h.id FROM scheduling_handoff h WHERE h.state NOT IN {ACTIVE_HANDOFF_STATES}
    ORDER BY h.id DESC LIMIT %(most)s
), single AS (
    SELECT h.id FROM scheduling_handoff h WHERE h.state NOT IN {ACTIVE_HANDOFF_STATES}
      AND NOT (h.kind = 'failover' AND h.state = 'done' AND EXISTS (
          SELECT FROM unnest(%(lost)s::bigint[], %(since)s::timestamptz[]) AS l(node, since)
          WHERE l.node = h.source_node_id AND h.requested_at >= l.since - interval '1 ms'))
    ORDER BY h.id DESC LIMIT %(most)s
)
SELECT x.*, x.id IN (SELECT id FROM newest) AS is_newest,
       x.id IN (SELECT id FROM single) AS is_single
FROM ({HANDOFF}) x
WHERE x.id IN (SELECT id FROM newest UNION SELECT id FROM single) ORDER BY x.id DESC
"""
#: Percentiles of the newest pauses of migrations and reloads, in milliseconds.
PAUSE = """
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY pause_ms) AS p50,
       percentile_disc(0.99) WITHIN GROUP (ORDER BY pause_ms) AS p99
FROM (SELECT pause_ms FROM scheduling_handoff
      WHERE state = 'done' AND kind IN ('migrate', 'reload') AND pause_ms IS NOT NULL
      ORDER BY id DESC LIMIT %(most)s) recent
"""
#: The newest equity points of each portfolio.
SPARKLINES = """
SELECT p.id, x.points FROM portfolios_portfolio p
CROSS JOIN LATERAL (SELECT array_agg(equity ORDER BY seq) AS points FROM (
    SELECT seq, equity::float8 AS equity FROM portfolios_equitypoint e
    WHERE e.portfolio_id = p.id ORDER BY seq DESC LIMIT %(most)s) last) x
WHERE p.archived_at IS NULL
"""
