"""Handmade fleet views for dashboard tests: six nodes, one in each condition, with portfolios."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from scheduling.observe.fleet_view.types import FleetView, HandoffView, NodeView, PortfolioView
from scheduling.observe.node_losses import MoveView, NodeLossView

NOW = datetime(2026, 3, 2, 14, 5, 12, tzinfo=UTC)
HEAD = 9_862_904


def ago(seconds: float) -> datetime:
    """Return the time `seconds` before NOW."""
    return NOW - timedelta(seconds=seconds)


def node(name: str, **given: Any) -> NodeView:
    """Return a healthy node with the given changes."""
    values: dict[str, Any] = {
        "id": int(name.rpartition("-")[2] or 1), "name": name, "status": "alive",
        "schedulable": True, "cordoned": False, "draining": False, "drain_reason": "",
        "drain_actor": "", "leaving": False, "capacity": 6, "labels": {}, "load": 0, "held": 0,
        "lease_left_s": 27.0, "lease_ttl_s": 30.0, "last_heartbeat_at": ago(3),
        "lease_expires_at": NOW + timedelta(seconds=27),
        "incarnation": "5f0c9a52-9be4-4e0e-8f4f-2f6f3a2d9b11", "host": "rack-1", "pid": 4100,
        "version": "0.1.0", "python": "3.11", "metrics": {"cpu_pct": 23.0, "mem_pct": 41.0},
        "status_since": ago(5000), "portfolios": [],
    }  # fmt: skip
    return NodeView(**{**values, **given})


def spark(seed: int) -> list[float]:
    """Return a deterministic equity curve."""
    return [100_000 + 400 * math.sin(seed + i / 5) + 90 * math.sin(seed * i) for i in range(40)]


POSITIONS = [
    {"symbol": "XOM", "quantity": "150.0000", "average_price": "67.7462", "price": "68.0210",
     "unrealised": "41.2000"},
    {"symbol": "SLB", "quantity": "-80.0000", "average_price": "62.1650", "price": "62.4410",
     "unrealised": "-22.0800"},
]  # fmt: skip


def portfolio(name: str, on: str | None, **given: Any) -> PortfolioView:
    """Return a trader that runs on node `on` without problems, with the given changes."""
    number = sum(map(ord, name))
    pnl = given.pop("pnl", Decimal("1284.10"))
    values: dict[str, Any] = {
        "id": number, "name": name, "strategy": "sma_cross", "strategy_version": 1,
        "config": {"fast": 10, "slow": 40}, "symbols": ["XOM", "CVX"],
        "limits": {"largest_position": "300"}, "weight": 1, "priority": 0, "selector": {},
        "spread_group": "", "spread_hard": False, "catch_up": "state_only", "python": "3.11",
        "accept_python": "", "desired_state": "running", "pinned_node": None, "revision": 3,
        "good_revision": 3, "running_revision": 3, "wanted_status": "good", "rev_status": "good",
        "rev_left_s": None, "first_seq": 1_204_511, "node": on, "epoch": 9, "phase": "running",
        "phase_since": ago(1400), "last_seq": HEAD - 14, "state_seq": HEAD - 14,
        "last_commit_at": ago(0.2), "lag_events": 14, "stalled": False, "stalled_s": 0.0,
        "pid": 21_877, "attempts": 0, "reason": "", "why": None,
        "account": {"cash": Decimal("98000.00"), "equity": Decimal("100000") + pnl, "pnl": pnl,
                    "positions": POSITIONS},
        "starting_cash": Decimal("100000"), "state": {}, "spark": spark(number), "handoff": None,
    }  # fmt: skip
    return PortfolioView(**{**values, **given})


def canary(name: str, on: str | None, **given: Any) -> PortfolioView:
    """Return a canary that has processed every event exactly once."""
    state = {"events": 8_658_329, "gaps": 0, "duplicates": 0, "digest": "9f3c"}
    values: dict[str, Any] = {"strategy": "canary", "state": state, "spark": [], "revision": 1}
    return portfolio(
        name, on, pnl=Decimal(0), running_revision=1, good_revision=1, **{**values, **given}
    )


def handoff(number: int, name: str, **given: Any) -> HandoffView:
    """Return a migrate handoff that has just been requested, with the given changes."""
    values: dict[str, Any] = {
        "id": number, "portfolio": name, "kind": "migrate", "state": "preparing", "reason": "",
        "why": None, "requested_by": "", "source_node": "node-4", "target_node": "node-1",
        "from_epoch": 9, "to_epoch": None, "from_revision": 3, "to_revision": 3,
        "released_seq": None, "error": "", "pause_ms": None, "catchup_ms": None,
        "requested_at": ago(0.6), "prepared_at": None, "released_at": None, "granted_at": None,
        "activated_at": None, "finished_at": None, "deadline_at": ago(0.6) + timedelta(seconds=30),
    }  # fmt: skip
    return HandoffView(**{**values, **given})


def ended_handoff(number: int, name: str, seconds_ago: float, **given: Any) -> HandoffView:
    """Return a migrate handoff that was done `seconds_ago`, with the given changes."""
    end = ago(seconds_ago)
    values: dict[str, Any] = {
        "state": "done", "requested_at": end - timedelta(seconds=0.5),
        "prepared_at": end - timedelta(seconds=0.1), "released_at": end - timedelta(seconds=0.02),
        "granted_at": end - timedelta(seconds=0.018), "activated_at": end, "finished_at": end,
        "to_epoch": 10, "pause_ms": 18.0,
    }  # fmt: skip
    return handoff(number, name, **{**values, **given})


#: The data of `31 s without a heartbeat, limit 30 s`.
LOST: dict[str, Any] = {
    "cause": "silent", "at": None, "silent_s": 31.0, "unheard_s": None, "limit_s": 30.0,
    "grace_s": 3.0, "portfolios": 3,
}  # fmt: skip


def loss(node_name: str, seconds_ago: float, **given: Any) -> NodeLossView:
    """Return a loss that lasts, of a node that ran three portfolios, with the given changes."""
    values: dict[str, Any] = {
        "node": node_name, "node_id": int(node_name.rpartition("-")[2]), "at": ago(seconds_ago),
        "is_over": False, "reason": "31 s without a heartbeat, limit 30 s",
        "why": {"code": "lost", "params": LOST}, "portfolios": 3, "moved": 0, "moving": 0,
        "moved_at": None, "slowest_ms": None, "targets": [], "moves": [],
    }  # fmt: skip
    return NodeLossView(**{**values, **given})


def fleet_view(nodes: list[NodeView], portfolios: list[PortfolioView], **given: Any) -> FleetView:
    """Return the fleet view; its active handoffs are those of the portfolios."""
    values: dict[str, Any] = {
        "at": NOW, "head": HEAD, "rate": 100.0, "nodes": nodes, "portfolios": portfolios,
        "handoffs_active": [p.handoff for p in portfolios if p.handoff], "handoffs_recent": [],
        "pause_p50_ms": None, "pause_p99_ms": None, "frozen": None,
        "total_equity": sum((p.account["equity"] or Decimal(0) for p in portfolios), Decimal(0)),
        "total_starting": sum((p.starting_cash for p in portfolios), Decimal(0)),
    }  # fmt: skip
    return FleetView(**{**values, **given})


def busy_fleet() -> FleetView:
    """Return a fleet with one example of every state and problem."""
    drain_why = "drain of node-4: kernel update"
    draining = handoff(
        4182, "energy-revert", state="draining", requested_by="mira", reason=drain_why,
        requested_at=ago(1.712), prepared_at=ago(1.3), deadline_at=ago(1.3) + timedelta(seconds=5),
    )  # fmt: skip
    preparing = handoff(
        4183, "canary-4", target_node="node-3", requested_by="mira", reason=drain_why
    )
    reload = handoff(
        4184, "xom-sma", kind="reload", state="activating", source_node="node-3",
        target_node="node-3", from_revision=3, to_revision=4, requested_by="jun",
        reason="slow 50 → 40", requested_at=ago(0.496), prepared_at=ago(0.108),
        released_at=ago(0.102), granted_at=ago(0.1), deadline_at=ago(0.1) + timedelta(seconds=10),
    )  # fmt: skip
    nodes = [
        node("node-1", capacity=8, labels={"zone": "a"}),
        node("node-2", labels={"zone": "a"}, lease_left_s=24.0),
        node(
            "node-3", labels={"zone": "b"}, status="suspect", schedulable=False, lease_left_s=11.0,
            last_heartbeat_at=ago(19), reason="19 s without a heartbeat, limit 30 s",
            why={"code": "suspect", "params": {"closed_at": None, "silent_s": 19, "limit_s": 30.0}},
        ),
        node("node-4", labels={"zone": "b"}, draining=True, schedulable=False, drain_actor="mira",
             drain_reason="kernel update", lease_left_s=29.0),
        node("node-5", labels={"zone": "c"}, status="lost", schedulable=False, lease_left_s=0.0,
             last_heartbeat_at=ago(154), status_since=ago(123),
             reason="31 s without a heartbeat, limit 30 s", why={"code": "lost", "params": LOST}),
        node("node-6", capacity=8, labels={"zone": "c"}, cordoned=True, schedulable=False,
             lease_left_s=21.0),
    ]  # fmt: skip
    portfolios = [
        canary("canary-1", "node-1"),
        portfolio("aapl-sma", "node-1", pinned_node="node-1", revision=12, running_revision=12),
        portfolio("tech-hold", "node-1", strategy="buy_and_hold", pnl=Decimal("6120.55")),
        portfolio("bank-revert", "node-1", strategy="mean_reversion", pnl=Decimal("-842.37")),
        canary("canary-2", "node-2"),
        portfolio("msft-sma", "node-2", pnl=Decimal("2310.72")),
        portfolio("retail-hold", "node-2", weight=2, strategy="buy_and_hold"),
        portfolio("ibm-sma", "node-2", pnl=Decimal("-118.04")),
        canary("canary-3", "node-3"),
        portfolio("pharma-revert", "node-3", strategy="mean_reversion", revision=7,
                  running_revision=7, rev_status="unproven", rev_left_s=22.0),
        portfolio("xom-sma", "node-3", phase="starting", revision=4, running_revision=4,
                  handoff=reload),
        portfolio("energy-revert", "node-4", strategy="mean_reversion", phase="draining",
                  revision=12, running_revision=12, handoff=draining),
        canary("canary-4", "node-4", handoff=preparing),
        portfolio("semis-hold", "node-4", strategy="buy_and_hold"),
        canary("canary-6", "node-6"),
        canary("canary-5", "node-6", state={"events": 8_658_331, "gaps": 1, "duplicates": 0}),
        portfolio("oil-sma", "node-6", pnl=Decimal("-1377.20")),
        portfolio("ge-sma", "node-6", stalled=True, stalled_s=42.0, lag_events=4211,
                  pnl=Decimal("410.05")),
        portfolio(
            "gpu-arb", None, phase="pending", epoch=0,
            reason="needs gpu=yes: 0 of 6 nodes have it; add the label to one node or drop the "
            "selector.",
        ),
        portfolio(
            "rates-revert", None, phase="halted",
            reason="stopped before seq 9,801,337: the next events are older than 5 s and catch_up "
            "is halt; start resumes there.",
        ),
        portfolio(
            "vol-revert", None, phase="quarantined", attempts=5,
            reason="5 attempts ended at seq 9,790,118: KeyError VIX in mean_reversion 4; reload a "
            "revision that handles it.",
        ),
        portfolio("old-sma", None, phase="stopped", desired_state="stopped"),
        portfolio("older-sma", None, phase="stopped", desired_state="stopped"),
    ]  # fmt: skip
    lost = {"kind": "failover", "source_node": "node-5", "reason": "node-5 lost after 31 s"}
    recent = [
        ended_handoff(4181, "ibm-sma", 5, target_node="node-2", pause_ms=16.0,
                      reason="drain of node-4"),
        ended_handoff(4180, "aapl-sma", 41, requested_by="mira", reason="next to its data"),
        ended_handoff(4179, "bank-revert", 119.9, pause_ms=33_100.0, **lost),
        ended_handoff(4178, "canary-5", 120, target_node="node-6", pause_ms=33_000.0, **lost),
        ended_handoff(4177, "oil-sma", 120.2, target_node="node-6", pause_ms=32_800.0, **lost),
        ended_handoff(
            4176, "msft-sma", 182, kind="reload", state="rolled_back", source_node="node-2",
            target_node="node-2", from_revision=4, to_revision=5, pause_ms=61.0,
            error="r5 rejected: exited at seq 9,844,611, fast must be less than slow. r4 runs.",
        ),
        ended_handoff(4175, "tech-hold", 405, state="failed", source_node="node-1",
                      target_node="node-6", prepared_at=None, released_at=None, granted_at=None,
                      activated_at=None, pause_ms=None,
                      error="node-6 could not prepare in 30 s. It never stopped on node-1."),
        ended_handoff(4174, "retail-hold", 812, kind="place", source_node=None,
                      target_node="node-2"),
    ]  # fmt: skip
    moves = [
        MoveView("bank-revert", "node-1", 33_100.0),
        MoveView("canary-5", "node-6", 33_000.0),
        MoveView("oil-sma", "node-6", 32_800.0),
    ]
    lost_node = loss(
        "node-5", 123, moved=3, moved_at=ago(119.9), slowest_ms=33_100.0,
        targets=["node-1", "node-6"], moves=moves,
    )  # fmt: skip
    return fleet_view(
        nodes, portfolios, handoffs_recent=recent, losses=[lost_node],
        handoffs_single=[h for h in recent if h.kind != "failover"],
        pause_p50_ms=18.0, pause_p99_ms=74.0,
    )  # fmt: skip


def quiet_fleet() -> FleetView:
    """Return a fleet of three nodes without problems."""
    nodes = [node(f"node-{i}", capacity=5) for i in (1, 2, 3)]
    portfolios = [canary(f"canary-{i}", f"node-{i}") for i in (1, 2, 3)]
    portfolios += [portfolio(f"trader-{i}", f"node-{1 + i % 3}") for i in range(6)]
    return fleet_view(nodes, portfolios)
