"""Loss: mark nodes as lost whose lease has expired, after correcting what a set clock distorted."""

from __future__ import annotations

from typing import NamedTuple

from scheduling.db.statements import GATEWAY_FIT, NOTIFY_WATCHERS, Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.enact.lease.sockets import SIMULTANEOUS_S, judge_socket_losses
from scheduling.timing import Timing

#: A lease longer than its TTL, or renewed in the future, means that the clock was set back. Cut it
#: to one TTL from now, so that the loss of a node is not detected later by the whole jump.
CLAMP_LEASES = Statement(
    "CLAMP_LEASES",
    """
WITH long AS (
    SELECT node_id FROM scheduling_lease
    WHERE expires_at > clock_timestamp() + make_interval(secs => %(ttl_s)s) + interval '1 s'
       OR renewed_at > clock_timestamp() + interval '1 s'
    -- A lease that a heartbeat is renewing is correct already.
    ORDER BY node_id FOR UPDATE SKIP LOCKED
)
UPDATE scheduling_lease l SET renewed_at = least(l.renewed_at, clock_timestamp()),
    expires_at = least(l.expires_at, clock_timestamp() + make_interval(secs => %(ttl_s)s))
FROM long WHERE l.node_id = long.node_id
""",
)

#: Correct the status of nodes, too: a loss in the future would count as new once its time comes.
CLAMP_STATUS = Statement(
    "CLAMP_STATUS",
    """
WITH ahead AS (
    SELECT id FROM scheduling_node WHERE status_since > clock_timestamp() + interval '1 s'
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE scheduling_node n SET status_since = clock_timestamp() FROM ahead WHERE n.id = ahead.id
""",
)

#: Correct the pulses of gateways, too: one in the future would count as new until the clock catches
#: up, even if no node can reach the gateway. Turn it into a gap.
CLAMP_GATEWAY = Statement(
    "CLAMP_GATEWAY",
    """
WITH ahead AS (
    SELECT id FROM scheduling_gateway WHERE pulsed_at > clock_timestamp() + interval '1 s'
    -- A row that its process is writing is correct already.
    ORDER BY id FOR UPDATE SKIP LOCKED
)
UPDATE scheduling_gateway g
SET pulsed_at = clock_timestamp() - make_interval(secs => %(gap_s)s) - interval '1 s'
FROM ahead WHERE g.id = ahead.id
""",
)


class LostRow(NamedTuple):
    id: int
    name: str
    reason: str
    hints: int  #: only selected so that PostgreSQL executes the notification


