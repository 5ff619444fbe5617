"""One consistent snapshot of the fleet, in a constant number of statements.

A caller that reads often passes a `SnapshotCache`, so that only changed rows are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scheduling.db.snapshot import repeatable_read
from scheduling.db.statements import ACTIVE_HANDOFF_STATES, Statement
from scheduling.db.transaction import fetch
from scheduling.decide.granted_revision import revision_choices
from scheduling.decide.liveness import (
    LeasePolicy,
    assess_losses_of_rows,
    flapping_until,
    status_now,
)
from scheduling.decide.process_exit import MAX_FAILURES_PER_NODE
from scheduling.decide.reconcile import back_off_s
from scheduling.decide.types import (
    RECORDED_FEEDS,
    ArtifactNeeds,
    Cpu,
    HandoffView,
    NodeView,
    PortfolioView,
    RevisionChoice,
    Snapshot,
)
from scheduling.errors import SnapshotUnavailable
from scheduling.observe.snapshot_cache import CHANGES, SNAPSHOT_MARK, SnapshotCache
from scheduling.timing import Timing

#: The time, the snapshot's mark for the cache, and what restricts or directs the planner.
CLOCK = Statement(
    "CLOCK",
    f"""
SELECT extract(epoch FROM clock_timestamp())::float AS now,
       {SNAPSHOT_MARK.strip()},
       c.frozen_at IS NOT NULL AS frozen, coalesce(c.freeze_failover, false) AS freeze_failover,
       coalesce(c.even_by, 'weight') = 'cpu' AS by_cpu,
       s.held_at IS NOT NULL AS storm_held, coalesce(s.held_by, '') AS storm_by,
       extract(epoch FROM s.ended_at)::float AS storm_ended
FROM (SELECT 1) one LEFT JOIN scheduling_control c ON true LEFT JOIN scheduling_storm s ON true
""",
)

#: Nodes with their lease and the number of their active handoffs.
NODES = Statement(
    "NODES",
    f"""
SELECT n.id, n.name, n.status, n.capacity, n.labels, n.cordoned, n.draining, n.leaving, n.feeds,
       n.strategies, n.python, n.lost_times,
       extract(epoch FROM n.status_since)::float AS status_since,
       extract(epoch FROM l.expires_at)::float AS expires_at, coalesce(h.handoffs, 0) AS handoffs
FROM scheduling_node n
LEFT JOIN scheduling_lease l ON l.node_id = n.id
LEFT JOIN (
    SELECT ends.node_id, count(*) AS handoffs FROM scheduling_handoff active
    CROSS JOIN LATERAL (SELECT active.source_node_id UNION SELECT active.target_node_id
    ) AS ends (node_id)
    WHERE active.state IN {ACTIVE_HANDOFF_STATES}
    GROUP BY ends.node_id
) h ON h.node_id = n.id
WHERE n.status <> 'new'
ORDER BY n.id
""",
)

#: Portfolios, or those with `ids`, with what a grant depends on. `w` is the wanted revision; `o`,
#: that of the last owner, and `g`, the last good one, are joined only if they are another one.
PORTFOLIOS = Statement(
    "PORTFOLIOS",
    f"""
SELECT p.id, p.name, p.weight, p.priority, nullif(p.selector, '{{}}') AS selector,
       p.spread_group, p.spread_hard,
       p.desired_state,
       CASE WHEN f.kind = 'recorded' THEN '{RECORDED_FEEDS}' ELSE f.name END AS feed,
       CASE WHEN f.kind = 'recorded' THEN '1' ELSE f.sha256 END AS feed_sha,
       r.node_id, r.phase, r.epoch,
       r.pinned_node_id, nullif(r.failures_by_node, '{{}}') AS failures_by_node,
       r.revision AS running_revision, r.good_revision,
       r.python, r.accept_python, r.reason, r.attempts,
       extract(epoch FROM r.phase_since)::float AS phase_since,
       w.number AS wanted_revision, w.status AS wanted_status,
       w.strategy, w.strategy_version, w.artifact_sha256 AS artifact,
       o.strategy AS running_strategy, o.strategy_version AS running_version,
       o.artifact_sha256 AS running_artifact,
       g.strategy AS good_strategy, g.strategy_version AS good_version,
       g.artifact_sha256 AS good_artifact,
       (SELECT jsonb_object_agg(a.sha256,
            jsonb_build_array(a.name || ' ' || a.version, a.python_requirement, a.pythons))
        FROM portfolios_artifact a
        WHERE a.sha256 IN (w.artifact_sha256, o.artifact_sha256, g.artifact_sha256)) AS artifacts,
       h.id AS handoff, h.kind, h.source_node_id, h.target_node_id
