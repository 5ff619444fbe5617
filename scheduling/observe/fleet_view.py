"""The fleet as dashboard pages, `cluster_status` and API lists show it, from one snapshot.

The number of statements per read and, since sockets share the result, of reads per second and web
process do not depend on the size of the fleet. States are decoded once per state seq. Sparklines
are read every ten seconds, the interval of equity points.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg

from portfolios.feeds.clock import Segment, head_at
from scheduling.db.disk_space import DISK_SPACE
from scheduling.db.snapshot import repeatable_read
from scheduling.db.statements import ACTIVE_HANDOFF_STATES, FEED_SEGMENTS
from scheduling.decide.liveness import LeasePolicy, LeaseView, status_of
from scheduling.decide.reasons import as_data, render
from scheduling.decide.types import Reason
from scheduling.observe.halts import HaltView, read_halts_in_force
from scheduling.observe.node_losses import NodeLossView, read_losses
from scheduling.observe.stored_state import UNKNOWN_ACCOUNT, stored_state
from scheduling.timing import Timing, timing

SPARKLINE_POINTS = 40
SPARKLINE_INTERVAL_S = 10.0
MAX_RECENT_HANDOFFS = 12
PAUSE_SAMPLES = 50


@dataclass(frozen=True, slots=True)
class HandoffView:
    id: int
    portfolio: str
    kind: str
    state: str
    reason: str
    why: dict[str, Any] | None  #: the data of `reason`
    requested_by: str
    source_node: str | None
    target_node: str | None
    from_epoch: int
    to_epoch: int | None
    from_revision: int
    to_revision: int
    released_seq: int | None
    error: str
    pause_ms: float | None
    catchup_ms: float | None
    requested_at: datetime
    prepared_at: datetime | None
    released_at: datetime | None
    granted_at: datetime | None
    activated_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class LossView:
    """The newest node-loss forecast of the watcher."""

    as_of: datetime
    runs: int  #: portfolios that would need another node
    fit: int  #: portfolios that would be placed at once
    homeless: int
    waiting: int
    suspects: list[str]  #: suspect nodes, assumed lost too

    @property
    def absorbed(self) -> bool:
        """Return whether all portfolios would be placed at once."""
        return not (self.homeless or self.waiting)


@dataclass(frozen=True, slots=True)
class NodeView:
    id: int
    name: str
    status: str  #: alive, suspect, lost, left
    schedulable: bool
    cordoned: bool
    draining: bool
    drain_reason: str
    drain_actor: str
    leaving: bool
    capacity: int
    labels: dict[str, str]
    load: int  #: total weight of its portfolios
    held: int  #: total weight of handoffs to it
    lease_left_s: float | None
    lease_ttl_s: float
    last_heartbeat_at: datetime | None
    lease_expires_at: datetime | None
    incarnation: str | None
    host: str
    pid: int | None
    version: str
    python: str
    metrics: dict[str, float]
    status_since: datetime
    portfolios: list[str]
    loss: LossView | None = None  #: None: no forecast yet, or no portfolios
    reason: str = ""  #: why it is lost or suspect; empty while it is neither
    why: dict[str, Any] | None = None  #: the data of `reason`


@dataclass(frozen=True, slots=True)
class PortfolioView:
    id: int
    name: str
    strategy: str
    strategy_version: int
    config: dict[str, Any]
    symbols: list[str]
    limits: dict[str, Any]
    weight: int
    priority: int
    selector: dict[str, str]
    spread_group: str
    spread_hard: bool
    catch_up: str
    desired_state: str
    pinned_node: str | None
    revision: int
    wanted_status: str  #: of `revision`; rev_status is that of the running one
    good_revision: int | None
    running_revision: int | None
    rev_status: str
    rev_left_s: float | None  #: seconds until the running revision is good
    first_seq: int
    node: str | None
    epoch: int
    phase: str
    phase_since: datetime
    last_seq: int
    state_seq: int
    last_commit_at: datetime | None
    python: str  #: of its owner, or of the last owner that committed
    accept_python: str
    lag_events: int
    stalled: bool
    stalled_s: float
    pid: int | None
    attempts: int
    reason: str
    why: dict[str, Any] | None  #: the data of `reason`
    #: cash, equity, pnl (Decimal, None before the first commit), positions
    account: Mapping[str, Any]
    starting_cash: Decimal
    state: Mapping[str, Any]  #: the strategy's part of the state
    spark: list[float]
    handoff: HandoffView | None
    orders_refused: int = 0
    orders_suppressed: int = 0
    unplaced_orders: int = 0  #: refused and suppressed since the last placed order
    behind_since: datetime | None = None  #: since when its lag exceeds the stale order age
    artifact: str | None = None  #: sha256; None: a strategy of the release
    artifact_label: str | None = None  #: name and version
    suspect: bool = False  #: its node has missed heartbeats, so its figures may be old
    feed: str = ""
    feed_head: int = 0
    feed_rate: float = 0.0  #: 0 for a recorded feed: its sources set the pace


@dataclass(frozen=True, slots=True)
class FreezeView:
    at: datetime
    by: str
    reason: str
    failover: bool


@dataclass(frozen=True, slots=True)
class StormView:
    """The hold on failover."""

    at: datetime
    until: datetime | None  #: None: until an operator releases it
    by: str
    reason: str
    nodes: list[str]  #: lost in the storm; empty for a manual hold
    of_nodes: int


@dataclass(frozen=True, slots=True)
class AlertView:
    """An open alert."""

    id: int
    kind: str
    portfolio: str | None
    node: str | None
    reason: str
    times: int
    opened_at: datetime
    why: dict[str, Any] | None = None  #: the data of `reason`
    acknowledged_by: str = ""  #: empty: nobody has


@dataclass(frozen=True, slots=True)
class FleetView:
    at: datetime
    head: int
    rate: float
    nodes: list[NodeView]
    portfolios: list[PortfolioView]
    handoffs_active: list[HandoffView]
    handoffs_recent: list[HandoffView]
    pause_p50_ms: float | None
    pause_p99_ms: float | None
    frozen: FreezeView | None
    total_equity: Decimal
    total_starting: Decimal
    storm: StormView | None = None
    alerts: list[AlertView] = field(default_factory=list)
    losses: list[NodeLossView] = field(default_factory=list)
    halts: list[HaltView] = field(default_factory=list)  #: that keep a portfolio stopped
    handoffs_single: list[HandoffView] = field(
        default_factory=list
    )  #: ended, without the failovers that `losses` counts
    by_name: dict[str, PortfolioView] = field(default_factory=dict, repr=False)


CLOCK = """
SELECT clock_timestamp() AS now, c.frozen_at, c.frozen_by, c.frozen_reason, c.freeze_failover,
       s.held_at, s.until, s.held_by, s.reason AS held_reason, s.nodes, s.of_nodes
