"""Views of portfolios, from their rows and the other rows of the same snapshot.

A state is decoded again only when its seq has changed. Sparklines are read every ten seconds, the
interval of equity points.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg

from scheduling.observe.fleet_view.statements import SPARKLINES, STATES
from scheduling.observe.fleet_view.types import HandoffView, PortfolioView
from scheduling.observe.stored_state import UNKNOWN_ACCOUNT, stored_state
from scheduling.timing import Timing

SPARKLINE_POINTS = 40
SPARKLINE_INTERVAL_S = 10.0

#: Portfolio id → (seq of its stored state, account, the strategy's part of the state).
_states: dict[int, tuple[int, Mapping[str, Any], Mapping[str, Any]]] = {}
#: (monotonic time of the read, portfolio id → its newest equity points)
_sparklines: tuple[float, dict[int, list[float]]] = (float("-inf"), {})


def decode_new_states(cursor: psycopg.Cursor[Any], rows: list[Any]) -> None:
    """Decode the states whose seq has changed since the last read of this process."""
    wanted = []
    for row in rows:
        decoded_seq, _, _ = _states.get(row.id, (None, UNKNOWN_ACCOUNT, {}))
        if row.checkpoint_seq not in (None, decoded_seq):
            wanted.append(row.id)
    if wanted:
        for row in cursor.execute(STATES, {"ids": wanted}).fetchall():
            _states[row.portfolio_id] = (row.seq, *stored_state(bytes(row.state)))


def forget_states_except(rows: list[Any]) -> None:
    """Drop the decoded states of portfolios without a row in `rows`: they have been deleted."""
    kept = {row.id for row in rows}
    for portfolio in list(_states):  # a copy: other threads read the fleet too
        if portfolio not in kept:
            _states.pop(portfolio, None)


def read_sparklines(cursor: psycopg.Cursor[Any]) -> dict[int, list[float]]:
    """Return portfolio id → its newest equity points. At most one read in ten seconds."""
    global _sparklines
    read_at, sparklines = _sparklines
    now = time.monotonic()
    if now - read_at >= SPARKLINE_INTERVAL_S:
        found = cursor.execute(SPARKLINES, {"most": SPARKLINE_POINTS}).fetchall()
        sparklines = {row.id: row.points or [] for row in found}
        _sparklines = (now, sparklines)
    return sparklines


@dataclass(frozen=True, slots=True)
class FeedClock:
    """The head of a feed at the time of the read, and its rate."""

    head: int
    rate: float  #: events a second; 0 for a recorded feed


@dataclass(frozen=True, slots=True)
class ViewContext:
    """What a view of a portfolio needs besides the portfolio's own row."""

    now: datetime
    times: Timing
    feeds: Mapping[int, FeedClock]  #: by the id of the feed
    nodes: Mapping[int, Any]  #: rows of NODES, by id
    suspects: set[int]  #: ids of nodes
    reports: Mapping[tuple[int, int, int], dict[str, Any]]  #: see `reports_by_epoch`
    handoffs: Mapping[int, HandoffView]  #: those under way, by the id of the portfolio
    sparklines: Mapping[int, list[float]]  #: by the id of the portfolio


def reports_by_epoch(node_rows: list[Any]) -> dict[tuple[int, int, int], dict[str, Any]]:
    """Return (node, portfolio, epoch) → what the node last reported of its process.

    A node may report any portfolio: a reader looks up the present owner and epoch only.
    """
    return {
        (row.id, entry["portfolio"], entry["epoch"]): entry
        for row in node_rows
        for entry in row.reported or []
        if entry.get("epoch")
    }


def portfolio_view(row: Any, context: ViewContext) -> PortfolioView:
    """Return the view of a row of PORTFOLIOS, whose state `decode_new_states` has decoded."""
    now, times = context.now, context.times
    feed = context.feeds.get(row.feed_id, FeedClock(0, 0.0))
    node, pinned = context.nodes.get(row.node_id), context.nodes.get(row.pinned_node_id)
    report = context.reports.get((row.node_id, row.id, row.epoch), {})
    _, account, state = _states.get(row.id, (0, UNKNOWN_ACCOUNT, {}))
    owned = row.node_id is not None
    # A node that is lost or has left runs nothing: its portfolios are shown as pending.
    is_gone = node is not None and node.status in ("lost", "left")
    gone_node = node if is_gone and row.phase in ("starting", "running", "draining") else None
    lag = max(feed.head - row.last_seq, 0) if owned else 0
    silent_s = (now - row.last_commit_at).total_seconds() if owned and row.last_commit_at else 0.0
    is_running = gone_node is None and row.phase == "running"
    stalled = is_running and lag > 0 and silent_s > times.stall_s
    until_good_s = None
    if row.rev_status == "unproven" and row.first_commit_at is not None:
        until_good_s = max(times.good_after_s - (now - row.first_commit_at).total_seconds(), 0.0)
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
        pinned_node=None if pinned is None else pinned.name,
        revision=row.revision,
        wanted_status=row.wanted_status,
        good_revision=row.good_revision,
        running_revision=row.running_revision if owned else None,
        rev_status=row.rev_status,
        rev_left_s=until_good_s,
        first_seq=row.first_seq,
        node=None if node is None else node.name,
        epoch=row.epoch,
        phase="pending" if gone_node else row.phase,
        phase_since=max(row.phase_since, gone_node.status_since) if gone_node else row.phase_since,
        last_seq=row.last_seq,
        state_seq=row.state_seq,
        last_commit_at=row.last_commit_at,
        python=row.python,
        accept_python=row.accept_python,
        lag_events=lag,
        stalled=stalled,
        stalled_s=silent_s if stalled else 0.0,
        pid=None if gone_node else report.get("pid"),
        attempts=row.attempts,
        orders_refused=row.orders_refused,
        orders_suppressed=row.orders_suppressed,
        unplaced_orders=row.unplaced_orders,
        behind_since=row.behind_since,
        suspect=row.node_id in context.suspects,
        feed=row.feed,
        feed_head=feed.head,
        feed_rate=feed.rate,
        reason=row.reason or (_gone_reason(gone_node) if gone_node else _rejection_reason(row)),
        why=row.why,
        account=account,
        starting_cash=row.starting_cash,
        state=state,
        spark=context.sparklines.get(row.id, []),
        handoff=context.handoffs.get(row.id),
    )


def counted_equity(portfolio: PortfolioView) -> Decimal:
    """Return the equity for the fleet's total: the starting cash while it is unknown. Pure."""
    equity = portfolio.account["equity"]
    return portfolio.starting_cash if equity is None else equity


def _rejection_reason(row: Any) -> str:
    """Return why the wanted revision does not run, or "" if it was not rejected."""
    if row.wanted_status != "rejected":
        return ""
    runs = f"; r{row.running_revision} runs" if row.node_id is not None else ""
    return f"r{row.revision} was rejected: {row.status_reason}{runs}"


def _gone_reason(node: Any) -> str:
    """Return why a portfolio whose owner has gone is shown as pending."""
    return f"{node.name} has left" if node.status == "left" else f"{node.name} is lost"