FROM portfolios_portfolio p
JOIN portfolios_feed f ON f.id = p.feed_id
JOIN scheduling_run r ON r.portfolio_id = p.id
JOIN portfolios_revision w ON w.portfolio_id = p.id AND w.number = p.revision
LEFT JOIN portfolios_revision o ON o.portfolio_id = p.id AND o.number = r.revision
    AND r.revision <> p.revision
LEFT JOIN portfolios_revision g ON g.portfolio_id = p.id AND g.number = r.good_revision
    AND r.good_revision <> p.revision
LEFT JOIN scheduling_handoff h ON h.portfolio_id = p.id
    AND h.state IN {ACTIVE_HANDOFF_STATES}
WHERE p.archived_at IS NULL
  AND (%(ids)s::bigint[] IS NULL OR p.id = ANY(%(ids)s::bigint[]))  -- NULL: all of them
ORDER BY p.id
""",
)

#: Handoffs that failed recently, by portfolio and target. Reads the newest rows only, by key.
RECENT_FAILURES = Statement(
    "RECENT_FAILURES",
    """
SELECT portfolio_id, target_node_id AS target, kind = 'migrate' AS was_move, count(*) AS times,
       extract(epoch FROM max(finished_at))::float AS last
FROM (SELECT * FROM scheduling_handoff ORDER BY id DESC LIMIT 2000) h
WHERE state IN ('failed', 'rolled_back') AND kind <> 'reload' AND target_node_id IS NOT NULL
  AND finished_at > clock_timestamp() - make_interval(secs => %(lately_s)s)
GROUP BY portfolio_id, target_node_id, kind = 'migrate'
""",
)

#: CPU use of nodes (portfolio 0) and of the portfolios they own, over the last minute. A value that
#: a node reports is clamped to 0..100 %.
CPU_USAGE = Statement(
    "CPU_USAGE",
    """
