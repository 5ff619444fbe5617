"""The node's own view of its lease: whether it may feed its portfolios."""

from __future__ import annotations

FENCE_AT = 0.8  #: share of the TTL after which a node without renewal stops feeding


class Lease:
    """A lease, measured on the boot-time clock from the moment the renewing heartbeat was sent.

    The fence provides safety; this only keeps a disconnected node from useless work.
    """

    def __init__(self) -> None:
        """Start without the right to feed; the first answer gives it."""
        self._fence_at_s = 0.0

    def renew(self, sent_at_s: float, ttl_s: float) -> None:
        """Extend the lease by the answer to a heartbeat that was sent at `sent_at_s`."""
        self._fence_at_s = max(self._fence_at_s, sent_at_s + FENCE_AT * ttl_s)

    def may_feed(self, now_s: float) -> bool:
        """Return whether portfolios may be fed at `now_s`."""
        return now_s < self._fence_at_s
