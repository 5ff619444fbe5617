"""Compression of days into minutes: the settings that run faster, and by how much."""

from __future__ import annotations

from dataclasses import dataclass

from chaos.runner.topology import SHORT_TIMES, Times

DAY_S = 86_400
#: Retention in compressed days, so that every kind of record is deleted several times in a week.
#: Orders and fills, which the product keeps for years, would only grow, and with their partitions
#: the files that each PostgreSQL backend holds open.
KEEP_ORDERS_DAYS, KEEP_EQUITY_DAYS, KEEP_AUDIT_DAYS = 2.0, 1.0, 1.0
SHORTEST_INTERVAL_S = 30  #: real seconds between two retention runs, each of which starts a process


@dataclass(frozen=True)
class Compression:
    """`days` of trading in `minutes` of real time."""

    days: float
    minutes: float

    @property
    def factor(self) -> float:
        """Compressed days per real day."""
        return self.days * DAY_S / (self.minutes * 60)

    def real_days(self, compressed_days: float) -> str:
        """Return how many real days they take, as the text of a setting, which may not be 0."""
        return f"{max(compressed_days / self.factor, 0.0001):.6f}"

    def times(self) -> Times:
        """Return chaos's short time limits, with the retention compressed."""
        return Times(
            lease_ttl_s=SHORT_TIMES.lease_ttl_s,
            node_restart_s=SHORT_TIMES.node_restart_s,
            environment={
                **SHORT_TIMES.environment,
                "GINKGO_KEEP_ORDERS_DAYS": self.real_days(KEEP_ORDERS_DAYS),
                "GINKGO_KEEP_EQUITY_DAYS": self.real_days(KEEP_EQUITY_DAYS),
                "GINKGO_KEEP_AUDIT_DAYS": self.real_days(KEEP_AUDIT_DAYS),
                "GINKGO_RETENTION_INTERVAL_S": str(
                    max(round(3_600 / self.factor), SHORTEST_INTERVAL_S)
                ),
            },
        )

    def day_at(self, elapsed_s: float) -> float:
        """Return the compressed day after `elapsed_s`."""
        return elapsed_s * self.factor / DAY_S