FROM (SELECT 1) one LEFT JOIN scheduling_control c ON true LEFT JOIN scheduling_storm s ON true
"""
ALERTS = """
SELECT a.id, a.kind, p.name AS portfolio, n.name AS node, a.reason, a.times, a.opened_at,
       CASE WHEN a.kind = 'node_lost' THEN jsonb_build_object(
           'code', 'node_lost', 'params', jsonb_build_object(
               'node', n.name, 'loss', n.lost_why -> 'params',
               'since', to_char(n.status_since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))
       END AS why, a.acknowledged_by
FROM scheduling_alert a LEFT JOIN portfolios_portfolio p ON p.id = a.portfolio_id
LEFT JOIN scheduling_node n ON n.id = a.node_id
WHERE a.closed_at IS NULL ORDER BY a.id
"""
FEED = f"""
SELECT s.feed_id, s.from_seq, (extract(epoch FROM s.from_time) * 1e6)::bigint AS from_time_us,
       s.rate
FROM {FEED_SEGMENTS} s ORDER BY s.feed_id, s.id
"""
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
STATES = """
SELECT portfolio_id, seq, state FROM portfolios_checkpoint WHERE portfolio_id = ANY(%(ids)s)
"""
HANDOFF = """
SELECT h.*, p.name AS portfolio, s.name AS source, t.name AS target, p.weight
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
PAUSE = """
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY pause_ms) AS p50,
       percentile_disc(0.99) WITHIN GROUP (ORDER BY pause_ms) AS p99
FROM (SELECT pause_ms FROM scheduling_handoff
      WHERE state = 'done' AND kind IN ('migrate', 'reload') AND pause_ms IS NOT NULL
      ORDER BY id DESC LIMIT %(most)s) recent
"""
SPARKLINES = """
SELECT p.id, x.points FROM portfolios_portfolio p
CROSS JOIN LATERAL (SELECT array_agg(equity ORDER BY seq) AS points FROM (
    SELECT seq, equity::float8 AS equity FROM portfolios_equitypoint e
    WHERE e.portfolio_id = p.id ORDER BY seq DESC LIMIT %(most)s) last) x
WHERE p.archived_at IS NULL
"""

_states: dict[int, tuple[int, Mapping[str, Any], Mapping[str, Any]]] = {}
_sparks: tuple[float, dict[int, list[float]]] = (float("-inf"), {})


def read_fleet_view(times: Timing | None = None) -> FleetView:
    """Return the fleet as of one snapshot. At most thirteen statements, whatever its size.

    Raise SnapshotUnavailable if it cannot be read.
    """
    times = times or timing()
    with repeatable_read("the fleet") as cursor:
        return _read(cursor, times)


def read_portfolio(name: str) -> PortfolioView | None:
    """Return one portfolio as of one snapshot, without sparkline; None if the name is unknown.

    Reads rows of other portfolios only for active handoffs. Six statements. Raise
    SnapshotUnavailable if it cannot be read.
    """
    with repeatable_read("the fleet") as cursor:
        clock: Any = cursor.execute(CLOCK).fetchone()
        segments = _segments(cursor)
        heads, rates = _heads(clock.now, segments), _rates(segments)
        node_rows = cursor.execute(NODES).fetchall()
        rows = cursor.execute(PORTFOLIOS, {"name": name}).fetchall()
        active = {
            row.portfolio_id: handoff_view(row)
            for row in cursor.execute(ACTIVE_HANDOFFS).fetchall()
        }
        lines = _portfolios(cursor, rows, clock.now, heads, rates, node_rows, active, {}, timing())
    return lines[0] if lines else None


def _read(cursor: psycopg.Cursor[Any], times: Timing) -> FleetView:
    clock: Any = cursor.execute(CLOCK).fetchone()
    segments = _segments(cursor)
    now: datetime = clock.now
    heads, rates = _heads(now, segments), _rates(segments)
    board_feed = min(segments, default=0)  # the oldest: the packaged bars
    node_rows = cursor.execute(NODES).fetchall()
    rows = cursor.execute(PORTFOLIOS, {"name": None}).fetchall()
    active_rows = cursor.execute(ACTIVE_HANDOFFS).fetchall()
    active = {row.portfolio_id: handoff_view(row) for row in active_rows}
    losses = read_losses(cursor)
    listed = {
        "most": MAX_RECENT_HANDOFFS,
        "lost": [loss.node_id for loss in losses],
        "since": [loss.at for loss in losses],
    }
    ended = cursor.execute(RECENT_HANDOFFS.encode(), listed).fetchall()
    pause: Any = cursor.execute(PAUSE, {"most": PAUSE_SAMPLES}).fetchone()
    sparks = _read_sparks(cursor)
    portfolios = _portfolios(cursor, rows, now, heads, rates, node_rows, active, sparks, times)
    policy = times.lease_policy
    held: dict[int, int] = {}
    for row in active_rows:
        coming = row.state in ("preparing", "draining") and row.target_node_id is not None
        if coming and row.target_node_id != row.source_node_id:
            held[row.target_node_id] = held.get(row.target_node_id, 0) + row.weight
    owned: dict[int, list[Any]] = {}
    for row in rows:
        if row.node_id is not None:
            owned.setdefault(row.node_id, []).append(row)
    return FleetView(
        at=now,
        head=heads.get(board_feed, 0),
        rate=segments[board_feed][-1].rate if segments else 0.0,
        nodes=[
            _node(row, now, owned.get(row.id, []), held.get(row.id, 0), policy) for row in node_rows
        ],
        portfolios=portfolios,
        handoffs_active=list(active.values()),
        handoffs_recent=[handoff_view(row) for row in ended if row.is_newest],
        handoffs_single=[handoff_view(row) for row in ended if row.is_single],
        pause_p50_ms=pause.p50,
        pause_p99_ms=pause.p99,
        frozen=None
        if clock.frozen_at is None
        else FreezeView(
            clock.frozen_at, clock.frozen_by, clock.frozen_reason, clock.freeze_failover
        ),
        storm=None
        if clock.held_at is None
        else StormView(
            at=clock.held_at,
            until=clock.until,
            by=clock.held_by,
            reason=clock.held_reason,
            nodes=clock.nodes,
            of_nodes=clock.of_nodes,
        ),
        alerts=_alerts(cursor),
        losses=losses,
        halts=read_halts_in_force(cursor),
        total_equity=sum((p.account["equity"] or p.starting_cash for p in portfolios), Decimal(0)),
        total_starting=sum((p.starting_cash for p in portfolios), Decimal(0)),
        by_name={line.name: line for line in portfolios},
    )


def _segments(cursor: psycopg.Cursor[Any]) -> dict[int, list[Segment]]:
    """Return the segments of each feed, by its id."""
    found: dict[int, list[Segment]] = {}
    for s in cursor.execute(FEED.encode()).fetchall():
        found.setdefault(s.feed_id, []).append(Segment(s.from_seq, s.from_time_us, float(s.rate)))
    return found


def _heads(now: datetime, segments: dict[int, list[Segment]]) -> dict[int, int]:
    """Return the head of each feed, by its id."""
    now_us = int(now.timestamp() * 1e6)
    return {feed: max(head_at(each, now_us), 0) for feed, each in segments.items()}


def _rates(segments: dict[int, list[Segment]]) -> dict[int, float]:
    """Return the events a second of each feed, by its id; 0 for a recorded one."""
    return {feed: each[-1].rate for feed, each in segments.items()}


def _portfolios(
    cursor: psycopg.Cursor[Any],
    rows: list[Any],
    now: datetime,
    heads: dict[int, int],
    rates: dict[int, float],
    node_rows: list[Any],
    active: dict[int, HandoffView],
    sparks: dict[int, list[float]],
    times: Timing,
) -> list[PortfolioView]:
    _decode_new(cursor, rows)
    names = {row.id: row.name for row in node_rows}
    reported = _reported_by_epoch(node_rows)
    gone = {row.id: row for row in node_rows if row.status in ("lost", "left")}
    suspects = {
        row.id for row in node_rows if _status_of(row, now, times.lease_policy) == "suspect"
    }
    return [
        _portfolio(
            row,
            now,
            heads.get(row.feed_id, 0),
            rates.get(row.feed_id, 0.0),
            names,
            gone,
            suspects,
            reported,
            active.get(row.id),
            sparks,
            times,
        )
        for row in rows
    ]


def handoff_view(row: Any) -> HandoffView:
    """Return the view of one row of HANDOFF."""
    return HandoffView(
        id=row.id,
        portfolio=row.portfolio,
        kind=row.kind,
        state=row.state,
        reason=row.reason,
        why=row.why,
        requested_by=row.requested_by,
        source_node=row.source,
        target_node=row.target,
        from_epoch=row.from_epoch,
        to_epoch=row.to_epoch,
        from_revision=row.from_revision,
        to_revision=row.to_revision,
        released_seq=row.released_seq,
        error=row.error,
        pause_ms=row.pause_ms,
        catchup_ms=row.catchup_ms,
        requested_at=row.requested_at,
        prepared_at=row.prepared_at,
        released_at=row.released_at,
        granted_at=row.granted_at,
        activated_at=row.activated_at,
        finished_at=row.finished_at,
        deadline_at=row.deadline_at,
    )


def _alerts(cursor: psycopg.Cursor[Any]) -> list[AlertView]:
    """Return the open alerts, including that of a full disk, whose row may not be writable."""
    alerts = [AlertView(*row) for row in cursor.execute(ALERTS).fetchall()]
    since = DISK_SPACE.since
    if since is not None and not any(alert.kind == "disk_full" for alert in alerts):
        alerts.append(AlertView(0, "disk_full", None, None, DISK_SPACE.reason, 1, since))
    return alerts


def _reported_by_epoch(node_rows: list[Any]) -> dict[tuple[int, int], dict[str, Any]]:
    """Return (portfolio, epoch) → the entry of its node's last report."""
    return {
        (entry["portfolio"], entry["epoch"]): entry
        for row in node_rows
        for entry in row.reported or []
        if entry.get("epoch")
    }


def _decode_new(cursor: psycopg.Cursor[Any], rows: list[Any]) -> None:
    """Decode the states whose seq has changed since the last read of this process."""
    wanted = [
        row.id
        for row in rows
        if row.checkpoint_seq is not None
        and (row.id not in _states or _states[row.id][0] != row.checkpoint_seq)
    ]
    if wanted:
        for row in cursor.execute(STATES, {"ids": wanted}).fetchall():
            _states[row.portfolio_id] = (row.seq, *stored_state(bytes(row.state)))


def _read_sparks(cursor: psycopg.Cursor[Any]) -> dict[int, list[float]]:
    global _sparks
    read_at, sparks = _sparks
    now = time.monotonic()
    if now - read_at >= SPARKLINE_INTERVAL_S:
        found = cursor.execute(SPARKLINES, {"most": SPARKLINE_POINTS}).fetchall()
        sparks = {row.id: row.points or [] for row in found}
        _sparks = (now, sparks)
    return sparks


def _node(row: Any, now: datetime, owned: list[Any], held: int, policy: LeasePolicy) -> NodeView:
    expires = row.expires_at
    status = _status_of(row, now, policy)
    away = status in ("lost", "left")
    reason, why = _node_reason(row, status, now, policy)
    return NodeView(
        id=row.id,
        name=row.name,
        status=status,
        schedulable=not (away or row.cordoned or row.draining or row.leaving),
        cordoned=row.cordoned,
        draining=row.draining,
        drain_reason=row.drain_reason,
        drain_actor=row.drain_actor,
        leaving=row.leaving,
        capacity=row.capacity,
        labels=row.labels,
        load=sum(run.weight for run in owned),
        held=held,
        lease_left_s=None if expires is None else max((expires - now).total_seconds(), 0.0),
        lease_ttl_s=policy.ttl_s,
        last_heartbeat_at=row.renewed_at,
        lease_expires_at=expires,
        incarnation=None if row.incarnation is None else str(row.incarnation),
        host=row.host,
        pid=row.pid,
        version=row.version,
        python=row.python,
        metrics={} if away or row.metrics is None else row.metrics,
        status_since=row.status_since,
        reason=reason,
        why=why,
        portfolios=[run.name for run in owned],
        loss=None
        if row.as_of is None or not owned  # the loss of a node that runs nothing says nothing
        else LossView(row.as_of, row.runs, row.fit, row.homeless, row.waiting, row.suspects),
    )


def _status_of(row: Any, now: datetime, policy: LeasePolicy) -> str:
    lease = LeaseView(
        expires_at=None if row.expires_at is None else row.expires_at.timestamp(),
        marked_lost=row.status == "lost",
        left=row.status == "left",
    )
    return status_of(lease, now.timestamp(), policy)


def _node_reason(
    row: Any, status: str, now: datetime, policy: LeasePolicy
) -> tuple[str, dict[str, Any] | None]:
    """Return why the node is lost or suspect, and the data of the sentence."""
    if status == "lost":
        return row.lost_reason, row.lost_why
    if status != "suspect" or row.renewed_at is None:
        return "", None
    closed = row.cut_at if row.cut_by == "closed" else None
    reason = Reason(
        "suspect",
        {
            "closed_at": None if closed is None else f"{closed:%Y-%m-%dT%H:%M:%SZ}",
            "silent_s": round((now - row.renewed_at).total_seconds()),
            "limit_s": policy.ttl_s,
        },
    )
    return render(reason), as_data(reason)


def _rejection_reason(row: Any) -> str:
    """Return why the wanted revision does not run, or "" if it was not rejected."""
    if row.wanted_status != "rejected":
        return ""
    runs = f"; r{row.running_revision} runs" if row.node_id is not None else ""
    return f"r{row.revision} was rejected: {row.status_reason}{runs}"


def _gone_reason(node: Any) -> str:
    return f"{node.name} has left" if node.status == "left" else f"{node.name} is lost"


def _portfolio(
    row: Any,
    now: datetime,
    head: int,
    rate: float,
    names: dict[int, str],
    gone: dict[int, Any],
    suspects: set[int],
    reported: dict[tuple[int, int], dict[str, Any]],
    handoff: HandoffView | None,
    sparks: dict[int, list[float]],
    times: Timing,
) -> PortfolioView:
    report = reported.get((row.id, row.epoch), {})
    _, account, state = _states.get(row.id, (0, UNKNOWN_ACCOUNT, {}))
    owned = row.node_id is not None
    # A node that is lost or has left runs nothing: its portfolios are shown as pending.
    away = gone.get(row.node_id) if row.phase in ("starting", "running", "draining") else None
    lag = max(head - row.last_seq, 0) if owned else 0
    silent_s = (now - row.last_commit_at).total_seconds() if owned and row.last_commit_at else 0.0
    stalled = (
        owned and away is None and row.phase == "running" and lag > 0 and silent_s > times.stall_s
    )
    left_s = None
    if row.rev_status == "unproven" and row.first_commit_at is not None:
        left_s = max(times.good_after_s - (now - row.first_commit_at).total_seconds(), 0.0)
    return PortfolioView(
        id=row.id,
        name=row.name,
        strategy=row.strategy,
        strategy_version=row.strategy_version,
        artifact=row.artifact,
        artifact_label=row.artifact_label,
        config=row.config,
        symbols=row.symbols,
        limits=row.limits,
        weight=row.weight,
        priority=row.priority,
        selector=row.selector,
        spread_group=row.spread_group,
        spread_hard=row.spread_hard,
        catch_up=row.catch_up,
        desired_state=row.desired_state,
        pinned_node=names.get(row.pinned_node_id) if row.pinned_node_id is not None else None,
        revision=row.revision,
        wanted_status=row.wanted_status,
        good_revision=row.good_revision,
        running_revision=row.running_revision if owned else None,
        rev_status=row.rev_status,
        rev_left_s=left_s,
        first_seq=row.first_seq,
        node=names.get(row.node_id) if owned else None,
        epoch=row.epoch,
        phase=row.phase if away is None else "pending",
        phase_since=row.phase_since if away is None else max(row.phase_since, away.status_since),
        last_seq=row.last_seq,
        state_seq=row.state_seq,
        last_commit_at=row.last_commit_at,
        python=row.python,
        accept_python=row.accept_python,
        lag_events=lag,
        stalled=stalled,
        stalled_s=silent_s if stalled else 0.0,
        pid=report.get("pid") if away is None else None,
        attempts=row.attempts,
        orders_refused=row.orders_refused,
        orders_suppressed=row.orders_suppressed,
        unplaced_orders=row.unplaced_orders,
        behind_since=row.behind_since,
        suspect=row.node_id in suspects,
        feed=row.feed,
        feed_head=head,
        feed_rate=rate,
        reason=row.reason or (_gone_reason(away) if away else _rejection_reason(row)),
        why=row.why,
        account=account,
        starting_cash=row.starting_cash,
        state=state,
        spark=sparks.get(row.id, []),
        handoff=handoff,
    )
