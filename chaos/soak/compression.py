"""How days become minutes: which clocks run faster, and by how much."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.runner.topology import QUICK, Times

DAY_S = 86_400
#: In compressed days. Equity points go several times in a week, orders and fills stay for longer
#: than one, as they do in the product; what the audit log drops is dropped.
KEEP_ORDERS_DAYS, KEEP_EQUITY_DAYS, KEEP_AUDIT_DAYS = 14.0, 1.0, 1.0
SHORTEST_PASS_S = 30  #: real seconds between two passes: each starts a process


@dataclass(frozen=True)
class Compression:
    """`days` of trading in `minutes` of real time."""

    days: float
    minutes: float

    @property
    def factor(self) -> float:
        """Return how many times faster the days pass."""
        return self.days * DAY_S / (self.minutes * 60)

    def real_days(self, days: float) -> str:
        """Return compressed days as real ones, which is what the settings take."""
        return f"{max(days / self.factor, 0.0001):.6f}"

    def times(self) -> Times:
        """Return the times of the installation: those of chaos, and a retention that keeps pace."""
        return Times(
            lease_ttl_s=QUICK.lease_ttl_s,
            node_restart_s=QUICK.node_restart_s,
            environment={
                **QUICK.environment,
                "GINKGO_KEEP_ORDERS_DAYS": self.real_days(KEEP_ORDERS_DAYS),
                "GINKGO_KEEP_EQUITY_DAYS": self.real_days(KEEP_EQUITY_DAYS),
                "GINKGO_KEEP_AUDIT_DAYS": self.real_days(KEEP_AUDIT_DAYS),
                "GINKGO_RETENTION_INTERVAL_S": str(
                    max(round(3_600 / self.factor), SHORTEST_PASS_S)
                ),
            },
        )

    def day_at(self, elapsed_s: float) -> float:
        """Return which compressed day it is."""
        return elapsed_s * self.factor / DAY_S
