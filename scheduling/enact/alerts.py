"""Open and close alerts: one per cause, open until the cause is gone.

At the end of every tick, one statement compares the alerts that should be open with those that are.
No other code opens or closes an alert, so a state set manually, by a restore or by any other
statement raises its alert too.
"""

from __future__ import annotations

from typing import NamedTuple

from scheduling.db.statements import (
    NO_ACTIVE_HANDOFF,
    NOTIFY_BOARDS,
    Statement,
    commits_blocked,
    gateway_served,
    own_gateway_failed,
)
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.enact import pass_lock, storage
from scheduling.enact.audit_log import audit
from scheduling.enact.notify import notify_watchers
from scheduling.enact.timeline import CAUSE as COMMITS_VANISHED
from scheduling.task_registry import TASKS
from scheduling.timing import Timing

KINDS = (
    "node_lost",
    "storm_hold",
    "quarantined",
    "halted",
    "stalled",
    "pending",
    "revision_rejected",
    "roll_out_stopped",
    "verification_differs",
    "no_open_node",
    "passes_stand",
    "no_watcher",
    "commits_stand",
    "behind",
    "orders_refused",
    "unknown_schedule",
    "commits_vanished",
    "disk_full",
    "snapshot_held",
    "partition_missing",
    "table_growth",
    "archived_unverified",
    "feed_silent",
)

#: A live watcher without a complete pass for this long is an alert.
PASS_LIMIT_S = 10.0
#: Commits that wait in a gateway for this long, while none gets through, are an alert.
COMMITS_LIMIT_S = 10.0
#: A portfolio that lags for this long will not catch up; after an outage it takes seconds.
BEHIND_LIMIT_S = 60.0
#: This many orders in a row that were not placed, over at least this time, open an alert: it is not
#: a coincidence any more.
UNPLACED_ORDERS, UNPLACED_LIMIT_S = 20, 600.0
#: Nodes lost within this time of each other may be a storm, which is one cause.
SETTLE_S = 1.0
#: The same cause within this time of its end reopens the same alert.
AGAIN_S = 600.0


class AlertRow(NamedTuple):
    """An alert that was opened or closed."""

    id: int
    kind: str
    key: str
    reason: str
    what: str  #: alert_opened or alert_closed
    hints: int  #: only selected so that PostgreSQL executes the notifications
    messages: int  #: to send, about all changes of the statement


