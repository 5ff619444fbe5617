"""The fleet as the dashboard, `cluster_status` and API lists show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from scheduling.observe.halts import HaltView
from scheduling.observe.node_losses import NodeLossView


@dataclass(frozen=True, slots=True)
class HandoffView:
    """A handoff. The time of a step that it has not reached, or does not have, is None."""

    id: int
    portfolio: str
    kind: str
    state: str
    reason: str
    why: dict[str, Any] | None  #: the data of `reason`
    requested_by: str  #: the actor
    source_node: str | None
    target_node: str | None
    from_epoch: int
    to_epoch: int | None
    from_revision: int
    to_revision: int
    released_seq: int | None
    error: str  #: why it failed, was rolled back or superseded; empty: none of these
    pause_ms: float | None  #: between the last commit of the old owner and the first of the new one
    catchup_ms: float | None  #: from the activation until the lag was at most one batch
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
    homeless: int  #: portfolios that no node would take
    waiting: int  #: portfolios that would only have to wait
    suspects: list[str]  #: suspect nodes whose places it uses

    @property
    def absorbed(self) -> bool:
        """Return whether all portfolios would be placed at once."""
        return not (self.homeless or self.waiting)


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node with its lease, its load and its last report."""

    id: int
    name: str
    status: str  #: alive, suspect, lost, left
    schedulable: bool  #: neither away nor closed to new portfolios by an operator or its daemon
    cordoned: bool
    draining: bool
    drain_reason: str
    drain_actor: str
    leaving: bool  #: its daemon is shutting down
    capacity: int
    labels: dict[str, str]
    load: int  #: total weight of its portfolios
    held: int  #: total weight of the portfolios that handoffs bring to it
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
    """A portfolio: what is wanted, what runs, and its account."""

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
    accept_python: str  #: another minor version on which operators let it run; empty: none
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
    spark: list[float]  #: newest equity points, oldest first
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
    """A freeze of automatic moves."""

    at: datetime
    by: str
    reason: str
    failover: bool  #: failover is frozen too


@dataclass(frozen=True, slots=True)
class StormView:
    """The hold of failover, after a storm or by an operator."""

    at: datetime
    until: datetime | None  #: None: until an operator releases it
    by: str
    reason: str
    nodes: list[str]  #: lost in the storm; empty for a manual hold
    of_nodes: int  #: how many nodes were alive one lease earlier; 0 for a manual hold


@dataclass(frozen=True, slots=True)
class AlertView:
    """An open alert."""

    id: int
    kind: str
    portfolio: str | None
    node: str | None
    reason: str
    times: int  #: how often it was opened: again if its cause returns within ten minutes
    opened_at: datetime
    why: dict[str, Any] | None = None  #: the data of `reason`
    acknowledged_by: str = ""  #: empty: nobody has


@dataclass(frozen=True, slots=True)
class FleetView:
    """The whole fleet as of one snapshot."""

    at: datetime
    head: int  #: of the first feed, the packaged bars
    rate: float  #: of that feed, in events a second
    nodes: list[NodeView]
    portfolios: list[PortfolioView]
    handoffs_active: list[HandoffView]
    handoffs_recent: list[HandoffView]  #: the newest that ended
    pause_p50_ms: float | None
    pause_p99_ms: float | None
    frozen: FreezeView | None
    total_equity: Decimal
    total_starting: Decimal
    storm: StormView | None = None
    alerts: list[AlertView] = field(default_factory=list)
    losses: list[NodeLossView] = field(default_factory=list)
    halts: list[HaltView] = field(default_factory=list)  #: that keep a portfolio stopped
    #: The same without the failovers that `losses` counts.
    handoffs_single: list[HandoffView] = field(default_factory=list)
    by_name: dict[str, PortfolioView] = field(default_factory=dict, repr=False)
