"""Simulated rows, with the columns that decisions depend on. Times are epoch seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass
class Node:
    id: int
    name: str
    capacity: int = 5
    labels: dict[str, str] = field(default_factory=dict)
    strategies: dict[str, int] = field(default_factory=dict)
    feeds: dict[str, str] = field(default_factory=dict)
    host: str = ""
    pid: int | None = None
    version: str = ""
    python: str = ""
    cordoned: bool = False
    draining: bool = False
    leaving: bool = False
    status: str = "new"
    status_since: float = 0.0
    lost_times: list[float] = field(default_factory=list)
    desired_version: int = 0
    registered_at: float | None = None
    registrations: int = 0


@dataclass
class Lease:
    node_id: int
    incarnation: UUID
    renewals: int
    renewed_at: float
    expires_at: float
    gateway_id: UUID | None
    connection: UUID | None
    taken_at: float
    takeovers: list[float]
    socket_gateway_id: UUID | None = None
    socket_lost_at: float | None = None
    socket_loss_pending: bool = False


@dataclass
class Portfolio:
    id: int
    name: str
    uid: str
    first_seq: int = 1
    revision: int = 1
    weight: int = 1
    priority: int = 0
    selector: dict[str, str] = field(default_factory=dict)
    spread_group: str = ""
    spread_hard: bool = False
    catch_up: str = "state_only"
    desired_state: str = "running"
    archived_at: float | None = None
    starting_cash: str = "100000"


@dataclass
class Revision:
    portfolio_id: int
    number: int
    status: str = "unproven"
    status_reason: str = ""
    strategy: str = "canary"
    strategy_version: int = 1
    config: dict[str, Any] = field(default_factory=dict)
    symbols: list[str] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    portfolio_id: int
    last_seq: int
    state_seq: int
    node_id: int | None = None
    incarnation: UUID | None = None
    epoch: int = 0
    revision: int = 1
    granted_at: float | None = None
    batch: UUID | None = None
    first_commit_at: float | None = None
    last_commit_at: float | None = None
    phase: str = "pending"
    phase_since: float = 0.0
    reason: str = "waits for the next pass"
    why: dict[str, Any] | None = None
    attempts: int = 0
    last_death: UUID | None = None
    failures_by_node: dict[str, int] = field(default_factory=dict)
    orders_refused: int = 0
    orders_suppressed: int = 0
    unplaced_orders: int = 0
    unplaced_since: float | None = None
    behind_since: float | None = None
    stalled_at: float | None = None
    good_revision: int | None = None
    pinned_node_id: int | None = None
    failed_seq: int | None = None
    resume_seq: int | None = None
    resumed_from: int | None = None
    python: str = ""
    accept_python: str = ""
    halt_id: int | None = None


@dataclass
class Tenure:
    portfolio_id: int
    epoch: int
    node_id: int
    incarnation: UUID
    revision: int
    from_seq: int
    cause: str
    reason: str
    handoff_id: int | None
    started_at: float
    to_seq: int | None = None
    first_commit_at: float | None = None
    ended_at: float | None = None
    pause_ms: float | None = None
    python: str = ""


@dataclass
class Handoff:
    id: int
    portfolio_id: int
    kind: str
    state: str
    reason: str
    why: dict[str, Any] | None
    requested_by: str
    source_node_id: int | None
    source_incarnation: UUID | None
    target_node_id: int | None
    target_incarnation: UUID | None
    from_epoch: int
    from_revision: int
    to_revision: int
    deadline_at: float
    requested_at: float
    to_epoch: int | None = None
    released_seq: int | None = None
    release_batch: UUID | None = None
    release_answer: str = ""
    error: str = ""
    pause_ms: float | None = None
    prepared_at: float | None = None
    released_at: float | None = None
    granted_at: float | None = None
    activated_at: float | None = None
    finished_at: float | None = None


@dataclass
class Checkpoint:
    portfolio_id: int
    epoch: int
    revision: int
    seq: int
    state: bytes


@dataclass
class Order:
    portfolio_id: int
    seq: int
    index: int
    status: str
    epoch: int
    node: str
    revision: int


@dataclass
class Suppression:
    portfolio_id: int
    from_seq: int
    to_seq: int
    epoch: int


@dataclass
class Event:
    at: float
    kind: str
    portfolio_id: int | None
    node_id: int | None
    actor: str
    reason: str
    data: dict[str, Any]


@dataclass
class Gateway:
    id: UUID
    serving_since: float
    pulsed_at: float
    left_at: float | None = None
    commits_stand_since: float | None = None
    commits_stood_at: float | None = None
    commits_passed_at: float | None = None


@dataclass
class PassLock:
    holder: str
    until: float
    failover_ran_at: float | None = None


@dataclass
class Storm:
    held_at: float | None = None
    until: float | None = None
    nodes: list[str] = field(default_factory=list)
    of_nodes: int = 0
    held_by: str = ""
    reason: str = ""
    ended_at: float | None = None


@dataclass
class RollOut:
    id: int
    artifact_sha256: str
    state: str
    at_a_time: int
    canary_s: float | None
    note: str
    requested_by: str
    created_at: float
    ended_at: float | None = None
    reason: str = ""
    why: dict[str, Any] | None = None


@dataclass
class RollOutItem:
    id: int
    roll_out_id: int
    portfolio_id: int
    position: int
    state: str
    since: float
    seen_revision: int
    from_revision: int | None = None
    to_revision: int | None = None
    pause_ms: float | None = None
    reason: str = ""
    why: dict[str, Any] | None = None
