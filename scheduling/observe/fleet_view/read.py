"""Read the fleet, or one portfolio, as of one snapshot.

The number of statements of one read does not depend on the size of the fleet. Neither does the
number of reads per second in a web process, since its sockets share the result.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg

from portfolios.feeds.clock import Segment, head_at
from scheduling.db.disk_space import DISK_SPACE
from scheduling.db.snapshot import repeatable_read
from scheduling.observe.fleet_view.nodes import node_status, node_view
from scheduling.observe.fleet_view.portfolios import (
    FeedClock,
    ViewContext,
    counted_equity,
    decode_new_states,
    forget_states_except,
    portfolio_view,
    read_sparklines,
    reports_by_epoch,
)
from scheduling.observe.fleet_view.statements import (
    ACTIVE_HANDOFFS,
    ALERTS,
    CLOCK,
    NODES,
    PAUSE,
    PORTFOLIOS,
    RECENT_HANDOFFS,
    SEGMENTS,
)
from scheduling.observe.fleet_view.types import (
    AlertView,
    FleetView,
    FreezeView,
    HandoffView,
    PortfolioView,
    StormView,
)
from scheduling.observe.halts import read_halts_in_force
from scheduling.observe.node_losses import read_losses
from scheduling.observe.view_fields import same_named
from scheduling.timing import timing

MAX_RECENT_HANDOFFS = 12
PAUSE_SAMPLES = 50  #: pauses of which the percentiles are shown


def read_fleet_view() -> FleetView:
    """Return the fleet as of one snapshot. At most thirteen statements, whatever its size.

    Raise SnapshotUnavailable if the database cannot be read.
    """
    with repeatable_read("the fleet") as cursor:
        return _read_fleet(cursor)


def read_portfolio(name: str) -> PortfolioView | None:
    """Return one portfolio as of one snapshot, without sparkline; None if the name is unknown.

    Reads rows of other portfolios only for active handoffs. Six statements. Raise
    SnapshotUnavailable if the database cannot be read.
    """
    with repeatable_read("the fleet") as cursor:
        clock: Any = cursor.execute(CLOCK).fetchone()
        feeds = _feed_clocks(_read_segments(cursor), clock.now)
        nodes = cursor.execute(NODES).fetchall()
        rows = cursor.execute(PORTFOLIOS, {"name": name}).fetchall()
        active = _handoffs_by_portfolio(cursor.execute(ACTIVE_HANDOFFS).fetchall())
        context = _view_context(clock.now, feeds, nodes, active, {})
        decode_new_states(cursor, rows)
    return portfolio_view(rows[0], context) if rows else None


def _read_fleet(cursor: psycopg.Cursor[Any]) -> FleetView:
    clock: Any = cursor.execute(CLOCK).fetchone()
    now: datetime = clock.now
    segments = _read_segments(cursor)
    feeds = _feed_clocks(segments, now)
    # The head and rate of the board are those of the first feed, the packaged bars.
    board_feed = feeds[min(segments)] if segments else FeedClock(0, 0.0)
    nodes = cursor.execute(NODES).fetchall()
    rows = cursor.execute(PORTFOLIOS, {"name": None}).fetchall()
    active_rows = cursor.execute(ACTIVE_HANDOFFS).fetchall()
    active = _handoffs_by_portfolio(active_rows)
    losses = read_losses(cursor)
    shown = {
        "most": MAX_RECENT_HANDOFFS,
        "lost": [loss.node_id for loss in losses],
        "since": [loss.at for loss in losses],
    }
    ended = cursor.execute(RECENT_HANDOFFS.encode(), shown).fetchall()
    pause: Any = cursor.execute(PAUSE, {"most": PAUSE_SAMPLES}).fetchone()
    sparklines = read_sparklines(cursor)
    context = _view_context(now, feeds, nodes, active, sparklines)
    decode_new_states(cursor, rows)
    forget_states_except(rows)
    portfolios = [portfolio_view(row, context) for row in rows]
    held: dict[int, int] = {}  # node → places for handoffs to it that are not granted yet
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
        head=board_feed.head,
        rate=board_feed.rate,
        nodes=[
            node_view(
                row, now, owned.get(row.id, []), held.get(row.id, 0), context.times.lease_policy
            )
            for row in nodes
        ],
        portfolios=portfolios,
        handoffs_active=list(active.values()),
        handoffs_recent=[_handoff_view(row) for row in ended if row.is_newest],
        handoffs_single=[_handoff_view(row) for row in ended if row.is_single],
        pause_p50_ms=pause.p50,
        pause_p99_ms=pause.p99,
        frozen=_freeze_view(clock),
        storm=_storm_view(clock),
        alerts=_alert_views(cursor),
        losses=losses,
        halts=read_halts_in_force(cursor),
        total_equity=sum(map(counted_equity, portfolios), Decimal(0)),
        total_starting=sum((p.starting_cash for p in portfolios), Decimal(0)),
        by_name={line.name: line for line in portfolios},
    )


def _view_context(
    now: datetime,
    feeds: dict[int, FeedClock],
    nodes: list[Any],
    active: dict[int, HandoffView],
    sparklines: dict[int, list[float]],
) -> ViewContext:
    times = timing()
    policy = times.lease_policy
    return ViewContext(
        now=now,
        times=times,
        feeds=feeds,
        nodes={row.id: row for row in nodes},
        suspects={row.id for row in nodes if node_status(row, now, policy) == "suspect"},
        reports=reports_by_epoch(nodes),
        handoffs=active,
        sparklines=sparklines,
    )


def _read_segments(cursor: psycopg.Cursor[Any]) -> dict[int, list[Segment]]:
    """Return feed id → the segments of the feed."""
    found: dict[int, list[Segment]] = {}
    for row in cursor.execute(SEGMENTS.encode()).fetchall():
        segment = Segment(row.from_seq, row.from_time_us, float(row.rate))
        found.setdefault(row.feed_id, []).append(segment)
    return found


def _feed_clocks(segments: dict[int, list[Segment]], now: datetime) -> dict[int, FeedClock]:
    """Return feed id → its head at `now`, and the rate of its newest segment."""
    now_us = int(now.timestamp() * 1e6)
    return {
        feed: FeedClock(max(head_at(of_feed, now_us), 0), of_feed[-1].rate)
        for feed, of_feed in segments.items()
    }


def _handoffs_by_portfolio(active_rows: list[Any]) -> dict[int, HandoffView]:
    return {row.portfolio_id: _handoff_view(row) for row in active_rows}


def _handoff_view(row: Any) -> HandoffView:
    return HandoffView(**same_named(HandoffView, row))


def _freeze_view(clock: Any) -> FreezeView | None:
    if clock.frozen_at is None:
        return None
    return FreezeView(clock.frozen_at, clock.frozen_by, clock.frozen_reason, clock.freeze_failover)


def _storm_view(clock: Any) -> StormView | None:
    if clock.held_at is None:
        return None
    return StormView(
        **same_named(StormView, clock), at=clock.held_at, by=clock.held_by, reason=clock.held_reason
    )


def _alert_views(cursor: psycopg.Cursor[Any]) -> list[AlertView]:
    """Return the open alerts, including that of a full disk, whose row may not be writable."""
    alerts = [AlertView(*row) for row in cursor.execute(ALERTS).fetchall()]
    since = DISK_SPACE.since
    if since is not None and not any(alert.kind == "disk_full" for alert in alerts):
        alerts.append(AlertView(0, "disk_full", None, None, DISK_SPACE.reason, 1, since))
    return alerts
