"""Durations and limits of the control loop, as one value made from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduling.decide.liveness import LeasePolicy

if TYPE_CHECKING:
    from ginkgo_site.env import Environment


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations and limits of one installation; the defaults are those of the settings."""

    heartbeat_interval_s: float = 10.0
    lease_ttl_s: float = 30.0  #: three missed heartbeats
    socket_grace_s: float = 3.0  #: what remains of a lease when the node closes its websocket
    prepare_deadline_s: float = 30.0  #: for the target of a handoff to load
    drain_deadline_s: float = 5.0  #: for the source to make its last commit
    activate_deadline_s: float = 10.0  #: for the target to make its first commit
    good_after_s: float = 60.0  #: for which a revision must run before it is good
    stale_order_age_s: float = 5.0  #: decisions on older events are recorded, not ordered
    stall_s: float = 30.0  #: after which a portfolio without progress is stalled
    storm_fraction: float = 0.5  #: of the nodes alive one lease ago
    raises_epoch_floor: bool = False  #: automatically, if commits vanished

    @property
    def pulse_s(self) -> float:
        """Return the seconds between two pulses of a gateway."""
        return min(1.0, self.heartbeat_interval_s / 2)

    @property
    def pulse_gap_s(self) -> float:
        """Return the seconds without a pulse after which the silence of nodes proves nothing.

        A gateway that is late with its pulse is as late with heartbeats. The first leases that it
        does not renew expire one lease minus one heartbeat interval later, by default after 20 s:
        this limit is reached long before.
        """
        return min(3.0, 2 * self.heartbeat_interval_s)

    @property
    def lease_policy(self) -> LeasePolicy:
        """Return the limits by which leases are judged."""
        return LeasePolicy(
            interval_s=self.heartbeat_interval_s,
            ttl_s=self.lease_ttl_s,
            storm_fraction=self.storm_fraction,
        )


_cached: tuple[object, Timing] | None = None  #: the settings, and the timing made from them


def timing() -> Timing:
    """Return the timing of this installation. Cached, since every heartbeat asks for it."""
    global _cached
    from django.conf import settings

    env: Environment = settings.GINKGO
    if _cached is None or _cached[0] is not env:
        made = Timing(
            heartbeat_interval_s=env.heartbeat_interval_s,
            lease_ttl_s=env.lease_ttl_s,
            socket_grace_s=env.socket_grace_s,
            drain_deadline_s=env.drain_deadline_s,
            good_after_s=env.good_after_s,
            stale_order_age_s=env.stale_order_age_s,
            stall_s=env.stall_s,
            storm_fraction=env.storm_fraction,
            raises_epoch_floor=env.raise_epoch_floor == "auto",
        )
        _cached = env, made
    return _cached[1]