SELECT node_id, portfolio_id, least(greatest(cpu_pct, 0), 100)::float AS cpu_pct FROM (
    SELECT node_id, 0 AS portfolio_id, (metrics ->> 'cpu_minute_pct')::numeric AS cpu_pct
    FROM scheduling_nodereport
    UNION ALL
    SELECT n.node_id, r.portfolio_id, a.cpu_pct
    FROM scheduling_nodereport n
    CROSS JOIN LATERAL jsonb_to_recordset(n.portfolios)
        AS a (portfolio numeric, epoch numeric, cpu_pct numeric)
    JOIN scheduling_run r
        ON r.portfolio_id = a.portfolio AND r.epoch = a.epoch AND r.node_id = n.node_id
) measured WHERE cpu_pct IS NOT NULL
""",
)
RECENT_FAILURE_S = 120.0  #: for so long a failed handoff delays the next one, and excludes a node
MAX_RETRY_WAIT_S = 30.0  #: of a portfolio after failed handoffs
NO_NODES: frozenset[int] = frozenset()


class FleetSnapshot:
    """A snapshot for the planner, with the rows that it was made from."""

    def __init__(self, snapshot: Snapshot, cache: SnapshotCache) -> None:
        self.snapshot = snapshot
        self.rows: Mapping[int, Any] = cache.rows  #: portfolio id → its row of PORTFOLIOS
        self.with_reason = cache.with_reason  #: ids of portfolios whose row has a reason
        self.fleet_index = cache.fleet_index  #: of the snapshot's portfolios


def observe(timing: Timing, cache: SnapshotCache | None = None) -> FleetSnapshot:
    """Read the fleet as of one database snapshot. Five statements; six when rebalancing by CPU.

    With the `cache` of the previous call, only portfolios with changed rows are read; the result is
    then valid until the next call with that cache. Raise SnapshotUnavailable if the fleet cannot be
    read: an empty fleet is a snapshot without nodes, an unknown one is an error.
    """
    cache = SnapshotCache() if cache is None else cache
    try:
        with repeatable_read("the fleet") as cursor:
            (clock,) = fetch(cursor, CLOCK)
            nodes = fetch(cursor, NODES)
            failed = fetch(cursor, RECENT_FAILURES, lately_s=RECENT_FAILURE_S)
            since = cache.since(clock.numbering)
            changes = fetch(cursor, CHANGES, since=since, newest=clock.newest)
            refreshed = cache.ids_to_refresh(since, changes)
            changed = fetch(cursor, PORTFOLIOS, ids=refreshed)
            measured = fetch(cursor, CPU_USAGE) if clock.by_cpu else []
    except SnapshotUnavailable:
        cache.forget()
        raise
    policy = timing.lease_policy
    losses = assess_losses_of_rows(nodes, clock.now, clock.storm_ended, policy)
    living = {node.id for node in nodes if node.status == "alive"}
    failures: dict[tuple[int, bool], list[Any]] = {}  # (portfolio, of moves) → its rows of `failed`
    for failure in failed:
        failures.setdefault((failure.portfolio_id, failure.was_move), []).append(failure)
    cache.apply_changes(
        clock,
        changes,
        refreshed,
        changed,
        time_dependent={failure.portfolio_id for failure in failed},
        view_of=lambda row: _portfolio_view(row, failures.get((row.id, row.node_id in living), [])),
    )
    snapshot = Snapshot(
        taken_at=clock.now,
        nodes=tuple(_node_view(node, clock.now, policy) for node in nodes),
        portfolios=tuple(cache.fleet_index.portfolios.values()),
        frozen=clock.frozen,
        frozen_failover=clock.freeze_failover,
        # A storm that no sweep has stored yet holds failover too.
        storm_hold=clock.storm_held or losses.storm,
        storm_by=clock.storm_by if clock.storm_held else "",
        storm_late=losses.late if losses.doubtful else (),  # with these lost, it is a storm
        after_storm=_is_after_storm(nodes, cache, clock),
        cpu=_cpu_usage(measured) if clock.by_cpu else None,
    )
    cache.snapshot = snapshot
    return FleetSnapshot(snapshot, cache)


def _cpu_usage(measured: list[Any]) -> Cpu:
    """Return the usage of nodes and portfolios from rows of CPU_USAGE (portfolio 0: the node)."""
    return Cpu(
        nodes={row.node_id: row.cpu_pct for row in measured if not row.portfolio_id},
        portfolios={row.portfolio_id: row.cpu_pct for row in measured if row.portfolio_id},
    )


def _is_after_storm(nodes: list[Any], cache: SnapshotCache, clock: Any) -> bool:
    """Return whether nodes lost before the last hold ended still own portfolios."""
    if clock.storm_ended is None:
        return False
    gone = {n.id for n in nodes if n.status == "lost" and n.status_since <= clock.storm_ended}
    return bool(gone) and any(row.node_id in gone for row in cache.rows.values())


def _node_view(row: Any, now: float, policy: LeasePolicy) -> NodeView:
    return NodeView(
        id=row.id,
        name=row.name,
        status=status_now(row, now, policy),
        capacity=row.capacity,
        labels=row.labels,
        cordoned=row.cordoned,
        draining=row.draining or row.leaving,
        feeds=row.feeds,
        strategies=row.strategies,
        python=row.python,
        flapping_until=flapping_until(row.lost_times, row.status_since, policy),
        handoffs=row.handoffs,
    )


def _portfolio_view(row: Any, failures: list[Any]) -> PortfolioView:
    """Return the planner's view of one portfolio.

    `failures` are its recently failed handoffs: failed moves if it runs, else failed placements and
    failovers, so that a failed move does not delay a placement.

    A node where two handoffs failed is excluded while they count, and after any failure the next
    attempt waits 1, 2, 4 … s: otherwise a target that cannot start the portfolio would be asked
    again and again. A portfolio that was taken from a node, because it failed there twice before
    its first event, waits as long for its next placement as that node would have waited: 5 s, 30 s.
    """
    failed, not_before = NO_NODES, None
    if row.failures_by_node is not None:
        counted = row.failures_by_node.items()
        failed = frozenset(int(n) for n, times in counted if times >= MAX_FAILURES_PER_NODE)
        if failed and row.node_id is None:
            not_before = row.phase_since + back_off_s(row.attempts)
    if failures:
        failed |= {each.target for each in failures if each.times >= MAX_FAILURES_PER_NODE}
        wait_s = 2.0 ** (sum(each.times for each in failures) - 1)
        retry_at = max(each.last for each in failures) + min(wait_s, MAX_RETRY_WAIT_S)
        not_before = retry_at if not_before is None else max(not_before, retry_at)
    wanted, running, choices = _revision_choices(row)
    owned = row.node_id is not None
    current = running if owned and running is not None else choices[0]
    return PortfolioView(
        id=row.id,
        name=row.name,
        weight=row.weight,
        priority=row.priority,
        selector=row.selector or {},
        spread_group=row.spread_group or None,
        spread_hard=row.spread_hard,
        revision=current.revision,
        strategy=current.strategy,
        strategy_version=current.strategy_version,
        artifact=current.artifact,
        revision_choices=choices if choices != (current,) else (),
        wanted=wanted if owned and wanted != current else None,
        feed=row.feed,
        feed_sha=row.feed_sha,
        python=row.python,
        accept_python=row.accept_python,
        node=row.node_id,
        desired=row.desired_state,
        phase=row.phase,
        pinned=row.pinned_node_id,
        handoff=None
        if row.handoff is None
        else HandoffView(
            id=row.handoff, kind=row.kind, source=row.source_node_id, target=row.target_node_id
        ),
        failed_nodes=failed,
        not_before=not_before,
    )


def _revision_choices(
    row: Any,
) -> tuple[RevisionChoice | None, RevisionChoice | None, tuple[RevisionChoice, ...]]:
    """Return (wanted revision, that of the last owner, revisions to choose from for a new owner).

    The last are in the order of preference. If the wanted revision is rejected and there is a good
    one, the first member is None and the rejected revision is no choice.
    """
    requested = RevisionChoice(
        row.wanted_revision, row.strategy, row.strategy_version, _artifact_needs(row, row.artifact)
    )

    def choice_of(
        number: int | None, strategy: str | None, strategy_version: int, artifact: str | None
    ) -> RevisionChoice | None:
        """Return the choice of revision `number`, or None if the row does not have it."""
        if number == requested.revision:
            return requested
        if number is None or strategy is None:
            return None
        return RevisionChoice(number, strategy, strategy_version, _artifact_needs(row, artifact))

    running = choice_of(
        row.running_revision, row.running_strategy, row.running_version, row.running_artifact
    )
    good = choice_of(row.good_revision, row.good_strategy, row.good_version, row.good_artifact)
    rejected = row.wanted_status == "rejected" and good is not None
    wanted = None if rejected else requested
    choices = revision_choices(
        running=running,
        good=good,
        wanted=wanted,
        owned=row.node_id is not None,
        attempts=row.attempts,
    )
    return wanted, running, choices


def _artifact_needs(row: Any, artifact: str | None) -> ArtifactNeeds | None:
    """Return what a revision's artifact needs; None for a strategy that nodes have installed."""
    if artifact is None:
        return None
    label, python, pythons = row.artifacts[artifact]
    return ArtifactNeeds(label, python, tuple(pythons))
