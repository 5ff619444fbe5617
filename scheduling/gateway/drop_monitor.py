"""Count heartbeats that this gateway dropped since its last liveness write.

A process that gets less of the database than its nodes need drops heartbeats. Seen from the leases,
that is a fleet falling silent node by node, and each failover asks for still more of what is
missing. While a process is overloaded, it therefore says so, and no lease is judged expired
(`serving_since`), as after a restart.
"""

from __future__ import annotations

#: Share of the nodes whose heartbeats arrived. In a small fleet, the drop of one exceeds it.
MAX_DROPPED_SHARE = 0.1


class DropMonitor:
    """Ids of the nodes whose heartbeats were stored or dropped since the last liveness write."""

    def __init__(self) -> None:
        self.stored: set[int] = set()
        self.dropped: set[int] = set()

    def overload_reason(self) -> str:
        """Return why the silence of nodes since the last call proves nothing, or ""."""
        arrived, dropped = self.stored | self.dropped, self.dropped - self.stored
        self.stored, self.dropped = set(), set()
        if len(dropped) > MAX_DROPPED_SHARE * len(arrived):
            return f"the heartbeats of {len(dropped)} of {len(arrived)} nodes were dropped"
        return ""