COMPARE = Statement(
    "COMPARE",
    f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), storm AS MATERIALIZED (
    SELECT s.nodes, s.of_nodes, s.until FROM scheduling_storm s WHERE s.held_at IS NOT NULL
), open_nodes AS MATERIALIZED (
    SELECT count(*) FILTER (WHERE n.status = 'alive') AS alive,
           count(*) FILTER (WHERE n.status = 'alive' AND n.draining) AS draining,
           count(*) FILTER (WHERE n.status = 'alive' AND n.cordoned AND NOT n.draining) AS cordoned
    FROM scheduling_node n
), waiting AS MATERIALIZED (
    -- Should run, is unassigned or on a node that is gone, and is in no handoff.
    SELECT r.portfolio_id, p.name, r.reason,
           coalesce(r.why->>'code', left(r.reason, 40)) AS cause,
           row_number() OVER (PARTITION BY coalesce(r.why->>'code', left(r.reason, 40))
                              ORDER BY p.priority DESC, p.name) AS nth
    FROM scheduling_run r
    JOIN portfolios_portfolio p ON p.id = r.portfolio_id
    LEFT JOIN scheduling_node n ON n.id = r.node_id
    LEFT JOIN scheduling_control c ON true
    CROSS JOIN clock
    WHERE p.archived_at IS NULL AND p.desired_state = 'running'
      AND (r.phase = 'pending' AND r.node_id IS NULL
           AND r.phase_since < clock.now - make_interval(secs => %(pending_s)s)
           OR n.status IN ('lost', 'left')
           AND n.status_since < clock.now - make_interval(secs => %(pending_s)s)
           AND NOT EXISTS (SELECT FROM storm)
           AND NOT (c.frozen_at IS NOT NULL AND c.freeze_failover))
      AND {NO_ACTIVE_HANDOFF}
), behind AS MATERIALIZED (
    -- A portfolio without any progress is stalled, not behind.
    SELECT r.portfolio_id, r.node_id, n.name AS node, p.name, p.catch_up, r.behind_since AS since,
           row_number() OVER (PARTITION BY r.node_id ORDER BY p.priority DESC, p.name) AS nth
    FROM scheduling_run r
    JOIN portfolios_portfolio p ON p.id = r.portfolio_id
    JOIN scheduling_node n ON n.id = r.node_id
    JOIN scheduling_lease l ON l.node_id = r.node_id
        -- A clock that was set makes every pulse old at once, until the gateways pulse again.
        AND EXISTS (SELECT FROM scheduling_gateway g WHERE {gateway_served("behind_s")})
        AND NOT {own_gateway_failed("l", "behind_s")}
        AND NOT {commits_blocked("behind_s")}
    CROSS JOIN clock
    WHERE r.behind_since < clock.now - make_interval(secs => %(behind_s)s)
      AND r.stalled_at IS NULL AND p.archived_at IS NULL
), wanted AS MATERIALIZED (
    SELECT 'node_lost' AS kind, 'node:' || n.id AS key, NULL::bigint AS portfolio_id,
           n.id AS node_id, n.name || ' is lost since '
               || to_char(n.status_since AT TIME ZONE 'UTC', 'HH24:MI:SS" UTC"')
               || coalesce(': ' || nullif(n.lost_reason, ''), '') AS reason,
           NOT EXISTS (SELECT FROM storm)
               AND n.status_since < clock.now - make_interval(secs => %(settle_s)s) AS may_open
    FROM scheduling_node n, clock WHERE n.status = 'lost'
  UNION ALL
    SELECT 'storm_hold', 'fleet', NULL, NULL,
           jsonb_array_length(storm.nodes) || ' of ' || storm.of_nodes || ' nodes were lost within '
               || %(ttl_s)s::float || ' s, so failover is held'
               || CASE WHEN storm.until IS NULL THEN ' until a person releases it' ELSE '' END,
           true
    FROM storm WHERE storm.nodes <> '[]'
  UNION ALL
    SELECT r.phase, 'portfolio:' || r.portfolio_id, r.portfolio_id, NULL, r.reason, true
    FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
    WHERE r.phase IN ('quarantined', 'halted') AND p.archived_at IS NULL
  UNION ALL
    -- A feed that no running portfolio needs may be silent.
    SELECT 'feed_silent', 'feed:' || f.id, NULL, NULL,
           'feed ' || f.name || ' has no record since '
               || to_char(w.released_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS" UTC"')
               || ', limit ' || f.silent_after_s || ' s; portfolios that need it: '
               || string_agg(p.name, ', ' ORDER BY p.name) FILTER (WHERE p.nth <= 5)
               || CASE WHEN count(*) > 5 THEN ' and ' || count(*) - 5 || ' more' ELSE '' END,
           true
    FROM portfolios_feed f JOIN portfolios_feedwriter w ON w.feed_id = f.id
    CROSS JOIN clock
    JOIN (SELECT x.feed_id, x.name,
                 row_number() OVER (PARTITION BY x.feed_id ORDER BY x.name) AS nth
          FROM portfolios_portfolio x
          WHERE x.archived_at IS NULL AND x.desired_state = 'running') p ON p.feed_id = f.id
    WHERE w.released_at < clock.now - make_interval(secs => f.silent_after_s)
    GROUP BY f.id, f.name, f.silent_after_s, w.released_at
  UNION ALL
    SELECT 'stalled', 'portfolio:' || r.portfolio_id, r.portfolio_id, r.node_id,
           'no progress since '
               || to_char(r.last_commit_at AT TIME ZONE 'UTC', 'HH24:MI:SS" UTC"')
               || ' while events wait, limit ' || %(stall_s)s::float || ' s',
           true
    FROM scheduling_run r WHERE r.stalled_at IS NOT NULL
  UNION ALL
    -- Portfolios that wait for the same cause are one alert, which names the most important ones.
    SELECT 'pending', 'cause:' || left(w.cause, 70),
           CASE WHEN count(*) = 1 THEN min(w.portfolio_id) END, NULL,
           CASE WHEN count(*) = 1 THEN min(w.reason)
           ELSE count(*) || ' portfolios are pending: '
               || string_agg(w.name, ', ' ORDER BY w.nth) FILTER (WHERE w.nth <= 3)
               || CASE WHEN count(*) > 3 THEN ' and ' || count(*) - 3 || ' more' ELSE '' END
               || coalesce('; ' || min(w.reason) FILTER (WHERE w.nth = 1 AND w.reason <> ''), '')
           END,
           (SELECT o.alive = 0 OR o.alive > o.draining + o.cordoned FROM open_nodes o)
    FROM waiting w GROUP BY w.cause
  UNION ALL
"""
    + COMMITS_VANISHED
    + """
  UNION ALL
    -- A gateway reports it: this statement cannot know the space on the disk.
    SELECT 'disk_full', 'fleet', NULL, NULL,
           l.holder || '; free space on it, or attach more', true
    FROM scheduling_passlock l, clock
    WHERE l.name = 'storage' AND l.holder <> '' AND l.until > clock.now
  UNION ALL
    -- Only `migrate` writes schedules, and the queue runs Ginkgo's own tasks only.
    SELECT 'unknown_schedule', 'fleet', NULL, NULL,
           count(*) || ' schedules of the queue are not those of Ginkgo and are refused: '
               || left(string_agg(DISTINCT quote_literal(left(s.func, 80)), ', '), 300)
               || '; another program wrote to django_q_schedule: find it, and delete the rows',
           true
    FROM django_q_schedule s
    WHERE s.func <> ALL (%(tasks)s::text[]) OR s.hook <> ''
    HAVING count(*) > 0
  UNION ALL
    SELECT 'revision_rejected', 'portfolio:' || p.id, p.id, NULL,
           'r' || v.number || ' was rejected: ' || v.status_reason, true
    FROM portfolios_portfolio p
    JOIN portfolios_revision v ON v.portfolio_id = p.id AND v.number = p.revision
    WHERE v.status = 'rejected' AND p.archived_at IS NULL
      -- The stopped roll-out that made the revision is the cause, and has an alert of its own.
      AND NOT EXISTS (SELECT FROM scheduling_rolloutitem i
                      JOIN scheduling_rollout o ON o.id = i.roll_out_id
                      WHERE i.portfolio_id = p.id AND i.to_revision = p.revision
                        AND i.state IN ('rejected', 'late', 'returning')
                        AND o.state IN ('stopping', 'stopped', 'going_back'))
  UNION ALL
    -- Until the portfolios at which it stopped want another revision, or it is proven after all.
    SELECT 'roll_out_stopped', 'roll-out:' || o.id,
           CASE WHEN count(*) = 1 THEN min(p.id) END, NULL,
           'roll-out ' || o.id || ' ' || o.reason
               || '; take it back, or give that portfolio another revision',
           true
    FROM scheduling_rollout o
    JOIN scheduling_rolloutitem i ON i.roll_out_id = o.id AND i.state IN ('rejected', 'late')
    JOIN portfolios_portfolio p ON p.id = i.portfolio_id AND p.revision = i.to_revision
    JOIN portfolios_revision v ON v.portfolio_id = p.id AND v.number = p.revision
    WHERE o.state IN ('stopping', 'stopped') AND p.archived_at IS NULL
      AND (v.status = 'rejected' OR i.state = 'late' AND v.status <> 'good')
    GROUP BY o.id
  UNION ALL
    -- Until a later verification that went as far is identical: one that ran out of time may have
    -- ended before the difference. The partial index has the few rows that differ.
    SELECT 'verification_differs', 'portfolio:' || p.id, p.id, NULL,
           'its verification is ' || left(v.sentence, 500), true
    FROM scheduling_verification v JOIN portfolios_portfolio p ON p.id = v.portfolio_id
    WHERE v.state = 'different' AND p.archived_at IS NULL
      AND NOT EXISTS (SELECT FROM scheduling_verification w WHERE w.portfolio_id = v.portfolio_id
                      AND w.id > v.id AND (w.state = 'different' OR w.state = 'identical'
                      AND w.to_seq >= coalesce(v.to_seq, 0)
                      -- The difference may be among the rows that were archived since.
                      AND coalesce((w.verdict->>'rows_dropped')::bigint, 0)
                          <= coalesce((v.verdict->>'rows_dropped')::bigint, 0)))
  UNION ALL
    SELECT 'no_open_node', 'fleet', NULL, NULL,
           'no node takes a portfolio: of ' || alive || ' alive, ' || draining || ' drain and '
               || cordoned || ' are cordoned; uncordon one or add one',
           true
    FROM open_nodes WHERE alive > 0 AND alive = draining + cordoned
  UNION ALL
    -- Judged only if a watcher has run for all that time. The bounds exclude a clock that was set.
    SELECT 'passes_stand', 'fleet', NULL, NULL,
           'no complete pass since ' || coalesce(
               to_char(p.failover_ran_at AT TIME ZONE 'UTC', 'HH24:MI:SS" UTC"'), 'the start')
               || ' although a watcher runs, limit ' || %(pass_limit_s)s::float
               || ' s: lost nodes are not failed over; see the log of the watcher',
           true
    FROM scheduling_passlock w JOIN scheduling_passlock p ON p.name = 'pass', clock
    WHERE w.name = 'watcher' AND w.until > clock.now
      AND w.since < clock.now - make_interval(secs => %(pass_limit_s)s)
      AND (p.failover_ran_at IS NULL
           OR p.failover_ran_at < clock.now - make_interval(secs => %(pass_limit_s)s))
  UNION ALL
    -- One alert per node: in most cases the node is too slow.
    SELECT 'behind', 'node:' || b.node_id, CASE WHEN count(*) = 1 THEN min(b.portfolio_id) END,
           b.node_id,
           CASE WHEN count(*) = 1 THEN min(b.name) || ' on ' || min(b.node) || ' has lagged'
           ELSE count(*) || ' portfolios on ' || min(b.node) || ' have lagged' END
               || ' by more than ' || %(stale_s)s::float || ' s since '
               || to_char(min(b.since) AT TIME ZONE 'UTC', 'HH24:MI:SS" UTC"')
               || CASE WHEN count(*) > 1 THEN ': '
                    || string_agg(b.name, ', ' ORDER BY b.nth) FILTER (WHERE b.nth <= 3)
                    || CASE WHEN count(*) > 3 THEN ' and ' || count(*) - 3 || ' more' ELSE '' END
                  ELSE '' END
               || CASE WHEN bool_or(b.catch_up <> 'full')
                  THEN '; decisions on events that old are not placed' ELSE '' END
               || ': give it a faster node or less to do',
           true
    FROM behind b GROUP BY b.node_id
  UNION ALL
    -- A portfolio that is behind or stalled has that alert, which is the cause.
    SELECT 'orders_refused', 'portfolio:' || r.portfolio_id, r.portfolio_id, r.node_id,
           'no order was placed since '
               || to_char(r.unplaced_since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI" UTC"')
               || ': each was refused by a limit or decided on stale events; see its orders',
           true
    FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id, clock
    WHERE r.unplaced_orders >= %(unplaced_orders)s
      AND r.unplaced_since < clock.now - make_interval(secs => %(unplaced_s)s)
      AND r.phase = 'running' AND r.behind_since IS NULL AND r.stalled_at IS NULL
      AND p.archived_at IS NULL
  UNION ALL
    SELECT 'commits_stand', 'fleet', NULL, NULL,
           'no commit gets through since '
               || to_char(g.commits_stand_since AT TIME ZONE 'UTC', 'HH24:MI:SS" UTC"')
               || ' though the database answers: look for a session that locks a table or for'
               || ' commits that wait for a disk or a standby; no deadline is judged meanwhile',
           true
    FROM clock, (
        SELECT min(w.commits_stand_since) AS commits_stand_since FROM scheduling_gateway w, clock
        WHERE w.commits_stood_at BETWEEN clock.now - make_interval(secs => %(gap_s)s)
                                     AND clock.now + interval '1 s'
    ) g
    WHERE g.commits_stand_since < clock.now - make_interval(secs => %(commits_limit_s)s)
  UNION ALL
"""
    + pass_lock.NO_WATCHER
    + """
  UNION ALL
"""
    + storage.CAUSES
    + f"""
), reopened AS (
    -- Concurrent writer, here and below: another watcher that compares at the same time. The later
    -- one waits for the row or meets the unique index, and then changes and reports nothing.
    UPDATE scheduling_alert a SET closed_at = NULL, gone_at = NULL, times = a.times + 1,
        opened_at = clock.now, reason = w.reason, portfolio_id = w.portfolio_id,
        acknowledged_at = NULL, acknowledged_by = '', acknowledged_note = ''
    FROM wanted w, clock
    WHERE w.may_open AND a.kind = w.kind AND a.key = w.key
      AND a.closed_at > clock.now - make_interval(secs => %(again_s)s)
      AND a.id = (SELECT max(l.id) FROM scheduling_alert l WHERE l.kind = w.kind AND l.key = w.key)
    RETURNING a.id, a.kind, a.key, a.portfolio_id, a.node_id, a.reason, a.times
), opened AS (
    INSERT INTO scheduling_alert (kind, key, portfolio_id, node_id, reason, times, opened_at,
                                  gone_at, closed_at)
    SELECT w.kind, w.key, w.portfolio_id, w.node_id, w.reason, 1, clock.now, NULL, NULL
    FROM wanted w, clock
    WHERE w.may_open AND NOT EXISTS (
        SELECT FROM scheduling_alert l WHERE l.kind = w.kind AND l.key = w.key
        AND (l.closed_at IS NULL
             OR l.closed_at > clock.now - make_interval(secs => %(again_s)s)))
    ON CONFLICT (kind, key) WHERE closed_at IS NULL DO NOTHING
    RETURNING id, kind, key, portfolio_id, node_id, reason, times
), refreshed AS (
    UPDATE scheduling_alert a SET gone_at = NULL, reason = w.reason, portfolio_id = w.portfolio_id
    FROM wanted w
    WHERE a.kind = w.kind AND a.key = w.key AND a.closed_at IS NULL
      AND (a.gone_at IS NOT NULL OR a.reason <> w.reason
           OR a.portfolio_id IS DISTINCT FROM w.portfolio_id)
), over AS MATERIALIZED (
    -- Open alerts whose cause is gone. One that has been reopened closes only after its cause has
    -- been absent for a while; `absent` stores since when it has.
    SELECT a.id FROM scheduling_alert a WHERE a.closed_at IS NULL
    AND NOT EXISTS (SELECT FROM wanted w WHERE w.kind = a.kind AND w.key = a.key)
), closed AS (
    UPDATE scheduling_alert a SET closed_at = clock.now, gone_at = coalesce(a.gone_at, clock.now)
    FROM over, clock
    WHERE a.id = over.id AND a.closed_at IS NULL
      AND (a.times = 1 OR a.gone_at < clock.now - make_interval(
               secs => least(%(absent_s)s * 2.0 ^ least(a.times - 2, 20), %(again_s)s)))
    RETURNING a.id, a.kind, a.key, a.portfolio_id, a.node_id, a.opened_at, a.times
), absent AS (
    UPDATE scheduling_alert a SET gone_at = clock.now
    FROM over, clock
    WHERE a.id = over.id AND a.closed_at IS NULL AND a.times > 1 AND a.gone_at IS NULL
), changed AS MATERIALIZED (
    SELECT id, kind, key, portfolio_id, node_id, reason, times, 'alert_opened' AS what FROM reopened
    UNION ALL
    SELECT id, kind, key, portfolio_id, node_id, reason, times, 'alert_opened' FROM opened
    UNION ALL
    SELECT id, kind, key, portfolio_id, node_id,
           replace(kind, '_', ' ') || ': the cause is gone', times, 'alert_closed' FROM closed
), audited AS (
    INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
    SELECT clock.now, c.what, c.portfolio_id, c.node_id, 'sweep', c.reason,
           jsonb_build_object('alert', c.id, 'kind', c.kind, 'times', c.times)
    FROM changed c, clock
), queued AS (
    -- Sent by the queue worker (scheduling/alert_delivery.py), never by a pass.
    INSERT INTO scheduling_alertmessage (alert_id, channel_id, what, title, body, state, at,
                                         attempts, next_try_at, sent_at, error)
    SELECT c.id, h.id, substr(c.what, 7),
           left(CASE WHEN c.what = 'alert_closed' THEN 'over: ' ELSE '' END
                || replace(c.kind, '_', ' ')
                || coalesce(': ' || coalesce(p.name, n.name), ''), 200),
           c.reason, 'waiting', clock.now, 0, clock.now, NULL, ''
    FROM changed c CROSS JOIN clock JOIN scheduling_alertchannel h ON h.enabled
    LEFT JOIN portfolios_portfolio p ON p.id = c.portfolio_id
    LEFT JOIN scheduling_node n ON n.id = c.node_id
    RETURNING id
), hinted AS (
    SELECT {NOTIFY_BOARDS}
    FROM changed
)
SELECT c.id, c.kind, c.key, c.reason, c.what, (SELECT count(*) FROM hinted) AS hints,
       (SELECT count(*) FROM queued) AS messages
FROM changed c
""",
    row=AlertRow,
)


def update_alerts(timing: Timing) -> Transaction[list[AlertRow]]:
    """Open the alerts whose cause is present, close those whose cause is gone. Return the changes.

    A cause that returns within AGAIN_S reopens the same alert, which then closes only after the
    cause has been absent for three heartbeat intervals, then six, twelve …
    """
    rows = yield from query(
        COMPARE,
        tasks=sorted(TASKS),
        ttl_s=timing.lease_ttl_s,
        stall_s=timing.stall_s,
        settle_s=min(SETTLE_S, timing.heartbeat_interval_s),  # intervals may be set very short
        pending_s=2 * timing.heartbeat_interval_s,  # a pass places most portfolios before
        pass_limit_s=PASS_LIMIT_S,
        commits_limit_s=COMMITS_LIMIT_S,
        behind_s=BEHIND_LIMIT_S,
        stale_s=timing.stale_order_age_s,
        unplaced_orders=UNPLACED_ORDERS,
        unplaced_s=UNPLACED_LIMIT_S,
        gap_s=timing.pulse_gap_s,
        again_s=AGAIN_S,
        absent_s=3 * timing.heartbeat_interval_s,
        **pass_lock.LIMITS,
        **storage.LIMITS,
    )
    return rows


ACKNOWLEDGE = Statement(
    "ACKNOWLEDGE",
    """
-- Concurrent writers: another operator, who is then named, and the watcher that closes the alert.
UPDATE scheduling_alert SET acknowledged_at = clock_timestamp(), acknowledged_by = %(actor)s,
    acknowledged_note = %(note)s
WHERE id = %(alert)s AND closed_at IS NULL AND acknowledged_at IS NULL
RETURNING kind, key, portfolio_id, node_id
""",
)


def acknowledge(alert: int, *, actor: str, note: str) -> Transaction[bool]:
    """Record that an operator has seen the alert. Return False if it is closed or acknowledged."""
    row = yield from query_one(ACKNOWLEDGE, alert=alert, actor=actor[:150], note=note[:200])
    if row is None:
        return False
    yield from audit(
        "alert_acknowledged",
        portfolio=row.portfolio_id,
        node=row.node_id,
        actor=actor,
        reason=note,
        alert=alert,
        kind=row.kind,
    )
    yield from notify_watchers()
    return True
