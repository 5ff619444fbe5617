"""How days become minutes: which clocks run faster, and by how much."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.grounds import QUICK, Times

DAY_S = 86_400
#: In compressed days: long enough that a partition fills, short enough that several go.
KEEP_DAYS = 1.0
#: Real seconds between two passes of the retention: the queue's schedule is not finer.
SHORTEST_PASS_S = 5


@dataclass(frozen=True)
class Compression:
    """`days` of trading in `minutes` of real time."""

    days: float
    minutes: float

    @property
    def factor(self) -> float:
        """Return how many times faster the days pass."""
        return self.days * DAY_S / (self.minutes * 60)

    @property
    def keep_days(self) -> float:
        """Return KEEP_DAYS as real days, which is what the settings take."""
        return KEEP_DAYS / self.factor

    def times(self) -> Times:
        """Return the times of the installation: those of chaos, and a retention that keeps pace."""
        return Times(
            lease_ttl_s=QUICK.lease_ttl_s,
            node_restart_s=QUICK.node_restart_s,
            environment={
                **QUICK.environment,
                "GINKGO_KEEP_ORDERS_DAYS": f"{max(self.keep_days, 0.0001):.6f}",
                "GINKGO_KEEP_EQUITY_DAYS": f"{max(self.keep_days, 0.0001):.6f}",
                "GINKGO_KEEP_AUDIT_DAYS": f"{max(self.keep_days, 0.0001):.6f}",
                "GINKGO_RETENTION_INTERVAL_S": str(
                    max(round(3_600 / self.factor), SHORTEST_PASS_S)
                ),
            },
        )

    def day_at(self, elapsed_s: float) -> float:
        """Return which compressed day it is."""
        return elapsed_s * self.factor / DAY_S
