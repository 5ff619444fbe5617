"""Count heartbeats that this gateway dropped since its last liveness write.

A process that gets too little of the processor or the database drops heartbeats. By their leases,
the nodes then fall silent one by one, and each failover costs still more of what is missing. So a
process records that it is overloaded: no lease is judged expired meanwhile (`serving_since`), as
after a restart.
"""

from __future__ import annotations

#: Share of the nodes whose heartbeats arrived. With less than ten nodes, one drop exceeds it.
MAX_DROPPED_SHARE = 0.1


class DropMonitor:
    """Ids of the nodes whose heartbeats were stored or dropped since the last liveness write."""

    def __init__(self) -> None:
        self.stored_nodes: set[int] = set()
        self.dropped_nodes: set[int] = set()

    def overload_reason(self) -> str:
        """Return why the silence of nodes since the last call proves nothing, or "".

        Then begin to count anew.
        """
        arrived = self.stored_nodes | self.dropped_nodes
        dropped = self.dropped_nodes - self.stored_nodes
        self.stored_nodes, self.dropped_nodes = set(), set()
        if len(dropped) > MAX_DROPPED_SHARE * len(arrived):
            return f"the heartbeats of {len(dropped)} of {len(arrived)} nodes were dropped"
        return ""