MARK_LOST = Statement(
    "MARK_LOST",
    f"""
WITH expired AS (
    -- Lock, and check again on the newest row: a heartbeat that commits first keeps the node alive.
    SELECT l.node_id, l.incarnation, l.renewals, l.renewed_at, l.cut_by, l.cut_at,
           extract(epoch FROM clock_timestamp() - l.renewed_at) AS silent_s
    FROM scheduling_lease l JOIN scheduling_node n ON n.id = l.node_id
    WHERE l.expires_at < clock_timestamp() AND n.status = 'alive'
      -- While no gateway can be reached, the silence of a node proves nothing. So either the node
      -- reached a fit gateway since that gateway began to serve, and then fell silent; or it has
      -- had one lease's time to reach that gateway.
      AND EXISTS (
        SELECT FROM scheduling_gateway g WHERE {GATEWAY_FIT}
          AND (g.serving_since < clock_timestamp() - make_interval(secs => %(ttl_s)s)
               OR l.renewed_at >= g.serving_since)
      )
      -- Silence proves nothing either while the gateway that the node uses fails: for one lease's
      -- time after its last pulse (by then the node should have found another gateway), and for as
      -- long after its return. A gateway that fails again and again protects the node for one more
      -- lease's time only, if another gateway has served for two.
      AND NOT EXISTS (
        SELECT FROM scheduling_gateway g WHERE g.id = l.gateway_id AND g.left_at IS NULL
          AND (l.expires_at > clock_timestamp() - make_interval(secs => %(ttl_s)s)
               OR NOT EXISTS (
                   SELECT FROM scheduling_gateway g WHERE {GATEWAY_FIT} AND g.serving_since
                       < clock_timestamp() - make_interval(secs => 2 * %(ttl_s)s)))
          AND CASE WHEN {GATEWAY_FIT}
              THEN l.renewed_at < g.serving_since
                   AND g.serving_since > clock_timestamp() - make_interval(secs => %(ttl_s)s)
              ELSE g.pulsed_at > clock_timestamp() - make_interval(secs => %(ttl_s)s + %(gap_s)s)
              END
      )
    ORDER BY l.node_id
    FOR UPDATE OF l SKIP LOCKED
), caused AS (
    -- The text is the sentence of the reason `lost` (decide/reasons), which Python checks in tests.
    SELECT e.node_id, CASE e.cut_by
        WHEN 'closed' THEN 'its connection closed '
            || to_char(e.cut_at AT TIME ZONE 'UTC', 'HH24:MI:SS" UTC"')
            || ' and it did not return in ' || %(grace_s)s::float || ' s'
        WHEN 'ended' THEN 'its process was found ended at '
            || to_char(e.cut_at AT TIME ZONE 'UTC', 'HH24:MI:SS" UTC"')
        WHEN 'unheard' THEN round(e.silent_s::numeric, 1)::float || ' s without a heartbeat after '
            || round(extract(epoch FROM e.renewed_at - e.cut_at)::numeric, 1)::float
            || ' s without an answer, limit ' || %(ttl_s)s::float || ' s'
        ELSE round(e.silent_s::numeric, 1)::float || ' s without a heartbeat, limit '
            || %(ttl_s)s::float || ' s' END AS reason,
        jsonb_build_object('code', 'lost', 'params', jsonb_build_object(
            'cause', CASE WHEN e.cut_by = '' THEN 'silent' ELSE e.cut_by END,
            'at', to_char(e.cut_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'silent_s', round(e.silent_s::numeric, 1)::float,
            'unheard_s', round(extract(epoch FROM e.renewed_at - e.cut_at)::numeric, 1)::float,
            'limit_s', %(ttl_s)s::float, 'grace_s', %(grace_s)s::float,
            'portfolios', (SELECT count(*) FROM scheduling_run r WHERE r.node_id = e.node_id)
        )) AS why
    FROM expired e
), lost AS (
    UPDATE scheduling_node n SET status = 'lost', status_since = clock_timestamp(),
        leaving = false, lost_reason = c.reason, lost_why = c.why,
        lost_times = (
            SELECT coalesce(jsonb_agg(t ORDER BY t), '[]'::jsonb) FROM (
                SELECT (x.value)::text::float AS t FROM jsonb_array_elements(n.lost_times) x
                UNION ALL SELECT extract(epoch FROM clock_timestamp())::float
            ) times WHERE t > extract(epoch FROM clock_timestamp()) - 86400
        )
    FROM expired e, caused c
    WHERE n.id = e.node_id AND c.node_id = e.node_id AND n.status = 'alive'
    RETURNING n.id, n.name, e.incarnation, e.renewals, e.silent_s, c.reason, c.why
), audited AS (
    INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
    SELECT clock_timestamp(), 'node_lost', NULL, id, 'sweep', reason,
           jsonb_build_object('incarnation', incarnation, 'renewals', renewals,
                              'silent_s', round(silent_s::numeric, 3), 'why', why)
    FROM lost
), hinted AS (
    SELECT {NOTIFY_WATCHERS}
    FROM lost
)
SELECT id, name, reason, (SELECT count(*) FROM hinted) AS hints FROM lost
""",
    row=LostRow,
)


def mark_lost(timing: Timing) -> Transaction[list[LostRow]]:
    """Mark nodes as lost whose lease has expired, and return their rows by name.

    Times in the future, since the clock was set back, are corrected: of leases and pulses first, of
    node statuses at the end. Closed sockets are judged before nodes are marked. A node whose
    silence may be that of its gateway is not lost (see MARK_LOST). A heartbeat revives a lost node.
    """
    yield from query(CLAMP_LEASES, ttl_s=timing.lease_ttl_s)
    yield from query(CLAMP_GATEWAY, gap_s=timing.pulse_gap_s)
    yield from judge_socket_losses(timing)
    rows = yield from query(
        MARK_LOST, ttl_s=timing.lease_ttl_s, gap_s=timing.pulse_gap_s, grace_s=timing.socket_grace_s
    )
    yield from query(CLAMP_STATUS)
    return sorted(rows, key=lambda row: str(row.name))


class ExpiryRow(NamedTuple):
    in_s: float | None  #: None: there is no such time


NEXT_EXPIRY = Statement(
    "NEXT_EXPIRY",
    """
SELECT extract(epoch FROM min(moment.at) - clock_timestamp())::float AS in_s
FROM scheduling_lease l JOIN scheduling_node n ON n.id = l.node_id
CROSS JOIN LATERAL (VALUES (l.expires_at), (
    CASE WHEN l.socket_loss_pending
         THEN l.socket_lost_at + make_interval(secs => %(wait_s)s) END
)) AS moment(at)
WHERE n.status = 'alive' AND moment.at > clock_timestamp()
""",
    row=ExpiryRow,
)


def next_expiry() -> Transaction[float | None]:
    """Return the seconds until a living node's lease ends or a closed socket is judged next.

    None if neither is to come. What is overdue does not count, such as the lease of a node that is
    not lost because its gateway failed: it would hide what is to come for the others.
    """
    row = yield from query_one(NEXT_EXPIRY, wait_s=SIMULTANEOUS_S)
    return None if row is None else row.in_s
