"""Is a node alive? Leases, and when they may be judged."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from scheduling.decide.world import NodeStatus


@dataclass(frozen=True, slots=True)
class LeaseView:
    """The lease of one node. Times are epoch seconds of the database's clock."""

    expires_at: float | None  #: None: never registered
    renewed_at: float | None = None  #: when the last beat was stored
    marked_lost: bool = False
    left: bool = False  #: its daemon said goodbye


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """Heartbeat figures."""

    interval_s: float = 10
    ttl_s: float = 30  #: three missed beats of 10 s
    storm_fraction: float = 0.5


def status_of(lease: LeaseView, now: float, policy: LeasePolicy) -> NodeStatus:
    """Return what to call the node now."""
    raise NotImplementedError


def judgeable(serving_since: float | None, lease: LeaseView, now: float, ttl_s: float) -> bool:
    """Return whether the lease may be judged expired."""
    raise NotImplementedError


def storm(lost: Collection[str], alive_one_ttl_ago: Collection[str], fraction: float) -> bool:
    """Return whether so many nodes went at once that failover should be held."""
    raise NotImplementedError
