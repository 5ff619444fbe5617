"""One consistent look at the fleet, in a constant number of statements."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import psycopg
from django.db import Error as DjangoDatabaseError
from django.db import connection, transaction

from scheduling.decide.liveness import LeasePolicy, LeaseView, flapping_until, status_of
from scheduling.decide.world import HandoffView, NodeView, PortfolioView, Snapshot
from scheduling.enact.deaths import MOST_FAILURES_A_NODE
from scheduling.enact.recipe import django_cursor
from scheduling.enact.timing import Timing
from scheduling.errors import SnapshotUnavailable

CLOCK = """
SELECT extract(epoch FROM clock_timestamp())::float AS now,
       c.frozen_at IS NOT NULL AS frozen, coalesce(c.freeze_failover, false) AS freeze_failover
FROM (SELECT 1) one LEFT JOIN scheduling_control c ON true
"""

NODES = """
SELECT n.id, n.name, n.status, n.capacity, n.labels, n.cordoned, n.draining, n.leaving, n.feeds,
       n.strategies, n.lost_times, extract(epoch FROM n.status_since)::float AS status_since,
       extract(epoch FROM l.expires_at)::float AS expires_at,
       extract(epoch FROM l.renewed_at)::float AS renewed_at,
       (SELECT count(*) FROM scheduling_handoff h
        WHERE h.state IN ('requested', 'preparing', 'draining', 'activating')
          AND (h.source_node_id = n.id OR h.target_node_id = n.id)) AS handoffs
FROM scheduling_node n LEFT JOIN scheduling_lease l ON l.node_id = n.id
WHERE n.status <> 'new'
ORDER BY n.id
"""

#: What would run if it were placed now: the wanted revision, unless that was rejected.
PORTFOLIOS = """
SELECT p.id, p.name, p.weight, p.priority, p.selector, p.spread_group, p.spread_hard,
       p.desired_state, f.name AS feed, f.sha256 AS feed_sha, r.node_id, r.phase, r.epoch,
       r.pinned_node_id, r.failures_by_node, r.revision AS running_revision, r.good_revision,
       r.reason, r.attempts, v.number AS revision, v.strategy, v.strategy_version,
       h.id AS handoff, h.kind, h.source_node_id, h.target_node_id
FROM portfolios_portfolio p
JOIN portfolios_feed f ON f.id = p.feed_id
JOIN scheduling_run r ON r.portfolio_id = p.id
JOIN portfolios_revision w ON w.portfolio_id = p.id AND w.number = p.revision
JOIN portfolios_revision v ON v.portfolio_id = p.id AND v.number =
    CASE WHEN w.status = 'rejected' THEN coalesce(r.good_revision, p.revision) ELSE p.revision END
LEFT JOIN scheduling_handoff h ON h.portfolio_id = p.id
    AND h.state IN ('requested', 'preparing', 'draining', 'activating')
WHERE p.archived_at IS NULL
ORDER BY p.id
"""

#: Handoffs that did not come about lately, by portfolio and target. The newest rows only, by key.
FAILED_LATELY = """
SELECT portfolio_id, target_node_id AS target, kind = 'migrate' AS was_move, count(*) AS times,
       extract(epoch FROM max(finished_at))::float AS last
FROM (SELECT * FROM scheduling_handoff ORDER BY id DESC LIMIT 2000) h
WHERE state IN ('failed', 'rolled_back') AND kind <> 'reload' AND target_node_id IS NOT NULL
  AND finished_at > clock_timestamp() - make_interval(secs => %(lately_s)s)
