"""Derive the status of nodes from their leases; detect storms and flapping nodes.

Whether a node is lost is decided by one statement, `MARK_LOST` in `enact/lease/loss.py`: the sweep
has to judge the newest row, which only a locking statement sees.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from scheduling.decide.types import NodeStatus


@dataclass(frozen=True, slots=True)
class LeaseView:
    """The lease of one node. Times are epoch seconds of the database's clock."""

    expires_at: float | None  #: None: the node never registered
    marked_lost: bool = False
    left: bool = False  #: its daemon deregistered


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """Heartbeat timing, and the thresholds of storms and flapping."""

    interval_s: float  #: between two heartbeats
    ttl_s: float  #: of a lease, from its renewal
    storm_fraction: float  #: of the nodes alive one TTL ago
    flap_window_s: float = 600  #: two losses within this time are flapping
    flap_heartbeats: int = 3  #: least time of flapping after a return, in intervals


def status_of(lease: LeaseView, now: float, policy: LeasePolicy) -> NodeStatus:
    """Return the status of the node at `now`.

    A node is `suspect` if its lease has less time left than `ttl_s` minus two intervals: it missed
    two heartbeats, or the lease was shortened. A node whose lease has expired but that is not
    marked lost is suspect too: only the sweep marks nodes lost, and it marks none after an outage
    of the gateway.
    """
    if lease.left or lease.expires_at is None:
        return "left"
    if lease.marked_lost:
        return "lost"
    remaining_s = lease.expires_at - now
    return "suspect" if remaining_s < policy.ttl_s - 2 * policy.interval_s else "alive"


def is_storm(lost: Collection[str], alive_one_ttl_ago: Collection[str], fraction: float) -> bool:
    """Return whether so many nodes were lost within one TTL that failover should be held.

    A storm is the loss of at least two nodes, and of at least `fraction` of the nodes that were
    alive one TTL ago.
    """
    alive = set(alive_one_ttl_ago)
    gone = alive & set(lost)
    return len(gone) >= 2 and len(gone) >= fraction * len(alive)


@dataclass(frozen=True, slots=True)
class NodeHistory:
    """A node's status, since when it holds, and the node's latest losses."""

    name: str
    status: NodeStatus
    since: float  #: when it became alive, lost or left
    lost_at: tuple[float, ...] = ()  #: its most recent losses


@dataclass(frozen=True, slots=True)
class LossAssessment:
    """The nodes lost within one TTL, and whether that is a storm."""

    gone: tuple[str, ...] = ()  #: lost within one TTL
    late: tuple[str, ...] = ()  #: suspect while others are lost
    alive_before: int = 0  #: number of nodes that were alive one TTL ago
    storm: bool = False
    doubtful: bool = False  #: no storm yet, but one if the late nodes are lost too


def assess_losses(
    nodes: Sequence[NodeHistory], now: float, last_hold_ended: float | None, policy: LeasePolicy
) -> LossAssessment:
    """Return which nodes were lost within one TTL, and whether failover should be held.

    Losses before the last hold ended belonged to its storm and do not count again.
    Nodes that fail together are not marked lost at the same moment, since their heartbeats are
    spread over an interval. A late node beside lost ones therefore leaves the result doubtful
    until it sends a heartbeat or its lease ends.
    """
    one_ttl_ago = now - policy.ttl_s
    since = one_ttl_ago
    # After the clock was set back, the end may lie in the future; it must not hide new losses.
    if last_hold_ended is not None and last_hold_ended <= now:
        since = max(one_ttl_ago, last_hold_ended)
    gone = [n.name for n in nodes if n.status == "lost" and since < n.since <= now]
    late = [n.name for n in nodes if n.status == "suspect"] if gone else []
    alive_then = [n.name for n in nodes if _was_alive(n, one_ttl_ago, now)]
    held = is_storm(gone, alive_then, policy.storm_fraction)
    return LossAssessment(
        gone=tuple(gone),
        late=tuple(late),
        alive_before=len(alive_then),
        storm=held,
        doubtful=bool(late)
        and not held
        and is_storm([*gone, *late], alive_then, policy.storm_fraction),
    )


class NodeRow(Protocol):
    """What is read of a node and its lease. Times are epoch seconds of the database's clock."""

    @property
    def name(self) -> str: ...
    @property
    def status(self) -> str: ...  #: as stored; the lease may have expired since
    @property
    def status_since(self) -> float: ...
    @property
    def lost_times(self) -> Sequence[float]: ...
    @property
    def expires_at(self) -> float | None: ...


def status_now(node: NodeRow, now: float, policy: LeasePolicy) -> NodeStatus:
    """Return the status at `now` of the node of this row."""
    lease = LeaseView(
        expires_at=node.expires_at,
        marked_lost=node.status == "lost",
        left=node.status == "left",
    )
    return status_of(lease, now, policy)


def assess_losses_of_rows(
    nodes: Iterable[NodeRow], now: float, last_hold_ended: float | None, policy: LeasePolicy
) -> LossAssessment:
    """Return `assess_losses` of the nodes of these rows, each with its status at `now`."""
    present = [
        NodeHistory(n.name, status_now(n, now, policy), n.status_since, tuple(n.lost_times))
        for n in nodes
    ]
    return assess_losses(present, now, last_hold_ended, policy)


def _was_alive(node: NodeHistory, then: float, now: float) -> bool:
    """Return whether the node was alive at `then`, which lies before `now`.

    A node that is lost or left now was alive until it became so; one that is alive now may have
    been lost and have returned in between.
    """
    if node.status in ("lost", "left"):
        return then < node.since <= now
    return node.since <= then or any(then < at <= now for at in node.lost_at)


def flapping_until(
    lost_at: Sequence[float], alive_since: float, policy: LeasePolicy
) -> float | None:
    """Return until when a node that came back at `alive_since` is flapping, or None if it is not.

    After two losses within the window a node flaps for `flap_heartbeats` intervals; each further
    loss doubles this time.
    """
    losses = sum(alive_since - policy.flap_window_s < at <= alive_since for at in lost_at)
    if losses < 2:
        return None
    return alive_since + policy.flap_heartbeats * policy.interval_s * 2 ** (losses - 2)
