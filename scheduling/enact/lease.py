"""Leases: renewed by heartbeats, shortened by a closed socket, ended by a goodbye or by expiry.

Only PostgreSQL's clock counts. Safety rests on the fence alone, so a wrong judgement here costs a
move and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from scheduling.db.statements import (
    ACTIVE_HANDOFF_STATES,
    GATEWAY_FIT,
    NOTIFY_WATCHERS,
    Statement,
)
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.enact.audit_log import audit
from scheduling.enact.notify import bump_desired_versions, notify_watchers
from scheduling.timing import Timing
from scheduling.wire.messages import Heartbeat, uuid_from

RENEW = Statement(
    "RENEW",
    f"""
WITH input AS MATERIALIZED (
    -- In binary: as text, a list of long documents would be quoted character by character.
    SELECT * FROM unnest(%(nodes)s::bigint[], %(incarnations)s::uuid[], %(leaving)s::boolean[],
                         %(metrics)b::jsonb[], %(portfolios)b::jsonb[], %(unheard)s::float8[])
        AS i(node, incarnation, leaving, metrics, portfolios, unheard_s)
), clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), serving AS MATERIALIZED (
    -- How long nodes have been able to reach each gateway. A gap before that is the gateway's.
    SELECT g.id, CASE WHEN {GATEWAY_FIT}
        THEN greatest(extract(epoch FROM clock.now - g.serving_since)::float8, 0)
        ELSE 0 END AS for_s
    FROM clock, scheduling_gateway g
), heard AS MATERIALIZED (
    -- Missing answers do not count as far as this gateway had a gap, or the one that the node came
    -- from. `least` ignores a gateway whose row is gone.
    SELECT i.node, least(
        i.unheard_s,
        coalesce((SELECT s.for_s FROM serving s WHERE s.id = %(gateway)s), 0),
        (SELECT s.for_s FROM serving s JOIN scheduling_lease l ON l.gateway_id = s.id
         WHERE l.node_id = i.node)
    ) AS unheard_s
    FROM input i
), locked AS MATERIALIZED (
    -- Wait for no row lock: one statement has the heartbeats of all nodes, and the holder of one
    -- row may be frozen. A heartbeat whose lease is locked goes into the next statement.
    SELECT l.node_id, l.expires_at FROM scheduling_lease l JOIN input i ON i.node = l.node_id
    WHERE l.incarnation = i.incarnation
    ORDER BY l.node_id FOR UPDATE OF l SKIP LOCKED
), beaten AS (
    -- Concurrent writer: a new incarnation that registered. Then there is no row, and the daemon
    -- is told that it is superseded. A node that said goodbye stays gone. The lease of a node that
    -- receives no answers is renewed up to one TTL after the last one, and no further.
    UPDATE scheduling_lease l SET renewals = l.renewals + 1, gateway_id = %(gateway)s,
        renewed_at = CASE WHEN h.unheard_s < %(ttl_s)s THEN clock.now ELSE l.renewed_at END,
        expires_at = CASE WHEN h.unheard_s <= 0
            THEN clock.now + make_interval(secs => %(ttl_s)s)
            ELSE greatest(l.expires_at, clock.now + make_interval(secs => %(ttl_s)s - h.unheard_s))
            END,
        cut_by = CASE WHEN h.unheard_s <= 0 THEN ''
                      WHEN h.unheard_s < %(ttl_s)s THEN 'unheard' ELSE l.cut_by END,
        cut_at = CASE WHEN h.unheard_s <= 0 THEN NULL
                      WHEN h.unheard_s < %(ttl_s)s
                      THEN clock.now - make_interval(secs => h.unheard_s) ELSE l.cut_at END
    FROM input i, heard h, locked, clock, scheduling_node n
    WHERE locked.node_id = l.node_id AND i.node = l.node_id AND l.incarnation = i.incarnation
      AND h.node = i.node
      AND n.id = l.node_id AND n.status IN ('alive', 'lost')
    RETURNING l.node_id, l.expires_at, i.leaving, i.metrics, i.portfolios
), turned AS MATERIALIZED (
    -- A node whose row is locked changes with one of its next heartbeats.
    SELECT n.id FROM scheduling_node n JOIN beaten b ON b.node_id = n.id
    WHERE n.leaving <> b.leaving ORDER BY n.id FOR NO KEY UPDATE OF n SKIP LOCKED
), changed AS (
    UPDATE scheduling_node n SET leaving = b.leaving
    FROM beaten b, turned
    WHERE n.id = b.node_id AND turned.id = n.id
    RETURNING n.id, b.leaving
), audited AS (
    INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
    SELECT clock.now, CASE WHEN c.leaving THEN 'node_leaving' ELSE 'node_alive' END, NULL, c.id,
           '', CASE WHEN c.leaving THEN 'its daemon was asked to stop' ELSE '' END, '{{}}'::jsonb
    FROM changed c, clock
), hinted AS (
    SELECT {NOTIFY_WATCHERS}
    FROM changed
), reported AS (
    INSERT INTO scheduling_nodereport (node_id, at, metrics, portfolios)
    SELECT b.node_id, clock.now, b.metrics, b.portfolios FROM beaten b, clock
    ON CONFLICT (node_id) DO UPDATE SET at = excluded.at, metrics = excluded.metrics,
        portfolios = excluded.portfolios
)
SELECT i.node, b.node_id IS NOT NULL AS beaten,
       coalesce(k.node_id IS NULL AND l.incarnation = i.incarnation, false) AS row_held,
       l.incarnation AS held_by, n.status, n.host, n.pid,
       n.desired_version,
       (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS now_us,
       (SELECT count(*) FROM hinted) AS hints,
       -- Also if an earlier heartbeat ended before its node was made alive again.
       coalesce((k.expires_at < clock_timestamp() OR n.status = 'lost')
                AND b.expires_at > clock_timestamp(), false) AS late,
       EXISTS (SELECT FROM scheduling_handoff h
               WHERE h.state IN {ACTIVE_HANDOFF_STATES}
               AND (h.source_node_id = i.node OR h.target_node_id = i.node)) AS pending,
       EXISTS (SELECT FROM scheduling_run r WHERE r.node_id = i.node) AS busy
FROM input i
JOIN scheduling_node n ON n.id = i.node
LEFT JOIN beaten b ON b.node_id = i.node
LEFT JOIN locked k ON k.node_id = i.node
LEFT JOIN scheduling_lease l ON l.node_id = i.node
""",
)

#: A separate statement, and so a separate snapshot: the sweep may have marked the node lost just
#: before RENEW locked the lease, and the snapshot of RENEW would not show it. A node whose row is
#: locked is made alive again by one of its next heartbeats.
REVIVE = Statement(
    "REVIVE",
    f"""
WITH lost AS MATERIALIZED (
    SELECT id FROM scheduling_node WHERE id = ANY(%(nodes)s::bigint[]) AND status = 'lost'
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
), revived AS (
    UPDATE scheduling_node n SET status = 'alive', status_since = clock_timestamp()
    FROM lost WHERE n.id = lost.id RETURNING n.id
), audited AS (
    INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
    SELECT clock_timestamp(), 'node_alive', NULL, id, '', 'heartbeats arrive again', '{{}}'::jsonb
    FROM revived
)
SELECT {NOTIFY_WATCHERS}
FROM revived
""",
)

#: The holders of leases that were not renewed. A separate statement, and so a separate snapshot: a
#: heartbeat that met a register found the lease taken, while its own snapshot may still name its
#: node as the holder. The daemon would be told that its lease is unknown, register again, and take
#: the node back.
HOLDERS = Statement(
    "HOLDERS",
    """
SELECT n.id AS node, false AS beaten, false AS row_held, l.incarnation AS held_by, n.status,
       n.host, n.pid,
       n.desired_version, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS now_us,
       false AS late, false AS pending, false AS busy,
       (extract(epoch FROM l.taken_at) * 1e6)::bigint AS taken_us, n.registrations
FROM scheduling_node n LEFT JOIN scheduling_lease l ON l.node_id = n.id
WHERE n.id = ANY(%(nodes)s::bigint[])
""",
)


#: An interval cannot hold any number, and one node's invalid value must not affect others.
MAX_UNHEARD_S = 1e6


def renew_leases(
    nodes: Sequence[int], heartbeats: Sequence[Heartbeat], timing: Timing, gateway: UUID
) -> Transaction[dict[int, Row]]:
    """Renew the leases of many nodes in one statement; return one row per node, already durable.

    `gateway` is the process that received these heartbeats.

    If needed, a second statement makes nodes alive whose lease had expired, and a third reads the
    holders of the leases that were not renewed.

    `nodes` has each node once. A row with `beaten` false belongs to another incarnation or to a
    node that said goodbye; with `row_held` true, the lease is locked and the heartbeat has to be
    written again.
    """
    rows = yield from query(
        RENEW,
        nodes=list(nodes),
        incarnations=[uuid_from(b.incarnation) for b in heartbeats],
        leaving=[b.leaving for b in heartbeats],
        unheard=[
            min(b.unheard_s, MAX_UNHEARD_S) if math.isfinite(b.unheard_s) else 0.0
            for b in heartbeats
        ],
        metrics=[Jsonb(_finite(b.metrics)) for b in heartbeats],
        # A number that JSON cannot hold becomes null, like a missing one.
        portfolios=[Jsonb(b.portfolios, dumps=msgspec.json.encode) for b in heartbeats],
        ttl_s=timing.lease_ttl_s,
        gap_s=timing.pulse_gap_s,
        gateway=gateway,
    )
    late = [row.node for row in rows if row.late]
    if late:
        yield from query(REVIVE, nodes=late)
    found = {row.node: row for row in rows}
    others = [row.node for row in rows if not row.beaten and not row.row_held]
    if others:
        found |= {row.node: row for row in (yield from query(HOLDERS, nodes=others))}
    return found


CAUGHT_UP = Statement(
    "CAUGHT_UP",
    """
UPDATE scheduling_handoff h SET catchup_ms = x.ms
FROM unnest(%(portfolios)s::bigint[], %(epochs)s::bigint[], %(ms)s::float8[])
     AS x(portfolio, epoch, ms)
WHERE h.portfolio_id = x.portfolio AND h.to_epoch = x.epoch AND h.catchup_ms IS NULL
  AND h.state = 'done' AND h.target_node_id = %(node)s
""",
)


def caught_up(node: int, reached: Sequence[tuple[int, int, float]]) -> Transaction[None]:
    """Store for each (portfolio, epoch) the milliseconds that `node` needed to reach the head.

    Epochs that were granted to another node are ignored.
    """
    yield from query(
        CAUGHT_UP,
        node=node,
        portfolios=[portfolio for portfolio, _, _ in reached],
        epochs=[epoch for _, epoch, _ in reached],
        ms=[ms for _, _, ms in reached],
    )


CONNECT = Statement(
    "CONNECT",
    """
UPDATE scheduling_lease SET connection = %(connection)s, socket_gateway_id = %(gateway)s,
    socket_loss_pending = false
WHERE node_id = %(node)s AND incarnation = %(incarnation)s RETURNING node_id
""",
)

#: Concurrent writer: a newer socket or incarnation. Then there is no such connection any more.
SOCKET_LOST = Statement(
    "SOCKET_LOST",
    """
UPDATE scheduling_lease SET connection = NULL, socket_lost_at = clock_timestamp(),
    socket_loss_pending = true
WHERE node_id = %(node)s AND connection = %(connection)s RETURNING node_id
""",
)


def connected(node: int, incarnation: UUID, connection: UUID, gateway: UUID) -> Transaction[bool]:
    """Record the socket of a lease. Return False if another incarnation holds the lease."""
    row = yield from query_one(
        CONNECT, node=node, incarnation=incarnation, connection=connection, gateway=gateway
    )
    return row is not None


def socket_lost(node: int, connection: UUID) -> Transaction[bool]:
    """Record that the socket of a node closed. The sweep judges it: only it sees those of others.

    Return False if a newer socket is open.
    """
    row = yield from query_one(SOCKET_LOST, node=node, connection=connection)
    if row is not None:
        yield from notify_watchers()
    return row is not None


#: Sockets that close within this time of one another may have one cause.
SIMULTANEOUS_S = 1.0

JUDGE_SOCKETS = Statement(
    "JUDGE_SOCKETS",
    f"""
WITH due AS MATERIALIZED (
    SELECT l.node_id, l.socket_gateway_id, least(l.socket_lost_at, clock_timestamp()) AS at
    FROM scheduling_lease l
    WHERE l.socket_loss_pending
      AND l.socket_lost_at NOT BETWEEN clock_timestamp() - make_interval(secs => %(wait_s)s)
          AND clock_timestamp() + interval '1 s'  -- the clock was set back
    -- Concurrent writers: a heartbeat, a new socket. The next sweep judges a lease that is locked.
    ORDER BY l.node_id FOR UPDATE SKIP LOCKED
), around AS (
    -- A loss counts even if its node has a new socket by now.
    SELECT d.node_id, count(*) FILTER (WHERE w.lost) AS lost,
           count(*) FILTER (WHERE w.lost OR w.connection IS NOT NULL) AS sockets
    FROM due d CROSS JOIN LATERAL (
        SELECT o.connection, coalesce(abs(extract(epoch FROM o.socket_lost_at - d.at))
                                      <= %(wait_s)s, false) AS lost
        FROM scheduling_lease o JOIN scheduling_node n ON n.id = o.node_id
        WHERE n.status = 'alive'
    ) w
    GROUP BY d.node_id
)
UPDATE scheduling_lease l SET socket_loss_pending = false,
    expires_at = CASE WHEN j.counts AND j.ends < l.expires_at THEN j.ends ELSE l.expires_at END,
    -- Only if it would have lasted longer: otherwise its end has another cause.
    cut_by = CASE WHEN j.counts AND j.ends < l.expires_at THEN 'closed' ELSE l.cut_by END,
    cut_at = CASE WHEN j.counts AND j.ends < l.expires_at THEN j.at ELSE l.cut_at END
FROM (
    SELECT d.node_id, d.at, d.at + make_interval(secs => %(grace_s)s) AS ends,
           a.lost < greatest(2, a.sockets / 2.0) AND EXISTS (
               SELECT FROM scheduling_gateway g
               WHERE g.id = d.socket_gateway_id AND {GATEWAY_FIT}) AS counts
    FROM due d JOIN around a ON a.node_id = d.node_id
) j
WHERE l.node_id = j.node_id
""",
)


def judge_socket_losses(timing: Timing) -> Transaction[None]:
    """Shorten the leases of nodes whose sockets closed, unless the cause may be on our side.

    A lease then ends `socket_grace_s` after the close. It stays as it is if half of all sockets,
    and at least two, closed within SIMULTANEOUS_S (a proxy, a network, a web process), and if the
    gateway that reported the close is not fit: it may have slept.
    """
    yield from query(
        JUDGE_SOCKETS,
        wait_s=SIMULTANEOUS_S,
        grace_s=timing.socket_grace_s,
        gap_s=timing.pulse_gap_s,
    )


GOODBYE = Statement(
    "GOODBYE",
    """
UPDATE scheduling_node n SET status = 'left', status_since = clock_timestamp(), leaving = false
FROM scheduling_lease l
WHERE n.id = %(node)s AND l.node_id = n.id AND l.incarnation = %(incarnation)s
RETURNING n.id
""",
)
END_LEASE = Statement(
    "END_LEASE",
    """
UPDATE scheduling_lease SET expires_at = least(expires_at, clock_timestamp())
WHERE node_id = %(node)s AND incarnation = %(incarnation)s
""",
)


#: Concurrent writer: a new incarnation that registered; its lease stays.
END_OF_DAEMON = Statement(
    "END_OF_DAEMON",
    """
UPDATE scheduling_lease SET expires_at = least(expires_at, clock_timestamp()),
    cut_by = CASE WHEN expires_at > clock_timestamp() THEN 'ended' ELSE cut_by END,
    cut_at = CASE WHEN expires_at > clock_timestamp() THEN clock_timestamp() ELSE cut_at END
WHERE node_id = %(node)s AND incarnation = %(incarnation)s
RETURNING node_id
""",
)


def end_of_daemon(node: int, incarnation: UUID) -> Transaction[bool]:
    """End the lease of a daemon known to be dead. Return False if another incarnation holds it.

    The node keeps its status: its next daemon takes over its runs, and only the sweep marks it
    lost. If the daemon is alive after all, its next heartbeat renews the lease.
    """
    row = yield from query_one(END_OF_DAEMON, node=node, incarnation=incarnation)
    return row is not None


def goodbye(node: int, node_name: str, incarnation: UUID, reason: str) -> Transaction[bool]:
    """End the lease of a daemon that leaves. Return False if it did not hold the lease."""
    yield from query(END_LEASE, node=node, incarnation=incarnation)
    row = yield from query_one(GOODBYE, node=node, incarnation=incarnation)
    if row is None:
        return False
    yield from audit("node_left", node=node, actor=node_name, reason=reason)
    yield from bump_desired_versions([node])
    return True


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` without numbers that JSON cannot hold and the statement would fail on."""
    return {
        name: value
        for name, value in values.items()
        if not isinstance(value, float) or math.isfinite(value)
    }


#: The web process records that it could have received heartbeats, whether or not any came, and for
#: how long its commits have been blocked. The latter counts only while no commit of any process got
#: through for the length of a gap: one blocked process must not suspend the deadlines of all.
RECORD_GATEWAY = Statement(
    "RECORD_GATEWAY",
    """
WITH input AS (
    SELECT CASE WHEN NOT EXISTS (
        SELECT FROM scheduling_gateway p
        WHERE p.commits_passed_at BETWEEN clock_timestamp() - make_interval(secs => %(gap_s)s)
                                      AND clock_timestamp()
    ) THEN %(blocked_s)s::float8 END AS blocked_s
)
INSERT INTO scheduling_gateway AS g (id, host, pid, serving_since, pulsed_at, commits_stand_since,
                                     commits_stood_at, commits_passed_at)
SELECT %(gateway)s, %(host)s, %(pid)s, clock_timestamp(), clock_timestamp(),
       clock_timestamp() - make_interval(secs => blocked_s),
       CASE WHEN blocked_s IS NOT NULL THEN clock_timestamp() END,
       clock_timestamp() - make_interval(secs => %(passed_s)s)
FROM input
-- No concurrent writer but CLAMP_GATEWAY: each process has a row of its own.
ON CONFLICT (id) DO UPDATE SET pulsed_at = excluded.pulsed_at, left_at = NULL,
    -- A clock that was set, in either direction, is a gap too.
    serving_since = CASE
        WHEN %(overloaded)s OR excluded.pulsed_at - g.pulsed_at
            NOT BETWEEN interval '-1 s' AND make_interval(secs => %(gap_s)s)
        THEN excluded.pulsed_at ELSE g.serving_since END,
    commits_stood_at = coalesce(excluded.commits_stood_at, g.commits_stood_at),
    commits_stand_since = CASE
        WHEN excluded.commits_stood_at IS NULL THEN g.commits_stand_since
        WHEN excluded.commits_stood_at - g.commits_stood_at
            BETWEEN interval '-1 s' AND make_interval(secs => %(gap_s)s)
        THEN least(g.commits_stand_since, excluded.commits_stand_since)
        ELSE excluded.commits_stand_since END,
    commits_passed_at = coalesce(excluded.commits_passed_at, g.commits_passed_at)
""",
)


def record_gateway_alive(
    timing: Timing,
    gateway: UUID,
    *,
    host: str = "",
    pid: int | None = None,
    overloaded: bool = False,
    blocked_s: float | None = None,
    passed_s: float | None = None,
) -> Transaction[None]:
    """Record that nodes can reach this gateway now.

    A gap since the last call resets `serving_since`, and so does a clock that was set back, since
    earlier times then say nothing about durations. `overloaded`: the gateway dropped heartbeats
    since the last call, which is a gap as well. `blocked_s`: seconds for which commits have been
    blocked here; None: they get through. `passed_s`: seconds since a commit last got through
    here; None: none ever did.
    """
    yield from query(
        RECORD_GATEWAY,
        gateway=gateway,
        host=host,
        pid=pid,
        gap_s=timing.pulse_gap_s,
        overloaded=overloaded,
        blocked_s=blocked_s,
        passed_s=passed_s,
    )


GATEWAY_LEFT = Statement(
    "GATEWAY_LEFT",
    "UPDATE scheduling_gateway SET left_at = clock_timestamp() WHERE id = %(gateway)s",
)


def gateway_left(gateway: UUID) -> Transaction[None]:
    """Record that this gateway stops in order: its nodes are to go to another."""
    yield from query(GATEWAY_LEFT, gateway=gateway)


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

#: The same for the status of nodes: a loss in the future would count as new once its time comes.
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

#: And for gateways: a pulse in the future would pass for a fresh one until the clock catches up,
#: although no node can reach the gateway. Turn it into a gap.
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
    silent_s: Decimal
    reason: str
    hints: int


MARK_LOST = Statement(
    "MARK_LOST",
    f"""
WITH expired AS (
    -- Lock, and check again on the newest row: a heartbeat that commits first keeps the node alive.
    SELECT l.node_id, l.incarnation, l.renewals, l.renewed_at, l.cut_by, l.cut_at,
           extract(epoch FROM clock_timestamp() - l.renewed_at) AS silent_s
    FROM scheduling_lease l JOIN scheduling_node n ON n.id = l.node_id
    WHERE l.expires_at < clock_timestamp() AND n.status = 'alive'
      -- While no gateway can be reached, the silence of a node proves nothing. It reached the fit
      -- one since that began to serve, and then stopped; or had one lease's time to reach it.
      AND EXISTS (
        SELECT FROM scheduling_gateway g WHERE {GATEWAY_FIT}
          AND (g.serving_since < clock_timestamp() - make_interval(secs => %(ttl_s)s)
               OR l.renewed_at >= g.serving_since)
      )
      -- Nor does it while the gateway that the node uses fails: for one lease's time after its last
      -- pulse (the node should then have found another), and as long after its return. One that
      -- fails again and again is an excuse for one more lease's time, if another serves for long.
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
SELECT id, name, silent_s, reason, (SELECT count(*) FROM hinted) AS hints FROM lost
""",
    row=LostRow,
)


def mark_lost(timing: Timing) -> Transaction[list[LostRow]]:
    """Mark nodes whose lease has expired as lost. Their next heartbeat makes them alive again."""
    yield from query(CLAMP_LEASES, ttl_s=timing.lease_ttl_s)
    yield from query(CLAMP_GATEWAY, gap_s=timing.pulse_gap_s)
    yield from judge_socket_losses(timing)
    rows = yield from query(
        MARK_LOST,
        ttl_s=timing.lease_ttl_s,
        gap_s=timing.pulse_gap_s,
        grace_s=timing.socket_grace_s,
    )
    yield from query(CLAMP_STATUS)
    return sorted(rows, key=lambda row: str(row.name))


class ExpiryRow(NamedTuple):
    in_s: float | None


NEXT_EXPIRY = Statement(
    "NEXT_EXPIRY",
    """
SELECT extract(epoch FROM min(least(
    l.expires_at,
    CASE WHEN l.socket_loss_pending
         THEN l.socket_lost_at + make_interval(secs => %(wait_s)s) END
)) - clock_timestamp())::float AS in_s
FROM scheduling_lease l JOIN scheduling_node n ON n.id = l.node_id WHERE n.status = 'alive'
""",
    row=ExpiryRow,
)


def next_expiry() -> Transaction[float | None]:
    """Return the seconds until a lease ends or a closed socket is judged; None without any."""
    row = yield from query_one(NEXT_EXPIRY, wait_s=SIMULTANEOUS_S)
    return None if row is None else row.in_s
