"""Whether this process hears the beats that reach it, from one pulse to the next.

A process that gets less of the database than its nodes need drops beats. Seen from the leases that
is a fleet that falls silent, node after node, and each failover asks for still more of what is
missing. So while it is deaf it says so: nobody is judged by a silence that is ours
(`serving_since`), as after a restart.
"""

from __future__ import annotations

#: Of those that beat since the last pulse. In a small fleet that is any one of them.
MAX_DROPPED_SHARE = 0.1


class DropMonitor:
    """Notes nodes since the last pulse: whose beat was made durable, and whose was let go."""

    def __init__(self) -> None:
        self.heard: set[int] = set()
        self.dropped: set[int] = set()

    def overload_reason(self) -> str:
        """Return why what was heard since the last time proves nothing, or ""."""
        beaten, dropped = self.heard | self.dropped, self.dropped - self.heard
        self.heard, self.dropped = set(), set()
        if len(dropped) > MAX_DROPPED_SHARE * len(beaten):
            return f"the beats of {len(dropped)} of {len(beaten)} nodes were dropped"
        return ""
