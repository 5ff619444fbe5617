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
    socket_grace_s: float = 3.0
    prepare_deadline_s: float = 30.0
    drain_deadline_s: float = 5.0
    activate_deadline_s: float = 10.0
    good_after_s: float = 60.0
    stale_order_age_s: float = 5.0
    stall_s: float = 30.0
    storm_fraction: float = 0.5  #: of the nodes alive one lease ago
    raises_epoch_floor: bool = False  #: automatically, if commits vanished

    @property
    def pulse_s(self) -> float:
        """Return the seconds between two pulses of a gateway."""
        return min(1.0, self.heartbeat_interval_s / 2)

    @property
    def pulse_gap_s(self) -> float:
        """Return the seconds without a pulse after which the silence of nodes proves nothing.

        A gateway that is late with its pulse is as late with heartbeats, and leases that it did not
        renew begin to expire one heartbeat interval before a whole lease has passed. By default
        that is after 20 s: far later than this.
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


_made: tuple[object, Timing] | None = None


def timing() -> Timing:
    """Return the timing of this installation. Cached, since every heartbeat asks for it."""
    global _made
    from django.conf import settings

    env = settings.GINKGO
    if _made is None or _made[0] is not env:
        _made = env, _timing_of(env)
    return _made[1]


def _timing_of(env: Environment) -> Timing:
    return Timing(
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