GROUP BY portfolio_id, target_node_id, kind = 'migrate'
"""
LATELY_S = 120.0
LONGEST_REST_S = 30.0


class Observed:
    """A snapshot for the planner, and beside it what enacting needs to compare with."""

    def __init__(self, snapshot: Snapshot, rows: dict[int, Any]) -> None:
        self.snapshot = snapshot
        self.rows = rows  #: portfolio id → its row of PORTFOLIOS


def observe(timing: Timing) -> Observed:
    """Read the fleet. Four statements, one snapshot of the database.

    Raises SnapshotUnavailable where it could not be read: an empty fleet is a snapshot with no
    nodes, not knowing is an error.
    """
    # Within somebody's transaction (tests) the level is theirs.
    nested = connection.in_atomic_block
    try:
        with nullcontext() if nested else transaction.atomic(), django_cursor() as cursor:
            if not nested:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            clock: Any = cursor.execute(CLOCK).fetchone()
            nodes: list[Any] = cursor.execute(NODES).fetchall()
            portfolios: list[Any] = cursor.execute(PORTFOLIOS).fetchall()
            failed: list[Any] = cursor.execute(FAILED_LATELY, {"lately_s": LATELY_S}).fetchall()
    except (DjangoDatabaseError, psycopg.Error) as error:
        if not nested:
            connection.close()  # it may be broken, and a pass outside of requests keeps it
        raise SnapshotUnavailable(f"the fleet could not be read: {error}") from error
    policy = LeasePolicy(interval_s=timing.heartbeat_interval_s, ttl_s=timing.lease_ttl_s)
    living = {row.id for row in nodes if row.status == "alive"}
    lately: dict[tuple[int, bool], list[Any]] = {}
    for row in failed:
        lately.setdefault((row.portfolio_id, row.was_move), []).append(row)
    snapshot = Snapshot(
        taken_at=clock.now,
        nodes=tuple(_node(row, clock.now, policy) for row in nodes),
        portfolios=tuple(
            _portfolio(row, lately.get((row.id, row.node_id in living), [])) for row in portfolios
        ),
        frozen=clock.frozen,
        frozen_failover=clock.freeze_failover,
    )
    return Observed(snapshot, {row.id: row for row in portfolios})


def _node(row: Any, now: float, policy: LeasePolicy) -> NodeView:
    lease = LeaseView(
        expires_at=row.expires_at,
        renewed_at=row.renewed_at,
        marked_lost=row.status == "lost",
        left=row.status == "left",
    )
    return NodeView(
        id=row.id,
        name=row.name,
        status=status_of(lease, now, policy),
        capacity=row.capacity,
        labels=row.labels,
        cordoned=row.cordoned,
        draining=row.draining or row.leaving,
        feeds=row.feeds,
        strategies=row.strategies,
        flapping_until=flapping_until(row.lost_times, row.status_since, policy),
        handoffs=row.handoffs,
    )


def _portfolio(row: Any, lately: list[Any]) -> PortfolioView:
    """Return the planner's view of one portfolio, with its handoffs that failed `lately`: moves
    if it runs, else placings and failovers, which no move that failed should hold up.

    Where it failed twice it is not tried again for a while, and after any failure the next try
    waits 1, 2, 4 … s: without that, a target that cannot start it would be asked without end.
    """
    failed = {int(n) for n, times in row.failures_by_node.items() if times >= MOST_FAILURES_A_NODE}
    failed |= {line.target for line in lately if line.times >= MOST_FAILURES_A_NODE}
    times = sum(line.times for line in lately)
    rest_s = min(2.0 ** (times - 1), LONGEST_REST_S) if times else 0.0
    return PortfolioView(
        id=row.id,
        name=row.name,
        weight=row.weight,
        priority=row.priority,
        selector=row.selector,
        spread_group=row.spread_group or None,
        spread_hard=row.spread_hard,
        strategy=row.strategy,
        strategy_version=row.strategy_version,
        feed=row.feed,
        feed_sha=row.feed_sha,
        node=row.node_id,
        desired=row.desired_state,
        phase=row.phase,
        pinned=row.pinned_node_id,
        handoff=None
        if row.handoff is None
        else HandoffView(
            id=row.handoff, kind=row.kind, source=row.source_node_id, target=row.target_node_id
        ),
        failed_nodes=frozenset(failed),
        not_before=max(line.last for line in lately) + rest_s if lately else None,
    )
