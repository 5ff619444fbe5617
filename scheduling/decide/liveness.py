"""Is a node alive? Leases, and when they may be judged.

Nothing here marks a node: `lost` is written by the sweep, by compare-and-set, once `is_lost` says
so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from scheduling.decide.types import NodeStatus


@dataclass(frozen=True, slots=True)
class LeaseView:
    """The lease of one node. Times are epoch seconds of the database's clock."""

    expires_at: float | None  #: None: it never registered
    renewed_at: float | None = None  #: when its last beat was stored
    marked_lost: bool = False
    left: bool = False  #: its daemon said goodbye


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """Heartbeat figures."""

    interval_s: float = 10
    ttl_s: float = 30  #: three missed beats of 10 s
    storm_fraction: float = 0.5  #: of the nodes alive one TTL ago
    flap_window_s: float = 600  #: two losses in this time are flapping
    flap_heartbeats: int = 3  #: good beats before a flapping node counts again


def status_of(lease: LeaseView, now: float, policy: LeasePolicy) -> NodeStatus:
    """Return what to call the node now.

    `suspect` once two intervals went by without a beat, or its lease was shortened to less than
    what would then be left. An expired lease that nobody marked is suspect too: only the sweep
    makes it lost, and it may not after a silence of our own.
    """
    if lease.left or lease.expires_at is None:
        return "left"
    if lease.marked_lost:
        return "lost"
    remaining_s = lease.expires_at - now
    return "suspect" if remaining_s < policy.ttl_s - 2 * policy.interval_s else "alive"


def is_expired(lease: LeaseView, now: float) -> bool:
    """Return whether the lease ran out: at `expires_at` the node may act no longer."""
    return lease.expires_at is not None and not lease.left and now >= lease.expires_at


def judgeable(serving_since: float | None, lease: LeaseView, now: float, ttl_s: float) -> bool:
    """Return whether the lease may be judged expired.

    Only if nodes have been able to reach us for more than one TTL, or this one did since we serve
    and then stopped. A database, web process or host that was away must not cost anybody a lease.
    """
    if serving_since is None:
        return False
    if lease.renewed_at is not None and lease.renewed_at >= serving_since:
        return True
    return now - serving_since > ttl_s


def is_lost(lease: LeaseView, serving_since: float | None, now: float, policy: LeasePolicy) -> bool:
    """Return whether the sweep should mark this node lost now."""
    return is_expired(lease, now) and judgeable(serving_since, lease, now, policy.ttl_s)


def is_storm(lost: Collection[str], alive_one_ttl_ago: Collection[str], fraction: float) -> bool:
    """Return whether so many nodes went within one TTL that failover should be held.

    That is at least two, and at least `fraction` of those that were alive one TTL ago.
    """
    alive = set(alive_one_ttl_ago)
    gone = alive & set(lost)
    return len(gone) >= 2 and len(gone) >= fraction * len(alive)


@dataclass(frozen=True, slots=True)
class NodeHistory:
    """Since when a node is what it is."""

    name: str
    status: NodeStatus
    since: float  #: when it became alive, lost or left
    lost_at: tuple[float, ...] = ()  #: its newest losses


@dataclass(frozen=True, slots=True)
class LossAssessment:
    """Which nodes went within one TTL, and whether that is a storm."""

    gone: tuple[str, ...] = ()  #: lost within one TTL
    late: tuple[str, ...] = ()  #: suspect beside them
    of: int = 0  #: nodes that were alive one TTL ago
    storm: bool = False
    doubtful: bool = False  #: it would be one if the late ones went too


def assess_losses(
    nodes: Sequence[NodeHistory], now: float, after: float | None, policy: LeasePolicy
) -> LossAssessment:
    """Return whether so many nodes went within one TTL that failover should be held.

    Losses up to `after`, the end of the last hold, were part of that storm and make no further one.
    Nodes that went together are not marked in the same moment: their beats are spread over an
    interval. So one that is late while others are lost leaves it in doubt until it beats or its
    lease ends.
    """
    then = now - policy.ttl_s
    # A clock that was set back must not hide what happens until it has caught up.
    since = then if after is None or after > now else max(then, after)
    gone = [n.name for n in nodes if n.status == "lost" and since < n.since <= now]
    late = [n.name for n in nodes if n.status == "suspect"] if gone else []
    alive_then = [n.name for n in nodes if _was_alive(n, then, now)]
    held = is_storm(gone, alive_then, policy.storm_fraction)
    return LossAssessment(
        gone=tuple(gone),
        late=tuple(late),
        of=len(alive_then),
        storm=held,
        doubtful=bool(late)
        and not held
        and is_storm([*gone, *late], alive_then, policy.storm_fraction),
    )


def _was_alive(node: NodeHistory, then: float, now: float) -> bool:
    """Whether it was alive at `then`: it has been since, or what ended that came after."""
    if node.status in ("lost", "left"):
        return then < node.since <= now
    return node.since <= then or any(then < at <= now for at in node.lost_at)


def flapping_until(
    lost_at: Sequence[float], alive_since: float, policy: LeasePolicy
) -> float | None:
    """Return until when a node that came back at `alive_since` is passed over, or None if it is
    not.

    Two losses within the window cost three good beats, and each further one doubles that.
    """
    losses = sum(alive_since - policy.flap_window_s < at <= alive_since for at in lost_at)
    if losses < 2:
        return None
    return alive_since + policy.flap_heartbeats * policy.interval_s * 2 ** (losses - 2)
