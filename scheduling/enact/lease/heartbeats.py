"""Heartbeats: renew the leases of many nodes in one statement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from scheduling.db.statements import ACTIVE_HANDOFF_STATES, GATEWAY_FIT, NOTIFY_WATCHERS, Statement
from scheduling.db.transaction import Row, Transaction, query
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
    -- The time without answers counts only as far back as nodes could reach both this gateway and
    -- the one of the node's previous heartbeat. `least` ignores a gateway whose row is gone.
    SELECT i.node, least(
        i.unheard_s,
        coalesce((SELECT s.for_s FROM serving s WHERE s.id = %(gateway)s), 0),
        (SELECT s.for_s FROM serving s JOIN scheduling_lease l ON l.gateway_id = s.id
         WHERE l.node_id = i.node)
    ) AS unheard_s
    FROM input i
), locked AS MATERIALIZED (
    -- Wait for no row lock: one statement has the heartbeats of all nodes, and the process that
    -- holds the lock of one row may be frozen. A heartbeat whose lease is locked goes into the next
    -- statement.
    SELECT l.node_id, l.expires_at FROM scheduling_lease l JOIN input i ON i.node = l.node_id
    WHERE l.incarnation = i.incarnation
    ORDER BY l.node_id FOR UPDATE OF l SKIP LOCKED
), renewed AS (
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
    -- A daemon that was asked to stop does not change its mind: a heartbeat without the flag is
    -- older. A node whose row is locked changes with one of its next heartbeats.
    SELECT n.id FROM scheduling_node n JOIN renewed ON renewed.node_id = n.id
    WHERE renewed.leaving AND NOT n.leaving ORDER BY n.id FOR NO KEY UPDATE OF n SKIP LOCKED
), changed AS (
    UPDATE scheduling_node n SET leaving = true FROM turned WHERE turned.id = n.id
    RETURNING n.id
), audited AS (
    INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
    SELECT clock.now, 'node_leaving', NULL, c.id, '', 'its daemon was asked to stop', '{{}}'::jsonb
    FROM changed c, clock
), hinted AS (
    SELECT {NOTIFY_WATCHERS}
    FROM changed
), reported AS (
    INSERT INTO scheduling_nodereport (node_id, at, metrics, portfolios)
    SELECT renewed.node_id, clock.now, renewed.metrics, renewed.portfolios FROM renewed, clock
    ON CONFLICT (node_id) DO UPDATE SET at = excluded.at, metrics = excluded.metrics,
        portfolios = excluded.portfolios
)
SELECT i.node, renewed.node_id IS NOT NULL AS renewed,
       coalesce(k.node_id IS NULL AND l.incarnation = i.incarnation, false) AS lease_locked,
       l.incarnation AS held_by, n.status, n.host, n.pid,
       n.desired_version,
       (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS now_us,
       (SELECT count(*) FROM hinted) AS hints,
       -- Also if the process that wrote an earlier heartbeat ended before it ran REVIVE.
       coalesce((k.expires_at < clock_timestamp() OR n.status = 'lost')
                AND renewed.expires_at > clock_timestamp(), false) AS late,
       EXISTS (SELECT FROM scheduling_handoff h
               WHERE h.state IN {ACTIVE_HANDOFF_STATES}
               AND (h.source_node_id = i.node OR h.target_node_id = i.node)) AS pending,
       EXISTS (SELECT FROM scheduling_run r WHERE r.node_id = i.node) AS busy
FROM input i
JOIN scheduling_node n ON n.id = i.node
LEFT JOIN renewed ON renewed.node_id = i.node
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
#: heartbeat at the time of a registration finds the lease taken, while its own snapshot may still
#: name its daemon as the holder. That daemon would be told that its lease is unknown, register
#: again, and take the node back.
HOLDERS = Statement(
    "HOLDERS",
    """
SELECT n.id AS node, false AS renewed, false AS lease_locked, l.incarnation AS held_by,
       n.status, n.host, n.pid,
       n.desired_version, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS now_us,
       false AS late, false AS pending, false AS busy,
       (extract(epoch FROM l.taken_at) * 1e6)::bigint AS taken_us, n.registrations
FROM scheduling_node n LEFT JOIN scheduling_lease l ON l.node_id = n.id
WHERE n.id = ANY(%(nodes)s::bigint[])
""",
)

#: Seconds. An interval of PostgreSQL cannot hold every number, and the invalid value of one node
#: must not make the statement for all nodes fail.
MAX_UNHEARD_S = 1e6


def renew_leases(
    nodes: Sequence[int], heartbeats: Sequence[Heartbeat], timing: Timing, gateway: UUID
) -> Transaction[dict[int, Row]]:
    """Renew the leases of many nodes in one statement. Return node → its row of RENEW or HOLDERS.

    `nodes` has each node once; `gateway` is the process that received these heartbeats. In a row,
    `renewed` says whether the lease was renewed. If not, `lease_locked` says that another
    transaction has locked the lease and the heartbeat has to be written again; otherwise another
    incarnation holds the lease, or the node said goodbye.

    If needed, a second statement makes nodes alive whose lease had expired, and a third reads the
    holders of the leases that were not renewed.
    """
    rows = yield from query(
        RENEW,
        nodes=list(nodes),
        incarnations=[uuid_from(each.incarnation) for each in heartbeats],
        leaving=[each.leaving for each in heartbeats],
        unheard=[
            min(each.unheard_s, MAX_UNHEARD_S) if math.isfinite(each.unheard_s) else 0.0
            for each in heartbeats
        ],
        metrics=[Jsonb(_finite(each.metrics)) for each in heartbeats],
        # A number that JSON cannot hold becomes null, like a missing one.
        portfolios=[Jsonb(each.portfolios, dumps=msgspec.json.encode) for each in heartbeats],
        ttl_s=timing.lease_ttl_s,
        gap_s=timing.pulse_gap_s,
        gateway=gateway,
    )
    late = [row.node for row in rows if row.late]
    if late:
        yield from query(REVIVE, nodes=late)
    found = {row.node: row for row in rows}
    others = [row.node for row in rows if not row.renewed and not row.lease_locked]
    if others:
        found |= {row.node: row for row in (yield from query(HOLDERS, nodes=others))}
    return found


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` without infinite numbers and NaN, which JSON cannot hold."""
    return {
        name: value
        for name, value in values.items()
        if not isinstance(value, float) or math.isfinite(value)
    }
